// Requests that no client should make.
import assert from 'node:assert/strict';
import { Polling, engineUrl } from '../engine.mjs';
import { promise } from './promise.mjs';
import { RawSocket, handshake, request } from './raw.mjs';

const offend = promise('[limits]\nhandshake_timeout = "1s"\n');

const LIMIT = 1_000_000;
const ENGINE = '/socket.io/?EIO=4&transport=polling';
/** TCP loses an answer when the server closes before it has read what it does not want. */
const MAYBE = (status) => new RegExp(`^(${status}|0)$`);
const post = (path, ...headers) => `POST ${path} HTTP/1.1\r\nHost: localhost\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`;

for (const eio of [3, 4]) {
  offend(`EIO ${eio}: a body over the limit, by its declared length`, {}, async (server) => {
    const polling = await (await Polling.open(server, eio)).connect();
    const path = `/socket.io/?EIO=${eio}&transport=polling&sid=${polling.sid}`;
    for (const length of [LIMIT + 1, 2 ** 31, 2 ** 53]) {
      assert.equal(await request(server, post(path, `Content-Length: ${length}`)), 413);
    }
  });

  offend(`EIO ${eio}: a body over the limit, in endless chunks`, {}, async (server) => {
    const polling = await (await Polling.open(server, eio)).connect();
    const raw = await RawSocket.open(server);
    await raw.write(post(`/socket.io/?EIO=${eio}&transport=polling&sid=${polling.sid}`, 'Transfer-Encoding: chunked'));
    const chunk = Buffer.from(`10000\r\n${'x'.repeat(65_536)}\r\n`);
    for (let sent = 0; raw.received.length === 0 && sent < 50 * LIMIT; sent += 65_536) {
      if (!(await raw.write(chunk))) break;
      await new Promise(setImmediate);
    }
    assert.match(String(await raw.status()), MAYBE(413));
    raw.close();
  });

  offend(`EIO ${eio}: a flood of binary bodies to a live session`, {}, async (server) => {
    const polling = await (await Polling.open(server, eio)).connect();
    const bodies = [Buffer.alloc(1_000, 0xff), Buffer.from([0, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 0xff, 52]), Buffer.from([1, 0xff]), Buffer.alloc(200_000, 1), Buffer.from([2, 1, 0xff, 52])];
    const answers = await Promise.all(Array.from({ length: 200 }, (_, n) => {
      const body = bodies[n % bodies.length];
      const path = `/socket.io/?EIO=${eio}&transport=polling&sid=${polling.sid}`;
      return request(server, post(path, 'Content-Type: application/octet-stream', `Content-Length: ${body.length}`), body);
    }));
    for (const status of answers) assert.match(String(status), MAYBE(400));
    if (eio === 3) assert.equal((await polling.request('GET')).status, 400);
  });
}

offend('unknown transports and versions', {}, async (server) => {
  for (const query of ['EIO=4&transport=abc', 'EIO=9&transport=polling', 'transport=polling', 'EIO=4', '', 'EIO=%00&transport=polling', 'EIO=4&transport=polling%00']) {
    assert.equal((await fetch(`${server.url}/socket.io/?${query}`)).status, 400, query);
  }
});

offend('repeated query parameters', {}, async (server) => {
  const { sid } = await Polling.open(server, 4);
  for (const query of [
    'EIO=4&EIO=4&transport=polling',
    'EIO=4&transport=polling&transport=websocket',
    `EIO=4&transport=polling&sid=${sid}&sid=${sid}`,
    `EIO=4&transport=polling&sid=${sid}&s%69d=other`,
  ]) {
    assert.equal((await fetch(`${server.url}/socket.io/?${query}`)).status, 400, query);
  }
});

offend('queries that are no text', {}, async (server) => {
  for (const query of ['EIO=4&transport=polling&sid=%ff%fe', 'EIO=4&transport=polling&sid=%', `EIO=4&transport=polling&sid=${'%41'.repeat(2_000)}`]) {
    assert.equal(await request(server, `GET /socket.io/?${query} HTTP/1.1\r\nHost: x\r\n\r\n`), 400, query.slice(0, 60));
  }
});

for (const [what, headers] of Object.entries({
  'hundreds of headers': Array.from({ length: 300 }, (_, n) => `x-${n}: y`).join('\r\n'),
  'a value over the limit of the headers': `x: ${'y'.repeat(17_000)}`,
  'a name over the limit of the headers': `${'x'.repeat(17_000)}: y`,
})) {
  offend(what, {}, async (server) => {
    assert.equal(await request(server, `GET ${ENGINE} HTTP/1.1\r\nHost: x\r\n${headers}\r\n\r\n`), 431);
  });
}

offend('thousands of headers', {}, async (server) => {
  const lines = Array.from({ length: 5_000 }, (_, n) => `x-${n}: y\r\n`).join('');
  assert.match(String(await request(server, `GET ${ENGINE} HTTP/1.1\r\nHost: x\r\n`, lines, '\r\n')), MAYBE(431));
});

offend('a header without end', { counted: false }, async (server) => {
  const raw = await RawSocket.open(server);
  await raw.write(`GET ${ENGINE} HTTP/1.1\r\nHost: x\r\nx: `);
  const part = Buffer.alloc(65_536, 0x79);
  for (let sent = 0; sent < 20e6 && raw.received.length === 0; sent += part.length) {
    if (!(await raw.write(part))) break;
    await new Promise(setImmediate);
  }
  assert.match(String(await raw.status()), /^(431|400|0)$/);
  raw.close();
});

offend('what is no HTTP', { counted: false }, async (server) => {
  const requests = [
    'hello\r\n\r\n',
    Buffer.alloc(1_000, 0),
    Buffer.from([0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3]),
    'GET / HTTP/9.9\r\n\r\n',
    `${post(ENGINE, 'Content-Length: 5', 'Content-Length: 6')}hello`,
    `${post(ENGINE, 'Content-Length: 5', 'Transfer-Encoding: chunked')}0\r\n\r\n`,
    post(ENGINE, 'Content-Length: -1'),
    post(ENGINE, 'Content-Length: 99999999999999999999999'),
    `${post(ENGINE, 'Transfer-Encoding: chunked')}ffffffffffffffffff\r\nx\r\n`,
  ];
  for (const bytes of requests) {
    const status = await request(server, bytes);
    assert.ok(status === 0 || (status >= 400 && status < 500) || status === 505, `${status} for ${JSON.stringify(String(bytes).slice(0, 80))}`);
  }
});

offend('connections that say nothing, or half of it', { counted: false }, async (server) => {
  const halves = ['', 'G', `GET ${ENGINE} HTTP/1.1\r\nHost`];
  const sockets = await Promise.all(Array.from({ length: 100 }, async (_, n) => {
    const raw = await RawSocket.open(server);
    await raw.write(halves[n % halves.length]);
    return raw;
  }));
  await Promise.all(sockets.map((raw) => raw.end(6_000)));
});

offend('WebSocket handshakes that are none', {}, async (server) => {
  for (const path of ['/ws', '/socket.io/?EIO=4&transport=websocket']) {
    for (const headers of [
      { 'Sec-WebSocket-Key': undefined },
      { 'Sec-WebSocket-Key': 'short' },
      { 'Sec-WebSocket-Version': undefined },
      { 'Sec-WebSocket-Version': '8' },
      { Upgrade: 'h2c' },
      { Connection: 'close' },
    ]) {
      const status = await request(server, handshake(path, headers));
      assert.ok(status === 400 || status === 426, `${status} for ${path} ${JSON.stringify(headers)}`);
    }
    assert.equal(await request(server, handshake(path).replace('GET', 'POST')) >= 400, true);
  }
});

offend('garbage right behind a handshake', {}, async (server) => {
  const raw = await RawSocket.open(server);
  await raw.write(Buffer.concat([Buffer.from(handshake('/ws')), Buffer.alloc(10_000, 0xff)]));
  await raw.end();
});

offend('paths that lead elsewhere', { counted: false }, async (server) => {
  for (const path of ['/../../../../etc/passwd', '/..%2f..%2fetc/passwd', '/assets/%2e%2e/%2e%2e/Cargo.toml', '//etc/passwd', '/assets/', '/%00', '/node/demo', '/node/demo/a/b', '/node/nobody/chat:a']) {
    const raw = await RawSocket.open(server);
    await raw.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    const status = await raw.status();
    await raw.end();
    assert.doesNotMatch(raw.received.toString(), /root:|\[package\]|\[workspace\]/, path);
    assert.ok(status === 200 ? path.startsWith('/node/') : status >= 300, `${status} for ${path}`);
    raw.close();
  }
});

offend('a flood of unknown sessions', {}, async (server) => {
  const urls = Array.from({ length: 300 }, (_, n) => engineUrl(server, { EIO: 4, transport: 'polling', sid: `${n}`.padStart(32, 'A') }));
  const answers = await Promise.all(urls.map((url, n) => fetch(url, n % 2 ? { method: 'POST', body: '40' } : {}).then((r) => r.status)));
  assert.deepEqual([...new Set(answers)], [400]);
});
