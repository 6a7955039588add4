// Too much of what is allowed: joins, pings, connections, probes, and readers that do not read.
import assert from 'node:assert/strict';
import { Client, freshChannel } from '../clients.mjs';
import { EngineSocket, Polling } from '../engine.mjs';
import { PlainSocket } from '../plain.mjs';
import { until } from '../wait.mjs';
import { OPCODE, RawWebSocket, frame, text } from './raw.mjs';
import { promise } from './promise.mjs';

const PER_SECOND = 100;
const CHANNELS = 256;
const PATIENCE_S = 10;
const offend = promise('[limits]\nhandshake_timeout = "1s"\noutbox_age = "2s"\n[heartbeat]\ninterval = "2s"\ntimeout = "2s"\n');

/** Sends many commands at once; how they were answered. */
async function flood(server, count, command) {
  const plain = await PlainSocket.open(server);
  for (let id = 1; id <= count; id++) plain.send({ id, ...command(id) });
  await plain.answers.take(count);
  const codes = plain.answers.items.map((answer) => answer.error?.code ?? 'ok');
  plain.close();
  return codes;
}

offend('joins beyond what a connection may follow', {}, async (server) => {
  const client = await Client.open(server);
  const codes = [];
  for (let n = 0; n < CHANNELS + 10; n++) {
    codes.push(await subscribePatiently(client, freshChannel('live')));
  }
  assert.deepEqual([...new Set(codes.slice(0, CHANNELS))], ['ok']);
  assert.deepEqual([...new Set(codes.slice(CHANNELS))], ['too_many_channels']);
  client.close();
});

/** Waits when told to: `rate_limited` says `retry: later`. */
async function subscribePatiently(client, channel) {
  let code;
  await until(async () => {
    code = await client.subscribe(channel).then(() => 'ok', (error) => error.code);
    return code !== 'rate_limited';
  }, 'admitted by the rate');
  return code;
}

for (const [what, command] of Object.entries({
  pings: () => ({ cmd: 'ping' }),
  joins: () => ({ cmd: 'subscribe', channel: 'live:same' }),
  publications: (n) => ({ cmd: 'publish', channel: 'live:same', data: n }),
  mistakes: () => ({ cmd: 'nothing' }),
})) {
  offend(`a flood of ${what} is answered with rate_limited`, {}, async (server) => {
    const codes = await flood(server, 3 * PER_SECOND + 50, command);
    const limited = codes.filter((code) => code === 'rate_limited').length;
    // Two seconds' worth pass at once; a slow run earns some more.
    assert.ok(limited >= PER_SECOND / 2 && limited <= PER_SECOND + 51, `${limited} of ${codes.length} limited`);
  });
}

offend('a flood that goes on is cut off', {}, async (server) => {
  const plain = await PlainSocket.open(server);
  for (let n = 0; n < (PATIENCE_S + 4) * PER_SECOND; n++) plain.send({ cmd: 'ping', id: n });
  assert.deepEqual(await plain.end(), { code: 4133, reason: 'rate_limited' });
});

offend('a flood of Engine.IO 3 pings is cut off', {}, async (server) => {
  const socket = await EngineSocket.open(server, 3, '');
  for (let n = 0; n < (PATIENCE_S + 4) * PER_SECOND; n++) socket.send('2');
  await socket.end();
});

offend('a flood of WebSocket pings is cut off', {}, async (server) => {
  const raw = await RawWebSocket.engine(server);
  const many = Buffer.concat(Array.from({ length: 1_000 }, () => frame(OPCODE.ping, 'x')));
  for (let n = 0; n < 10 && (await raw.write(many)); n++) await new Promise(setImmediate);
  await raw.end();
});

offend('connections that come and go', { counted: false }, async (server) => {
  const before = await server.metric('xpush_connections');
  for (let round = 0; round < 5; round++) {
    const sockets = await Promise.all(Array.from({ length: 100 }, () => RawWebSocket.open(server, '/socket.io/?EIO=4&transport=websocket')));
    for (const [n, raw] of sockets.entries()) {
      if (n % 3) await raw.write(text('40'));
      raw.close();
    }
  }
  await until(async () => (await server.metric('xpush_connections')) <= before, 'rid of the connections');
});

offend('polling sessions that nobody polls', { counted: false }, async (server) => {
  const before = await server.metric('xpush_connections');
  for (let round = 0; round < 10; round++) {
    await Promise.all(Array.from({ length: 30 }, async (_, n) => {
      const polling = await Polling.open(server, n % 2 ? 3 : 4);
      if (n % 4 === 0) await polling.post('40');
    }));
  }
  await until(async () => (await server.metric('xpush_connections')) <= before, 'rid of the sessions', 10_000);
});

offend('connections that never say who they are', {}, async (server) => {
  const before = await server.metric('xpush_connections');
  const sockets = await Promise.all(Array.from({ length: 50 }, (_, n) => RawWebSocket.open(server, n % 2 ? '/ws' : '/socket.io/?EIO=4&transport=websocket')));
  await Promise.all(sockets.map((raw) => raw.end(5_000)));
  await until(async () => (await server.metric('xpush_connections')) <= before, 'rid of the connections');
});

offend('a reader with a zero window is cut off', {}, async (server) => {
  const channel = freshChannel('live');
  const [deaf, reader, writer] = [await RawWebSocket.engine(server), await Client.open(server), await Client.open(server)];
  await deaf.write(text(`421["subscribe",{"channel":"${channel}"}]`));
  await deaf.text((f) => f.startsWith('431['));
  await reader.subscribe(channel);
  const open = await server.metric('xpush_connections');
  deaf.socket.pause();
  let sent = 0;
  await until(async () => {
    if (sent < 100) await writer.publish(channel, { n: sent++, fill: 'x'.repeat(200_000) });
    return (await server.metric('xpush_connections')) < open;
  }, 'cut off', 10_000);
  await reader.pushes.first(() => reader.messages(channel).length === sent, 'all messages at the reader that reads');
  assert.deepEqual(reader.messages(channel).map(({ data }) => data.n), Array.from({ length: sent }, (_, n) => n));
  deaf.close();
  reader.close();
  writer.close();
});

offend('a reader that stops within little data is cut off by age', {}, async (server) => {
  const channel = freshChannel('live');
  const [deaf, writer] = [await RawWebSocket.engine(server), await Client.open(server)];
  await deaf.write(text(`421["subscribe",{"channel":"${channel}"}]`));
  await deaf.text((f) => f.startsWith('431['));
  const open = await server.metric('xpush_connections');
  deaf.socket.pause();
  // More than the kernel's buffers take, less than an outbox.
  for (let n = 0; n < 6; n++) await writer.publish(channel, 'x'.repeat(900_000));
  await until(async () => (await server.metric('xpush_connections')) < open, 'cut off', 10_000);
  deaf.close();
  writer.close();
});

offend('a poller that stops polling is cut off by its outbox', {}, async (server) => {
  const channel = freshChannel('live');
  const polling = await (await Polling.open(server, 4)).connect();
  await polling.post(`421["subscribe",{"channel":"${channel}"}]`);
  await polling.until((packet) => packet.startsWith('431['));
  const writer = await Client.open(server);
  for (let n = 0; n < 8; n++) await writer.publish(channel, 'x'.repeat(900_000));
  await until(async () => {
    const response = await polling.post('3');
    await response.text();
    return response.status === 400;
  }, 'cut off', 10_000);
  writer.close();
});

offend('acks that were never asked for', { counted: false }, async (server) => {
  const raw = await RawWebSocket.engine(server);
  for (const ack of ['430[]', '43123456789012345[{"ok":{}}]', '430["x",{"y":[]}]']) await raw.write(text(ack));
  await raw.write(text('421["ping",{}]'));
  await raw.text((f) => f.startsWith('431['));
  raw.close();
});

offend('acks that nobody reads', { counted: false }, async (server) => {
  const raw = await RawWebSocket.engine(server);
  raw.socket.pause();
  for (let n = 0; n < 150; n++) await raw.write(text(`42${n}["history",{"channel":"chat:a"}]`));
  raw.close();
});

offend('probes for an upgrade that are abandoned', { counted: false }, async (server) => {
  const polling = await (await Polling.open(server, 4)).connect();
  const before = await server.metric('xpush_connections');
  const path = `/socket.io/?EIO=4&transport=websocket&sid=${polling.sid}`;
  const probes = await Promise.allSettled(Array.from({ length: 100 }, async (_, n) => {
    const raw = await RawWebSocket.open(server, path);
    if (n % 2) await raw.write(text('2probe'));
    return raw;
  }));
  const opened = probes.filter(({ status }) => status === 'fulfilled').map(({ value }) => value);
  await Promise.all(opened.map((raw) => raw.end(10_000)));
  await until(async () => (await server.metric('xpush_connections')) <= before, 'rid of the probes');
  await polling.post('421["presence",{"channel":"chat:a"}]');
  await polling.until((packet) => packet.startsWith('431['));
});

offend('namespaces without end', {}, async (server) => {
  const raw = await RawWebSocket.engine(server);
  for (let n = 0; n < 100; n++) await raw.write(text(`40/random${n},`));
  await raw.text((f) => f.startsWith('44/random99,'));
  raw.close();
});

offend('channels that are joined and left without end leave nothing', { counted: false }, async (server) => {
  const before = await server.metric('xpush_channels');
  const client = await Client.open(server);
  for (let n = 0; n < 90; n++) {
    const channel = freshChannel('live');
    await client.subscribe(channel);
    await client.call('unsubscribe', { channel });
  }
  client.close();
  await until(async () => (await server.metric('xpush_channels')) <= before, 'rid of the channels');
});
