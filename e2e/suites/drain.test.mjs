// SIGTERM: stop accepting, tell the clients, flush, exit with 0 within a bound.
import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { Client, FLAVOURS, freshChannel } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { EventStream } from '../sse.mjs';
import { next, until, within } from '../wait.mjs';

const BOUND_MS = 10_000;

let server;
beforeEach(async () => (server = await Server.start()));
afterEach(() => server?.stop());

for (const signal of ['SIGTERM', 'SIGINT']) {
  test(`${signal} ends an idle server at once, with 0`, async () => {
    const { code, ms } = await server.end(signal);
    assert.equal(code, 0);
    assert.ok(ms < 2_000, `${ms} ms`);
  });
}

test('clients on every transport are told, then disconnected; the exit code is 0', async () => {
  const clients = await Promise.all(FLAVOURS.map((flavour) => Client.open(server, flavour)));
  const plain = await PlainSocket.open(server);
  const stream = await EventStream.open(server, [freshChannel()]);
  await stream.event('welcome');
  const told = [
    ...clients.map(async (client, n) => {
      const { label } = FLAVOURS[n];
      const push = await client.push('moved').catch((error) => assert.fail(`${label}: ${error.message}`));
      return [label, push];
    }),
    plain.push('moved').then((push) => ['/ws', push]),
    stream.event('moved').then(({ data }) => ['/sse', data]),
  ];
  const gone = [
    ...clients.map((client) => next(client.socket, 'disconnect', BOUND_MS)),
    plain.end(),
    within(stream.ended, 'end of the stream', BOUND_MS),
  ];
  const ended = server.end('SIGTERM', BOUND_MS);
  for (const [label, push] of await Promise.all(told)) {
    assert.ok(push.within_ms >= 0 && push.within_ms <= 60_000, `${label}: ${JSON.stringify(push)}`);
  }
  await Promise.all(gone);
  assert.equal((await ended).code, 0);
});

test('what was acknowledged before the signal reaches its readers', async () => {
  const channel = freshChannel();
  const [reader, writer] = await Promise.all([Client.open(server), Client.open(server)]);
  await reader.subscribe(channel);
  const acks = Array.from({ length: 50 }, (_, n) => writer.publish(channel, n));
  const acked = (await Promise.all(acks)).length;
  const disconnected = next(reader.socket, 'disconnect', BOUND_MS);
  const ended = server.end('SIGTERM', BOUND_MS);
  await disconnected;
  assert.deepEqual(reader.messages(channel).map(({ data }) => data), Array.from({ length: acked }, (_, n) => n));
  assert.equal((await ended).code, 0);
});

test('a client that never reads does not hold the end up', async () => {
  const channel = freshChannel();
  const [deaf, writer] = await Promise.all([PlainSocket.open(server), Client.open(server)]);
  await deaf.call('subscribe', { channel });
  deaf.socket.pause();
  for (let n = 0; n < 10; n++) await writer.publish(channel, 'x'.repeat(100_000));
  const { code, ms } = await server.end('SIGTERM', BOUND_MS);
  assert.equal(code, 0);
  assert.ok(ms < BOUND_MS);
  deaf.socket.terminate();
});

test('while it drains it is not ready and takes nobody new', async () => {
  const clients = await Promise.all(Array.from({ length: 20 }, () => Client.open(server)));
  const ended = server.end('SIGTERM', BOUND_MS);
  const refused = await until(async () => {
    const ready = await fetch(`${server.url}/readyz`).catch(() => null);
    return ready === null || ready.status === 503;
  }, 'not ready');
  assert.ok(refused);
  await assert.rejects(Client.open(server));
  assert.equal((await ended).code, 0);
  clients.forEach((client) => client.close());
});
