// Files in a bucket: whole, in parts and in ranges; and what becomes of all when the bucket cannot be reached.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, test } from 'node:test';
import { Client, freshChannel } from '../clients.mjs';
import { download, png, upload } from '../files.mjs';
import { S3 } from '../s3.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const RULES = `
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "*"
[[apps.demo.files]]
channels = "short"
keep = "1m"
[[apps.demo.files]]
channels = "*"
`;

let s3, server, token;
before(async () => {
  s3 = await S3.start();
  server = await Server.start({ config: s3.config + RULES });
  token = await key();
});
after(async () => {
  await server?.stop();
  await s3?.stop();
});

async function key() {
  return /xk_demo\.[\w.-]+/.exec(await server.command('app', 'key', 'create', 'demo', '--scope', 'admin'))[0];
}

/** Uploads as the app's back end, once its key is known. */
function put(fields) {
  return until(async () => {
    const { status, body } = await upload(server, { token, ...fields });
    if (status === 401) return undefined;
    assert.equal(status, 201, JSON.stringify(body));
    return body.file;
  }, 'uploaded');
}

test('an upload of several parts comes back byte by byte, as a whole and in ranges', async () => {
  const channel = freshChannel();
  const body = randomBytes(20_000_000);
  const file = await put({ channel, name: 'large.bin', body });
  assert.deepEqual(s3.objects(), [file.id]);
  const whole = await download(server, file.url, { token });
  assert.ok(whole.bytes.equals(body), 'the same bytes');
  for (const [range, from, to] of [['bytes=0-0', 0, 1], ['bytes=8388600-8388620', 8_388_600, 8_388_621], ['bytes=-7', body.length - 7, body.length]]) {
    const part = await download(server, file.url, { token, headers: { range } });
    assert.deepEqual([part.status, part.bytes], [206, body.subarray(from, to)]);
  }
  assert.equal((await download(server, file.url, { token, headers: { range: `bytes=${body.length}-` } })).status, 416);
  assert.equal((await download(server, file.url, { token, method: 'DELETE' })).status, 200);
  assert.deepEqual(s3.objects(), []);
});

test('an image leaves two objects, and nothing of what was uploaded', async () => {
  const channel = freshChannel();
  const file = await put({ channel, name: 'sky.png', body: png(600, 300, { text: 'where it was taken' }) });
  assert.deepEqual(s3.objects(), [file.id, `${file.id}.thumbnail`]);
  const thumbnail = await download(server, file.thumbnail.url, { token });
  assert.deepEqual([thumbnail.status, thumbnail.headers.get('content-type')], [200, 'image/jpeg']);
  const refused = await upload(server, { channel, token, body: png(2, 2, { declared: [60_000, 60_000] }) });
  assert.equal(refused.body.error.code, 'bad_image');
  assert.deepEqual(s3.objects(), [file.id, `${file.id}.thumbnail`]);
  await download(server, file.url, { token, method: 'DELETE' });
  assert.deepEqual(s3.objects(), []);
});

test('while the bucket cannot be reached uploads are refused, everything else goes on, and then they are taken again', async () => {
  const channel = freshChannel();
  const file = await put({ channel, name: 'a.txt', type: 'text/plain', body: 'before' });
  await s3.end();
  const client = await Client.open(server);
  const [refused, missing] = await Promise.all([upload(server, { channel, token, body: 'meanwhile' }), download(server, file.url, { token })]);
  assert.deepEqual([refused.status, refused.body.error.code, refused.body.error.retry], [503, 'unavailable', 'later']);
  assert.equal(missing.status, 503);
  await client.publish(channel, 'messages do not need it');
  client.close();
  assert.equal((await download(server, `${file.url}/info`, { token })).status, 200);
  await s3.launch();
  const again = await put({ channel, name: 'b.txt', type: 'text/plain', body: 'after' });
  assert.equal((await download(server, file.url, { token })).bytes.toString(), 'before');
  assert.deepEqual(s3.objects(), [file.id, again.id].sort());
  for (const { url } of [file, again]) await download(server, url, { token, method: 'DELETE' });
});

test('what is over goes by itself, and a restart forgets none of it', { timeout: 110_000 }, async () => {
  const file = await put({ channel: 'short', name: 'short.txt', type: 'text/plain', body: 'short' });
  assert.equal(file.expires_at, file.created_at + 60_000);
  await server.crash();
  assert.equal((await download(server, file.url, { token })).status, 200);
  await until(async () => (await download(server, file.url, { token })).status === 404, 'over', 70_000);
  assert.ok(Date.now() >= file.expires_at, 'not before');
  await until(() => s3.objects().length === 0, 'swept', 20_000);
});
