// Events that are no commands: the classic Socket.IO chat without its server, and a back end that answers acks.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer, request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { Backend, SECRET } from '../backend.mjs';
import { launch, watched } from '../browser.mjs';
import { Client, FLAVOURS, MAJORS, TRANSPORTS } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { Inbox, next, until, within } from '../wait.mjs';

const E2E = join(import.meta.dirname, '..');
const PAGE = readFileSync(join(E2E, 'page/classic.html'));
const STOCK = readFileSync(join(E2E, 'node_modules/sio4/dist/socket.io.min.js'));

const config = (backend) => `
[hooks]
allow_private = true
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "*"
history = "recent"
[[apps.demo.calls]]
event = "chat message"
channel = "chat:lobby"
[[apps.demo.calls]]
event = "drawing"
channel = "board"
echo = false
[[apps.demo.hooks]]
url = "${backend.url}"
secret = "${SECRET}"
asks = ["call"]
timeout = "1s"
`;

let server, backend, open = [];
before(async () => ({ backend, server } = await Backend.beside(config)));
after(() => Promise.all([server?.stop(), backend?.stop()]));
afterEach(async () => {
  await Promise.all(open.map((one) => one.close()));
  open = [];
  backend.answer = () => ({ body: {} });
});

/** A web site as nginx makes one: its own page and script, and `/socket.io/` from XPUSH. */
class Site {
  static async start(server) {
    const site = new Site();
    const files = { '/': [PAGE, 'text/html'], '/socket.io/socket.io.js': [STOCK, 'text/javascript'] };
    const onwards = (request) => ({ port: server.port, host: '127.0.0.1', method: request.method, path: request.url, headers: request.headers });
    site.http = createServer((request, response) => {
      const file = files[request.url];
      if (file) return response.writeHead(200, { 'content-type': file[1] }).end(file[0]);
      if (!request.url.startsWith('/socket.io/')) return response.writeHead(204).end();
      const asked = httpRequest(onwards(request), (answer) => {
        response.writeHead(answer.statusCode, answer.headers);
        answer.pipe(response);
      });
      asked.on('error', () => response.destroy());
      request.pipe(asked);
    });
    site.http.on('upgrade', (request, socket) => {
      const upstream = connect(server.port, '127.0.0.1', () => {
        const lines = Object.entries(request.headers).map(([name, value]) => `${name}: ${value}\r\n`);
        upstream.write(`GET ${request.url} HTTP/1.1\r\n${lines.join('')}\r\n`);
        socket.pipe(upstream).pipe(socket);
      });
      for (const end of [socket, upstream]) end.on('error', () => [socket, upstream].forEach((one) => one.destroy()));
    });
    site.http.listen(0, '127.0.0.1');
    await once(site.http, 'listening');
    site.url = `http://127.0.0.1:${site.http.address().port}/`;
    return site;
  }

  close() {
    this.http.closeAllConnections();
    this.http.close();
  }
}

/** A stock client that knows nothing of XPUSH: what it hears of `events`. */
async function stock({ major = 4, transport = 'websocket', parser, events = ['chat message', 'drawing'] } = {}) {
  const socket = MAJORS[major](server.url, {
    transports: TRANSPORTS[transport],
    forceNew: true,
    ...(parser && { parser }),
  });
  const heard = new Inbox();
  for (const event of events) socket.on(event, (...args) => heard.push([event, ...args]));
  open.push({ close: () => socket.close() });
  await next(socket, 'connect');
  return { socket, heard };
}

const ask = (socket, ...args) =>
  within(new Promise((resolve) => socket.emit(...args, resolve)), `ack of ${args[0]}`);

describe('the classic sample', () => {
  test('an unmodified page with the stock client', async () => {
    const browser = await launch();
    const site = await Site.start(server);
    open.push(browser, site);
    const pages = [];
    for (let number = 0; number < 3; number++) {
      const page = await watched(await browser.newContext());
      await page.goto(site.url);
      await page.waitForFunction(() => socket.connected);
      pages.push(page);
    }
    for (const [number, page] of pages.entries()) {
      await page.fill('#input', `hello <b>${number}</b>`);
      await page.click('button');
    }
    for (const page of pages) {
      await page.waitForFunction(() => document.querySelectorAll('li').length === 3);
      const items = await page.$$eval('li', (all) => all.map((one) => one.textContent));
      assert.deepEqual(items.toSorted(), ['hello <b>0</b>', 'hello <b>1</b>', 'hello <b>2</b>']);
      assert.deepEqual(page.complaints, []);
    }
  });

  for (const flavour of FLAVOURS.filter(({ transport }) => transport !== 'upgrade')) {
    test(`${flavour.label}: everybody hears everybody, in order`, async () => {
      const [ann, bob] = [await stock(flavour), await stock(flavour)];
      const text = `${flavour.label} `;
      for (let number = 0; number < 20; number++) ann.socket.emit('chat message', text + number);
      for (const { heard } of [ann, bob]) {
        await heard.first(() => heard.items.length === 20, 'all');
        assert.deepEqual(heard.items, Array.from({ length: 20 }, (_, number) => ['chat message', text + number]));
      }
    });
  }

  test('whoever is connected hears what is emitted from then on', async () => {
    const ann = await stock();
    for (let round = 0; round < 30; round++) {
      const late = await stock();
      ann.socket.emit('chat message', `round ${round}`);
      await late.heard.first((one) => one[1] === `round ${round}`);
    }
  });

  test('objects, binary parts, no argument and several', async () => {
    const [ann, bob] = [await stock(), await stock()];
    ann.socket.emit('chat message', { nested: [1, { two: null }] });
    ann.socket.emit('chat message', { picture: Buffer.from([1, 2, 3]) });
    ann.socket.emit('chat message');
    ann.socket.emit('chat message', 'a', 'b');
    await bob.heard.first(() => bob.heard.items.length === 4, 'all');
    const [nested, picture, nothing, several] = bob.heard.items.map((item) => item[1]);
    assert.deepEqual(nested, { nested: [1, { two: null }] });
    assert.deepEqual([...picture.picture], [1, 2, 3]);
    assert.equal(nothing, null);
    assert.deepEqual(several, ['a', 'b']);
  });

  test('without echo its sender does not hear it', async () => {
    const [ann, bob] = [await stock(), await stock()];
    ann.socket.emit('drawing', { x: 1 });
    ann.socket.emit('chat message', 'behind it');
    await ann.heard.first((one) => one[0] === 'chat message');
    await bob.heard.first((one) => one[0] === 'drawing');
    assert.deepEqual(ann.heard.items.map(([event]) => event), ['chat message']);
  });

  test('an ack says where the message is', async () => {
    const { socket } = await stock();
    const { channel, seq } = await ask(socket, 'chat message', 'with an ack');
    assert.equal(channel, 'chat:lobby');
    assert.ok(seq > 0);
  });

  test('a client that knows the protocol shares the channel, and gets no plain events once it subscribes', async () => {
    const ann = await stock();
    const native = await Client.open(server, { identity: { name: 'Nat' } });
    open.push(native);
    const heard = [];
    native.socket.on('chat message', (text) => heard.push(text));
    ann.socket.emit('chat message', 'before');
    await until(() => heard.length === 1, 'a plain event');
    await native.call('subscribe', { channel: 'chat:lobby' });
    ann.socket.emit('chat message', 'after');
    const push = await native.push('message', (message) => message.data === 'after');
    assert.equal(push.event, 'chat message');
    await native.call('publish', { channel: 'chat:lobby', event: 'chat message', data: 'from the protocol' });
    await ann.heard.first((one) => one[1] === 'from the protocol');
    assert.deepEqual(heard, ['before']);
  });
});

describe('calls', () => {
  test('the back end answers the ack of an event with its JSON', async () => {
    backend.answer = ({ name, data, user, guest }) => ({ body: { data: { name, twice: data * 2, user, guest } } });
    const { socket } = await stock();
    const answer = await ask(socket, 'double', 21);
    assert.deepEqual([answer.name, answer.twice, answer.guest], ['double', 42, true]);
  });

  test('the command `call`, on every transport', async () => {
    backend.answer = ({ data }) => ({ body: { data: [data] } });
    const client = await Client.open(server);
    open.push(client);
    assert.deepEqual(await client.call('call', { name: 'wrap', data: { a: 1 } }), [{ a: 1 }]);
    const plain = await PlainSocket.open(server);
    open.push(plain);
    assert.deepEqual(await plain.call('call', { name: 'wrap', data: 'x' }), ['x']);
    await assert.rejects(plain.call('wrap', {}), { code: 'unknown_command' });
  });

  test('what the back end refuses, and what it does not answer', async () => {
    const { socket } = await stock();
    backend.answer = () => ({ body: { allow: false, reason: 'not today' } });
    assert.deepEqual((await ask(socket, 'order', {})).error, { code: 'forbidden', message: 'not today', retry: 'no' });
    backend.answer = () => null;
    assert.equal((await ask(socket, 'order', {})).error.code, 'unavailable');
    backend.answer = () => ({ body: `{"data":${'['.repeat(60)}${']'.repeat(60)}}` });
    assert.equal((await ask(socket, 'order', {})).error.code, 'unavailable');
    backend.answer = () => ({ body: {} });
    assert.equal(await ask(socket, 'order', {}), null);
    assert.equal(backend.forged, 0);
  });
});
