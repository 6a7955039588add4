// Two browsers with @xpush/client: a messenger page that signs in, and goes on over a killed server.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { MESSENGER, PASSWORD, register } from '../accounts.mjs';
import { launch, watched } from '../browser.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { run } from '../python.mjs';
import { CLIENT_COMPILER, Server } from '../server.mjs';
import { until } from '../wait.mjs';

const HERE = join(import.meta.dirname, '..');
const CLIENT = join(HERE, '../clients/js');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript' };

let server, browser, pages;
const client = mkdtempSync(join(tmpdir(), 'xpush-client-'));
before(async () => {
  const { code, stdout } = await run(CLIENT_COMPILER, ['-p', join(CLIENT, 'tsconfig.build.json'), '--outDir', client]);
  assert.equal(code, 0, stdout);
  pages = createServer(({ url }, response) => {
    const [path] = url.split('?');
    const file =
      path === '/socket.io.js' ? join(HERE, 'node_modules/sio4/dist/socket.io.esm.min.js')
      : path.startsWith('/client/') ? join(client, path.slice('/client/'.length))
      : join(HERE, 'page', path);
    response.setHeader('content-type', TYPES[extname(file)] ?? 'application/octet-stream').end(readFileSync(file));
  });
  pages.listen(0, '127.0.0.1');
  await once(pages, 'listening');
  [server, browser] = await Promise.all([Server.start({ config: MESSENGER }), launch()]);
});
after(async () => {
  await browser?.close();
  pages?.close();
  await server?.stop();
  rmSync(client, { recursive: true, force: true });
});

/** A page of its own browser profile, signed in as `user`. */
async function signIn(user, room) {
  const context = await browser.newContext();
  const page = await watched(context);
  const query = new URLSearchParams({ server: server.url, room });
  await page.goto(`http://localhost:${pages.address().port}/messenger.html?${query}`);
  await page.fill('#user', user);
  await page.fill('#password', PASSWORD);
  await page.click('#sign-in button');
  await shows(page, '#state', 'online');
  await shows(page, '#me', user);
  await until(() => page.evaluate(() => window.channel?.position !== undefined), 'subscribed');
  return page;
}

const shows = (page, selector, text) => until(async () => (await page.textContent(selector)) === text, `"${text}" in ${selector}`);
const lines = (page) => page.$$eval('#messages li', (items) => items.map(({ textContent, dataset }) => `${textContent} ${dataset.state}`));
const showsLines = async (page, expected, ms) => {
  let seen;
  await until(async () => (seen = await lines(page)).join() === expected.join(), 'as expected', ms).catch(() => assert.deepEqual(seen, expected));
};
async function say(page, text) {
  await page.fill('#text', text);
  await page.click('#compose button');
}

test('two people talk in two browsers, over a crash of the server', async () => {
  const [ann, bob] = [await register(server, 'Ann'), await register(server, 'Bob')];
  const room = freshChannel('room');
  const founder = await Client.open(server, { identity: { token: ann.token } });
  await founder.call('members', { channel: room, add: [bob.user] });
  founder.close();
  const [a, b] = [await signIn(ann.user, room), await signIn(bob.user, room)];

  await a.fill('#text', 'He');
  await shows(b, '#typing', 'Ann');
  await say(a, 'Hello');
  await showsLines(b, ['Hello sent']);
  await shows(b, '#typing', '');
  await shows(b, '#unread', '1');
  await showsLines(a, ['Hello sent']);

  await b.evaluate(() => window.timeline.read());
  await shows(b, '#unread', '0');
  await showsLines(a, ['Hello read']);

  await a.evaluate(() => window.channel.edit(1, { text: 'Hello, Bob' }));
  await showsLines(b, ['Hello, Bob (edited) sent']);
  await say(b, 'Oops');
  await showsLines(a, ['Hello, Bob (edited) read', 'Oops sent']);
  await b.evaluate(() => window.channel.delete(3));
  for (const page of [a, b]) await until(async () => (await lines(page)).at(-1).startsWith('(deleted)'), 'deleted');

  await server.end('SIGKILL');
  await until(async () => (await a.textContent('#state')) !== 'online', 'offline');
  await say(a, 'Are you there?');
  await until(async () => (await lines(a)).at(-1) === 'Are you there? pending', 'pending');
  await server.launch();
  for (const page of [a, b]) {
    await until(async () => (await page.textContent('#state')) === 'online', 'online again', 15_000);
    await until(async () => (await lines(page)).at(-1) === 'Are you there? sent', 'sent', 15_000);
  }
  assert.deepEqual((await lines(b)).map((line) => line.replace(/ \w+$/, '')), ['Hello, Bob (edited)', '(deleted)', 'Are you there?']);
  assert.deepEqual(await b.evaluate(() => window.timeline.gaps), []);

  // A reload is the same user with the same history.
  await b.reload();
  await shows(b, '#me', bob.user);
  await until(async () => (await lines(b)).length === 3, 'history');
  for (const page of [a, b]) {
    const complaints = page.complaints.filter((text) => !/ERR_CONNECTION_REFUSED|WebSocket connection|ERR_/.test(text));
    assert.deepEqual(complaints, []);
    await page.context().close();
  }
});

test('two tabs of one browser refresh their login together', async () => {
  const ann = await register(server, 'Ann');
  const room = freshChannel('chat');
  const page = await signIn(ann.user, room);
  const tab = await watched(page.context());
  await tab.goto(page.url());
  await shows(tab, '#me', ann.user);
  // The first one's request waits until the other tab has been asked, too: both begin with the same refresh token.
  let asked;
  const both = new Promise((resolve) => (asked = resolve));
  await page.context().route('**/auth/refresh', async (route) => {
    await both;
    await route.continue();
  });
  for (const one of [page, tab]) await one.evaluate(() => void (window.refreshed = window.account.refresh()));
  asked();
  const tokens = await Promise.all([page, tab].map((one) => one.evaluate(() => window.refreshed)));
  // A browser tells one tab's storage to the other after a while, so each may have got a token of its own: of the one login, which goes on.
  const logins = tokens.map((token) => JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).login);
  assert.ok(logins[0]);
  assert.equal(logins[0], logins[1]);
  for (let round = 0; round < 5; round++) {
    await Promise.all([page, tab].map((one) => one.evaluate(() => window.account.refresh())));
  }
  assert.equal((await page.evaluate(() => window.account.signedIn)).user, ann.user);
  await page.context().close();
});
