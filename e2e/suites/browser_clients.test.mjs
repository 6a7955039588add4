// Socket.IO's own browser builds in Chromium, from a page of another origin: XMLHttpRequest with binary bodies, CORS, the browser's WebSocket.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, watched } from '../browser.mjs';
import { MAJORS, TRANSPORTS, freshChannel } from '../clients.mjs';
import { Server } from '../server.mjs';

let server, browser, pages;
before(async () => {
  pages = createServer((_, response) => response.setHeader('content-type', 'text/html').end('<!doctype html><title>Elsewhere</title>'));
  pages.listen(0, '127.0.0.1');
  await once(pages, 'listening');
  [server, browser] = await Promise.all([Server.start({ config: '[limits]\nevents_per_second = 0\n' }), launch()]);
});
after(async () => {
  await browser?.close();
  pages?.close();
  await server?.stop();
});

for (const major of Object.keys(MAJORS)) {
  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    test(`socket.io-client ${major} in the browser, ${name}`, async () => {
      const context = await browser.newContext();
      const page = await watched(context);
      await page.goto(`http://localhost:${pages.address().port}/`);
      await page.addScriptTag({ content: readFileSync(join(import.meta.dirname, `../node_modules/sio${major}/dist/socket.io.js`), 'utf8') });
      const result = await page.evaluate(converse, { url: server.url, transports, channel: freshChannel() });
      assert.deepEqual(result, {
        transport: transports.at(-1),
        order: Array.from({ length: 100 }, (_, n) => n),
        text: 'Grüße 세계 🙂',
        bytes: [0, 1, 127, 128, 255],
      });
      assert.deepEqual(page.complaints, []);
      await context.close();
    });
  }
}

/** Runs in the page. */
async function converse({ url, transports, channel }) {
  const socket = window.io(url, { transports, forceNew: true, reconnection: false });
  const call = (command, fields) => new Promise((resolve) => socket.emit(command, fields, resolve));
  const messages = [];
  const end = new Promise((resolve, reject) => {
    socket.on('message', (message) => (message.event === 'end' ? resolve() : messages.push(message)));
    for (const name of ['connect_error', 'error', 'disconnect']) socket.on(name, (e) => reject(new Error(`${name}: ${e?.message ?? e}`)));
  });
  await Promise.race([end, new Promise((resolve) => socket.on('connect', resolve))]);
  while (socket.io.engine.transport.name !== transports.at(-1)) await new Promise((resolve) => setTimeout(resolve, 10));
  await call('subscribe', { channel });
  for (let n = 0; n < 100; n++) socket.emit('publish', { channel, data: n });
  await call('publish', { channel, data: { text: 'Grüße 세계 🙂', bytes: new Uint8Array([0, 1, 127, 128, 255]).buffer } });
  socket.emit('publish', { channel, data: null, event: 'end' });
  await end;
  const { text, bytes } = messages.pop().data;
  return {
    transport: socket.io.engine.transport.name,
    order: messages.map(({ data }) => data),
    text,
    bytes: [...new Uint8Array(bytes)],
  };
}
