// Files: two members and a stranger, ranges, ends, and everything that somebody may try to slip in.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { MESSENGER, register } from '../accounts.mjs';
import { launch, watched } from '../browser.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { begin, download, png, upload } from '../files.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const CONFIG = `
[files]
keep_free = 0
${MESSENGER}
[[apps.demo.files]]
channels = "room:images-*"
types = ["image/*"]
[[apps.demo.files]]
channels = "room:small-*"
size = 1000
per_day = "2kB"
[[apps.demo.files]]
channels = "chat:*"
size = "3GB"
[[apps.demo.files]]
channels = "room:*"
size = "30MB"
`;

let server, open = [];
before(async () => (server = await Server.start({ config: CONFIG })));
after(() => server?.stop());
afterEach(() => open.splice(0).forEach((client) => client.close()));

/** A room of ann and bob, and eve, who is not in it. */
async function room(kind = 'room') {
  const [ann, bob, eve] = await Promise.all(['Ann', 'Bob', 'Eve'].map((name) => register(server, name)));
  const a = await Client.open(server, { identity: { token: ann.token } });
  open.push(a);
  const channel = freshChannel(kind);
  await a.call('members', { channel, add: [bob.user] });
  return { ann, bob, eve, a, channel };
}

/** Contents that the server keeps, unfinished ones included. */
function kept(of = server) {
  const count = (folder) => readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => sum + (entry.isDirectory() ? count(join(folder, entry.name)) : 1), 0);
  const folder = join(of.folder, 'data/files');
  return existsSync(folder) ? count(folder) : 0;
}

const code = ({ body }) => body.error?.code;

describe('a file', () => {
  test('goes to members by a message, in whole or in part, and a stranger learns nothing of it', async () => {
    const { ann, bob, eve, a, channel } = await room();
    const bytes = Buffer.from('0123456789');
    const { status, body } = await upload(server, { channel, token: ann.token, name: 'digits.txt', type: 'text/plain', body: bytes });
    assert.equal(status, 201);
    const { file } = body;
    assert.deepEqual([file.name, file.type, file.size, file.user, file.channel], ['digits.txt', 'text/plain', 10, ann.user, channel]);

    const b = await Client.open(server, { identity: { token: bob.token } });
    open.push(b);
    await b.subscribe(channel);
    await a.publish(channel, { text: 'look', file });
    const { url } = (await b.push('message')).data.file;

    const whole = await download(server, url, { token: bob.token });
    assert.deepEqual([whole.status, whole.bytes], [200, bytes]);
    assert.match(whole.headers.get('content-disposition'), /^attachment; filename="digits.txt"/);
    assert.deepEqual(['x-content-type-options', 'content-security-policy', 'accept-ranges'].map((name) => whole.headers.get(name)), [
      'nosniff', "default-src 'none'; sandbox", 'bytes',
    ]);
    for (const [range, expected, told] of [['bytes=2-4', '234', 'bytes 2-4/10'], ['bytes=-3', '789', 'bytes 7-9/10'], ['bytes=8-', '89', 'bytes 8-9/10']]) {
      const part = await download(server, url, { token: bob.token, headers: { range } });
      assert.deepEqual([part.status, part.bytes.toString(), part.headers.get('content-range')], [206, expected, told]);
    }
    const beyond = await download(server, url, { token: bob.token, headers: { range: 'bytes=10-' } });
    assert.deepEqual([beyond.status, beyond.headers.get('content-range')], [416, 'bytes */10']);
    const known = await download(server, url, { token: bob.token, headers: { 'if-none-match': whole.headers.get('etag') } });
    assert.deepEqual([known.status, known.bytes.length], [304, 0]);
    const head = await download(server, url, { token: bob.token, method: 'HEAD' });
    assert.deepEqual([head.status, head.headers.get('content-length'), head.bytes.length], [200, '10', 0]);

    const missing = `/api/v1/files/${'0'.repeat(26)}`;
    const answers = await Promise.all([url, `${url}/info`, `${url}/thumbnail`, missing].map((path) => download(server, path, { token: eve.token })));
    for (const answer of answers) assert.deepEqual([answer.status, JSON.parse(answer.bytes).error.code], [404, 'not_found']);
    assert.equal((await download(server, url)).status, 401);
    assert.equal(code(await upload(server, { channel, token: eve.token, body: 'x' })), 'forbidden');
    assert.equal((await download(server, url, { token: eve.token, method: 'DELETE' })).status, 404);
    assert.equal((await download(server, url, { token: bob.token, method: 'DELETE' })).status, 403);
    assert.equal((await download(server, url, { token: ann.token, method: 'DELETE' })).status, 200);
    assert.equal((await download(server, url, { token: ann.token })).status, 404);
  });

  test('of a form is as good, and a ticket shows it in a page', async () => {
    const { ann, bob, eve, channel } = await room();
    const form = new FormData();
    form.set('caption', 'not this one');
    form.set('file', new File([png(400, 200)], 'a.png', { type: 'image/png' }));
    const { status, body } = await upload(server, { channel, token: ann.token, body: form });
    assert.equal(status, 201, JSON.stringify(body));
    const { file } = body;
    assert.deepEqual([file.name, file.type, file.width, file.height, file.thumbnail.width, file.thumbnail.height], ['a.png', 'image/png', 400, 200, 320, 160]);
    const ask = (token) => fetch(`${server.url}/api/v1/channels/${channel}/files/ticket`, { method: 'POST', headers: { authorization: `Bearer ${token}` } });
    assert.equal((await ask(eve.token)).status, 403);
    const { ticket } = await (await ask(bob.token)).json();
    const image = await download(server, `${file.url}?ticket=${ticket}`);
    assert.deepEqual([image.status, image.headers.get('content-type')], [200, 'image/png']);
    assert.match(image.headers.get('content-disposition'), /^inline/);
    assert.equal((await download(server, `${file.url}?ticket=${ticket.slice(0, -2)}AA`)).status, 401);
    const elsewhere = await room();
    const other = await upload(server, { channel: elsewhere.channel, token: elsewhere.ann.token, body: 'other' });
    assert.equal((await download(server, `${other.body.file.url}?ticket=${ticket}`)).status, 404);
  });

  test('of one who is erased goes along', async () => {
    const { ann, bob, channel } = await room();
    const { body } = await upload(server, { channel, token: ann.token, body: 'of ann' });
    const gone = await fetch(`${server.url}/api/v1/me`, { method: 'DELETE', headers: { authorization: `Bearer ${ann.token}` } });
    assert.equal(gone.status, 200);
    await until(async () => (await download(server, body.file.url, { token: bob.token })).status === 404, 'erased', 30_000);
  });
});

describe('what is refused', () => {
  test('pages, drawings that run, and what pretends to be an image', async () => {
    const { ann, a } = await room();
    const channel = freshChannel('room:images-');
    await a.call('members', { channel, add: [ann.user] });
    const svg = '<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"><script>alert(1)</script></svg>';
    for (const [body, type] of [
      [svg, 'image/svg+xml'], [svg, 'image/png'], [`<?xml version="1.0"?>${svg}`, 'image/png'],
      ['<!doctype html><script>alert(1)</script>', 'image/png'], [`\ufeff  <HTML>`, 'image/gif'], ['alert(1)', 'image/jpeg'],
      ['%PDF-1.7', 'image/png'], [Buffer.from([0, 1, 2, 3]), 'image/webp'], ['', 'image/png'],
    ]) {
      const got = await upload(server, { channel, token: ann.token, type, body, name: 'a.png' });
      assert.deepEqual([got.status, code(got)], [415, 'bad_file_type'], String(body).slice(0, 40));
    }
    const damaged = png(30, 30).subarray(0, 60);
    const bomb = png(2, 2, { declared: [60_000, 60_000] });
    const before = server.rss();
    for (const body of [damaged, bomb, 'GIF89a<script>alert(1)</script>', Buffer.concat([Buffer.from([0xff, 0xd8, 0xff, 0xe0]), Buffer.from('<script>alert(1)</script>')])]) {
      const got = await upload(server, { channel, token: ann.token, body });
      assert.deepEqual([got.status, code(got)], [422, 'bad_image']);
    }
    assert.ok(server.rss() - before < 100e6, 'a bomb takes no memory');
  });

  test('an image whose decoder is killed, which costs the server nothing', async () => {
    const { ann, bob, channel } = await room();
    const tasks = `/proc/${server.pid}/task`;
    // A thread may have ended meanwhile.
    const children = (task) => (existsSync(`${tasks}/${task}/children`) ? readFileSync(`${tasks}/${task}/children`, 'utf8').split(' ').filter(Boolean) : []);
    const decoders = () => readdirSync(tasks).flatMap(children);
    assert.deepEqual(decoders(), []);
    const body = png(6_000, 6_000);
    // As a panic ends it, the bound of its computing time, and a machine without memory. A SIGSEGV that is only sent is passed over by Rust's guard of stacks.
    for (const signal of ['SIGABRT', 'SIGXCPU', 'SIGKILL']) {
      await until(() => decoders().length === 0, 'the decoder before is gone');
      const uploading = upload(server, { channel, token: ann.token, body });
      const [decoder] = await until(() => (decoders().length > 0 ? decoders() : undefined), 'an image is being decoded');
      process.kill(Number(decoder), signal);
      const got = await uploading;
      assert.deepEqual([got.status, code(got), got.body.error?.retry], [422, 'bad_image', 'no'], signal);
      assert.ok(server.alive);
    }
    await until(() => decoders().length === 0, 'no decoder is left');
    // The next one is as good as any.
    const { body: { file } } = await upload(server, { channel, token: ann.token, body: png(400, 200) });
    assert.equal((await download(server, file.thumbnail.url, { token: bob.token })).status, 200);
  });

  test('nothing hidden in an image comes out again', async () => {
    const { ann, bob, channel } = await room();
    const script = '<script>alert(document.domain)</script>';
    const polyglot = Buffer.concat([png(64, 64, { text: script }), Buffer.from(`<html>${script}`)]);
    const { body } = await upload(server, { channel, token: ann.token, name: 'x.html', type: 'text/html', body: polyglot });
    assert.deepEqual([body.file.type, body.file.name], ['image/png', 'x.png']);
    const image = await download(server, body.file.url, { token: bob.token });
    assert.ok(!image.bytes.includes('script') && image.bytes.subarray(1, 4).toString() === 'PNG');
    const thumbnail = await download(server, body.file.thumbnail.url, { token: bob.token });
    assert.deepEqual([thumbnail.status, thumbnail.headers.get('x-content-type-options')], [200, 'nosniff']);
  });

  test('pages where everything is taken are saved, never shown', async () => {
    const { ann, bob, channel } = await room();
    const page = '<!doctype html><script>document.title = "run"</script>';
    const { body } = await upload(server, { channel, token: ann.token, name: 'page.html', type: 'text/html', body: page });
    assert.equal(body.file.type, 'application/octet-stream');
    const got = await download(server, body.file.url, { token: bob.token });
    assert.match(got.headers.get('content-disposition'), /^attachment/);
    assert.deepEqual([got.headers.get('content-type'), got.bytes.toString()], ['application/octet-stream', page]);
  });

  test('tricks in names come to nothing', async () => {
    const { ann, bob, channel } = await room();
    for (const [name, expected] of [
      ['../../../../etc/passwd', 'passwd'], ['..\\..\\boot.ini', 'boot.ini'], ['a\0b.txt', 'ab.txt'], ['report\u202efdp.exe', 'reportfdp.exe'],
      ['.htaccess', 'htaccess'], ['', 'file'], ['..', 'file'], ['a"; filename=b.exe', 'a; filename=b.exe'], ['x\r\nset-cookie: a=1', 'xset-cookie a=1'],
    ]) {
      const { status, body } = await upload(server, { channel, token: ann.token, name, body: 'x' });
      assert.deepEqual([status, body.file.name], [201, expected]);
      const got = await download(server, body.file.url, { token: bob.token });
      assert.equal(got.headers.get('set-cookie'), null);
      assert.ok(got.headers.get('content-disposition').endsWith(`filename*=UTF-8''${encodeURIComponent(expected)}`));
    }
    const { body } = await upload(server, { channel, token: ann.token, name: `${'x'.repeat(10_000)}.txt`, body: 'x' });
    assert.ok(body.file.name.length === 255 && body.file.name.endsWith('.txt'));
    for (const path of ['..%2f..%2fxpush.db', '%2e%2e', 'unfinished', '../xpush.db']) {
      assert.equal((await download(server, `/api/v1/files/${path}`, { token: ann.token })).status, 404, path);
    }
  });

  test('more than the rule takes, at once and in a day', async () => {
    const { ann, a } = await room();
    const channel = freshChannel('room:small-');
    await a.call('members', { channel, add: [ann.user] });
    const send = (body) => upload(server, { channel, token: ann.token, body });
    assert.deepEqual([code(await send('x'.repeat(1_001))), (await send('x'.repeat(1_000))).status], ['too_large', 201]);
    const unannounced = new ReadableStream({
      pull(controller) {
        controller.enqueue(new Uint8Array(500));
        if ((this.count = (this.count ?? 0) + 1) === 9) controller.close();
      },
    });
    assert.equal(code(await send(unannounced)), 'too_large');
    assert.equal((await send('x'.repeat(900))).status, 201);
    const got = await send('x'.repeat(200));
    assert.deepEqual([got.status, code(got)], [429, 'rate_limited']);
    const nowhere = await upload(server, { channel: `@${ann.user}`, token: ann.token, body: 'x' });
    assert.ok(['no_files', 'forbidden'].includes(code(nowhere)), JSON.stringify(nowhere));
  });

  test('an upload that breaks off half way leaves nothing', async () => {
    const { ann, channel } = await room();
    const before = kept();
    const asked = begin(server, { channel, token: ann.token, length: 20_000_000 });
    asked.write(Buffer.alloc(2_000_000, 'x'));
    await until(() => kept() > before, 'begun');
    asked.destroy();
    await until(() => kept() === before, 'removed');
  });
});

describe('a server', () => {
  test('takes a gigabyte in constant memory', { timeout: 110_000 }, async () => {
    const ann = await register(server, 'Ann');
    const channel = freshChannel('chat');
    const chunk = Buffer.alloc(1 << 20, 7);
    let sent = 0;
    let most = 0;
    const before = server.rss();
    const body = new ReadableStream({
      pull(controller) {
        controller.enqueue(chunk);
        most = Math.max(most, server.rss() - before);
        if (++sent === 1_000) controller.close();
      },
    });
    const { status, body: answer } = await upload(server, { channel, token: ann.token, body });
    assert.deepEqual([status, answer.file?.size], [201, 1_000 << 20]);
    console.log(`a gigabyte took ${(most / 1e6).toFixed(1)} MB of memory`);
    assert.ok(most < 32e6, `${most} bytes`);
    const tail = await download(server, answer.file.url, { token: ann.token, headers: { range: 'bytes=-5' } });
    assert.deepEqual([tail.status, [...tail.bytes]], [206, [7, 7, 7, 7, 7]]);
    assert.equal((await download(server, answer.file.url, { token: ann.token, method: 'DELETE' })).status, 200);
  });

  test('removes what is over, and what a crash has left', async () => {
    const short = await Server.start({ config: CONFIG.replace('size = "30MB"', 'size = "30MB"\nkeep = "1m"') });
    try {
      const ann = await register(short, 'Ann');
      const a = await Client.open(short, { identity: { token: ann.token } });
      open.push(a);
      const channel = freshChannel('room');
      await a.call('members', { channel, add: [ann.user] });
      const { body } = await upload(short, { channel, token: ann.token, body: 'for a minute' });
      assert.ok(Math.abs(body.file.expires_at - body.file.created_at - 60_000) < 5);
      const asked = begin(short, { channel, token: ann.token, length: 20_000_000 });
      asked.write(Buffer.alloc(2_000_000, 'x'));
      await until(() => kept(short) === 2, 'begun');
      await short.crash();
      assert.equal((await download(short, body.file.url, { token: ann.token })).status, 200);
    } finally {
      await short.stop();
    }
  });

  test('without room refuses uploads, and goes on with everything else', async () => {
    const full = await Server.start({ config: CONFIG.replace('keep_free = 0', 'keep_free = "1000000GB"') });
    try {
      const ann = await register(full, 'Ann');
      const a = await Client.open(full, { identity: { token: ann.token } });
      open.push(a);
      const channel = freshChannel('chat');
      const got = await upload(full, { channel, token: ann.token, body: 'x' });
      assert.deepEqual([got.status, got.body.error.code, got.body.error.retry], [507, 'full', 'later']);
      await a.publish(channel, 'still here');
      assert.equal(kept(full), 0);
    } finally {
      await full.stop();
    }
  });
});

describe('the start page', () => {
  let browser;
  before(async () => (browser = await launch()));
  after(() => browser?.close());

  test('sends a picture, which others see in the timeline', async () => {
    const demo = await Server.start();
    try {
      const [one, two] = await Promise.all([browser.newContext(), browser.newContext()].map(async (context) => watched(await context)));
      await Promise.all([one, two].map((page) => page.goto(demo.url)));
      const picture = { name: 'sky.png', mimeType: 'image/png', buffer: png(600, 300) };
      await one.getByTestId('attach-input').setInputFiles(picture);
      for (const page of [one, two]) {
        const image = page.getByTestId('file-image').locator('img');
        await image.waitFor();
        await until(() => image.evaluate((image) => image.complete && image.naturalWidth === 320), 'shown');
      }
      // By paste, and what is no picture.
      await one.getByTestId('chat-input').evaluate((input) => {
        const clipboardData = new DataTransfer();
        clipboardData.items.add(new File(['hello'], 'notes.txt', { type: 'text/plain' }));
        input.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
      });
      await two.getByTestId('file-card').getByText('notes.txt').waitFor();
      // By drag and drop; too large, which is told and can be taken back.
      await one.locator('.composer').evaluate((composer) => {
        const dataTransfer = new DataTransfer();
        dataTransfer.items.add(new File([new Uint8Array(26_000_000)], 'large.bin'));
        for (const type of ['dragenter', 'dragover', 'drop']) composer.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
      });
      await one.getByTestId('upload').getByText('25 MB').waitFor();
      await one.getByRole('button', { name: 'Do not send large.bin' }).click();
      assert.equal(await one.getByTestId('upload').count(), 0);
      assert.deepEqual(two.complaints, []);
    } finally {
      await demo.stop();
    }
  });
});
