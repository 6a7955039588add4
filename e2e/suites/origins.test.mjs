// Which pages may connect: on a loopback listener those of this machine, elsewhere those that the configuration names.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import WebSocket from 'ws';
import { engineUrl } from '../engine.mjs';
import { Server } from '../server.mjs';
import { next } from '../wait.mjs';

let server;
before(async () => (server = await Server.start({ config: 'allowed_origins = ["https://www.example.com"]\n' })));
after(() => server?.stop());

const GOOD = ['http://localhost:5173', 'http://127.0.0.1:3000', 'http://[::1]:8080', 'https://www.example.com'];
const BAD = ['null', 'https://evil.example', 'https://www.example.com.evil.example', 'https://evil-www.example.com', 'http://localhost.evil.example', 'http://www.example.com', 'https://www.example.com:8443', 'localhost'];

const paths = (query) => ({ polling: engineUrl(server, { EIO: 4, transport: 'polling', ...query }), sse: `${server.url}/sse?channel=chat:a` });

test('polling and SSE: good origins get CORS headers, others a refusal', async () => {
  for (const [name, url] of Object.entries(paths())) {
    for (const origin of GOOD) {
      const response = await fetch(url, { headers: { origin } });
      assert.equal(response.status, 200, `${name} ${origin}`);
      assert.equal(response.headers.get('access-control-allow-origin'), origin);
      await response.body.cancel();
    }
    for (const origin of BAD) {
      const response = await fetch(url, { headers: { origin } });
      assert.equal(response.status, 403, `${name} ${origin}`);
      assert.equal(response.headers.get('access-control-allow-origin'), null);
      await response.body.cancel();
    }
  }
});

test('WebSocket: good origins and programs connect, others are refused', async () => {
  const urls = [engineUrl(server, { EIO: 4, transport: 'websocket' }, 'ws'), `${server.url.replace('http', 'ws')}/ws`];
  for (const url of urls) {
    for (const origin of [undefined, ...GOOD]) {
      const socket = new WebSocket(url, { origin });
      await next(socket, 'open');
      socket.close();
    }
    for (const origin of BAD) {
      const socket = new WebSocket(url, { origin });
      const refused = new Promise((resolve) => socket.once('unexpected-response', (request, response) => resolve([response.statusCode, request.destroy()])));
      const opened = next(socket, 'open').then(() => [101]);
      socket.on('error', () => {});
      opened.catch(() => {});
      const [status] = await Promise.race([refused, opened]);
      assert.equal(status, 403, `${url} ${origin}`);
    }
  }
});

test('a preflight of a good origin is answered', async () => {
  const response = await fetch(paths().polling, {
    method: 'OPTIONS',
    headers: { origin: GOOD[0], 'access-control-request-method': 'POST', 'access-control-request-headers': 'content-type' },
  });
  assert.ok(response.ok, String(response.status));
  assert.equal(response.headers.get('access-control-allow-origin'), GOOD[0]);
  assert.match(response.headers.get('access-control-allow-methods') ?? '', /POST/);
  assert.match(response.headers.get('access-control-allow-headers') ?? '', /content-type/i);
});

test('the log names the line that would let a refused origin in', async () => {
  await (await fetch(paths().polling, { headers: { origin: 'https://app.example.org' } })).text();
  assert.match(server.log, /allowed_origins.*https:\/\/app\.example\.org/);
});
