// What was acknowledged is still there after kill -9: over a real restart, on the same data.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client, FLAVOURS, freshChannel, publishEnd } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { streamGoesOn } from '../sse.mjs';
import { next, until } from '../wait.mjs';

/** A client that reconnects by itself, quickly. */
const RECONNECTING = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0 };

const config = `
[limits]
events_per_second = 0
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "chat:*"
history = "durable"
`;

const secretOf = (name) => `${name}-and-a-secret-of-its-own`;
const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

describe('kill -9 and restart', () => {
  let server;
  before(async () => (server = await Server.start({ config })));
  after(() => server?.stop());
  const connect = (name, options) => Client.open(server, { identity: { guest: secretOf(name), name }, ...options });

  test('every acknowledged message has its place, its id and its data', async () => {
    const channel = freshChannel();
    const writer = await connect('writer');
    const acked = [];
    // Killed while publishes are under way.
    const publishing = range(1, 400).map((n) => {
      const id = `m-${n}`;
      return new Promise((resolve) => {
        writer.socket.emit('publish', { channel, data: { n, text: 'Grüße 세계 🙂' }, id }, ({ ok }) => resolve(ok && acked.push({ ...ok, n })));
      });
    });
    await until(() => acked.length >= 100, 'a hundred acks');
    await server.crash();
    void publishing;
    writer.close();

    const reader = await connect('reader');
    const kept = [];
    for (let after = 0, page; (page = await reader.call('history', { channel, after, limit: 100 })).messages.length > 0; after = kept.at(-1).seq) kept.push(...page.messages);
    assert.deepEqual(kept.map(({ seq }) => seq), range(1, kept.length));
    const bySeq = new Map(kept.map((message) => [message.seq, message]));
    for (const { seq, epoch, id, at, n } of acked) {
      const message = bySeq.get(seq);
      assert.deepEqual(
        [message?.id, message?.epoch, message?.at, message?.data, message?.from.name],
        [id, epoch, at, { n, text: 'Grüße 세계 🙂' }, 'writer'],
        `the ack of ${seq}`,
      );
    }
    assert.equal(new Set(kept.map(({ id }) => id)).size, kept.length);
    reader.close();
  });

  test('a retry by the same id after the restart is stored once, and answered as the first', async () => {
    const channel = freshChannel();
    const first = await connect('ann');
    const ack = await first.publish(channel, 'once', { id: 'the-id' });
    const edit = await first.call('edit', { channel, seq: ack.seq, data: 'twice', id: 'the-edit' });
    await server.crash();
    first.close();
    const second = await connect('ann');
    assert.deepEqual(await second.publish(channel, 'once', { id: 'the-id' }), ack);
    assert.deepEqual(await second.call('edit', { channel, seq: ack.seq, data: 'twice', id: 'the-edit' }), edit);
    const other = await connect('bob');
    assert.equal((await other.publish(channel, 'another sender\'s', { id: 'the-id' })).seq, 3);
    const { messages, head } = await other.call('history', { channel });
    assert.equal(head, 3);
    assert.deepEqual(messages.find(({ seq }) => seq === 1).data, 'twice');
    for (const client of [second, other]) client.close();
  });

  for (const { label, ...flavour } of FLAVOURS.filter(({ parser }) => !parser)) {
    test(`resumes without a hole over the restart (${label})`, async () => {
      const channel = freshChannel();
      const [reader, writer] = [await connect('reader', { ...flavour, ...RECONNECTING }), await connect('writer')];
      const { epoch } = await reader.subscribe(channel);
      for (const n of range(1, 5)) await writer.publish(channel, n);
      await reader.push('message', ({ seq }) => seq === 5);
      const back = (async () => {
        await next(reader.socket, 'disconnect');
        await next(reader.socket, 'connect', 15_000);
      })();
      await server.crash();
      await back;
      writer.close();
      const again = await connect('writer');
      for (const n of range(6, 42)) await again.publish(channel, n);
      const answer = await reader.subscribe(channel, { since: { epoch, seq: 5 } });
      assert.deepEqual([answer.recovered, answer.missed, answer.epoch, answer.seq], [true, 37, epoch, 42]);
      await again.publish(channel, 43);
      await publishEnd(again, channel);
      const messages = await reader.messagesUntilEnd(channel);
      assert.deepEqual(messages.map(({ data }) => data), range(1, 43));
      assert.deepEqual(messages.map(({ seq }) => seq), range(1, 43));
      for (const client of [reader, again]) client.close();
    });
  }

  test('resumes on /ws over the restart', async () => {
    const channel = freshChannel();
    const reader = await PlainSocket.open(server, { guest: secretOf('reader') });
    const { epoch } = await reader.call('subscribe', { channel });
    const writer = await connect('writer');
    for (const n of range(1, 20)) await writer.publish(channel, n);
    await server.crash();
    await reader.end();
    writer.close();
    const again = await PlainSocket.open(server, { guest: secretOf('reader') });
    const { recovered, missed } = await again.call('subscribe', { channel, since: { epoch, seq: 3 } });
    assert.deepEqual([recovered, missed], [true, 17]);
    await again.push('message', ({ seq }) => seq === 20);
    assert.deepEqual(again.messages(channel).map(({ data }) => data), range(4, 20));
    again.close();
  });

  test('an event stream goes on by Last-Event-ID', () =>
    streamGoesOn(server, { query: { guest: secretOf('ann') }, connect: () => connect('writer') }));
});

test('a server that is asked to stop keeps everything as well', async () => {
  const server = await Server.start({ config });
  const channel = freshChannel();
  const writer = await Client.open(server);
  const { epoch } = await writer.publish(channel, 1);
  await server.end('SIGTERM');
  await server.launch();
  const reader = await Client.open(server);
  const page = await reader.call('history', { channel });
  assert.deepEqual([page.epoch, page.head, page.messages[0].data], [epoch, 1, 1]);
  reader.close();
  await server.stop();
});
