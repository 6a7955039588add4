// Coming back: exactly what was missed, or an honest "not recovered".
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client, MAJORS, TRANSPORTS, freshChannel, publishEnd } from '../clients.mjs';
import { Server } from '../server.mjs';
import { next } from '../wait.mjs';

const MISSED = 37;

/** A client that reconnects by itself, quickly. */
const RECONNECTING = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0 };

const limits = `[limits]\nevents_per_second = 0\n`;
const config = `${limits}\n[apps.demo]\nguests = true\n[[apps.demo.rules]]\nchannels = "chat:*"\nhistory = "recent"\n`;

for (const [major, transport] of Object.keys(MAJORS).flatMap((major) => Object.keys(TRANSPORTS).map((transport) => [Number(major), transport]))) {
  describe(`resume, socket.io-client ${major}, ${transport}`, () => {
    let server, other;
    before(async () => {
      server = await Server.start({ config });
      other = await Client.open(server);
    });
    after(async () => {
      other?.close();
      await server?.stop();
    });

    test(`a dropped connection misses ${MISSED} and gets ${MISSED} back`, async () => {
      const channel = freshChannel();
      const client = await Client.open(server, { major, transport, ...RECONNECTING });
      const { epoch } = await client.subscribe(channel);
      await other.publish(channel, 'seen');
      await client.push('message');
      const before = client.messages(channel).at(-1).seq;

      const dropped = next(client.socket, 'disconnect');
      client.socket.io.reconnection(false);
      client.socket.io.engine.close();
      await dropped;
      for (let n = 1; n <= MISSED; n++) await other.publish(channel, n);
      client.socket.io.reconnection(true);
      client.socket.connect();
      await next(client.socket, 'connect');

      const live = other.publish(channel, 'live');
      const answer = await client.subscribe(channel, { since: { epoch, seq: before } });
      await live;
      assert.equal(answer.recovered, true);
      assert.ok(answer.missed === MISSED || answer.missed === MISSED + 1, `missed ${answer.missed}`);
      await publishEnd(other, channel);
      const messages = await client.messagesUntilEnd(channel);
      assert.deepEqual(messages.map((message) => message.data), ['seen', ...Array.from({ length: MISSED }, (_, n) => n + 1), 'live']);
      assert.deepEqual(messages.map((message) => message.seq), Array.from({ length: MISSED + 2 }, (_, n) => n + 1));
      client.close();
    });

    test('a killed and restarted server is found again; its new epoch says so', async () => {
      const channel = freshChannel();
      const client = await Client.open(server, { major, transport, ...RECONNECTING });
      const { epoch } = await client.subscribe(channel);
      await other.publish(channel, 'lost with the process');
      await client.push('message');

      const again = (async () => {
        await next(client.socket, 'disconnect');
        await next(client.socket, 'connect', 15_000);
      })();
      await server.end('SIGKILL');
      await server.launch();
      await again;
      other = await Client.open(server);
      await other.publish(channel, 'new life');

      const answer = await client.subscribe(channel, { since: { epoch, seq: 1 } });
      assert.equal(answer.recovered, false);
      assert.equal(answer.missed, 1);
      assert.notEqual(answer.epoch, epoch);
      await publishEnd(other, channel);
      assert.deepEqual((await client.messagesUntilEnd(channel)).map((message) => [message.data, message.epoch]), [
        ['lost with the process', epoch],
        ['new life', answer.epoch],
      ]);
      client.close();
    });
  });
}

describe('positions', () => {
  let server, client;
  before(async () => {
    server = await Server.start({
      config: `${limits}\n[apps.demo]\nguests = true\n[[apps.demo.rules]]\nchannels = "short:*"\nhistory = "recent"\nkeep = { count = 5 }\n[[apps.demo.rules]]\nchannels = "chat:*"\nhistory = "recent"\n`,
    });
    client = await Client.open(server);
  });
  after(async () => {
    client?.close();
    await server?.stop();
  });

  test('a position that history no longer reaches, or has not reached yet, is not recovered', async () => {
    const channel = freshChannel('short');
    const { epoch } = await client.subscribe(channel);
    for (let n = 1; n <= 12; n++) await client.publish(channel, n);
    const old = await client.subscribe(channel, { since: { epoch, seq: 2 } });
    assert.deepEqual([old.recovered, old.missed, old.seq], [false, 5, 12]);
    const ahead = await client.subscribe(channel, { since: { epoch, seq: 99 } });
    assert.equal(ahead.recovered, false);
    const edge = await client.subscribe(channel, { since: { epoch, seq: 7 } });
    assert.deepEqual([edge.recovered, edge.missed], [true, 5]);
    const head = await client.subscribe(channel, { since: { epoch, seq: 12 } });
    assert.deepEqual([head.recovered, head.missed], [true, 0]);
  });

  test('a resume that is larger than the outbox may grow comes whole and in order', async () => {
    const channel = freshChannel();
    const total = 9_000;
    const text = 'x'.repeat(400);
    const reader = await Client.open(server, { transport: 'websocket' });
    const { epoch } = await reader.subscribe(channel);
    for (let n = 0; n < total; n += 500) {
      await Promise.all(Array.from({ length: 500 }, (_, k) => client.publish(channel, `${n + k} ${text}`, { echo: false })));
    }
    reader.close();
    const late = await Client.open(server, { transport: 'websocket' });
    const answer = await late.subscribe(channel, { since: { epoch, seq: 0 } });
    assert.deepEqual([answer.recovered, answer.missed, answer.seq], [true, total, total]);
    await publishEnd(client, channel);
    await late.push('message', ({ seq }) => seq > total);
    assert.deepEqual(late.messages(channel).map(({ seq }) => seq), Array.from({ length: total + 1 }, (_, n) => n + 1));
    late.close();
  });

  test('history pages in both directions, ascending and without holes', async () => {
    const channel = freshChannel();
    const { epoch } = await client.subscribe(channel);
    for (let n = 1; n <= 120; n++) await client.publish(channel, n);
    const page = async (fields) => {
      const answer = await client.call('history', { channel, ...fields });
      assert.deepEqual([answer.epoch, answer.first, answer.head], [epoch, 1, 120]);
      return answer.messages.map((message) => message.seq);
    };
    const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
    assert.deepEqual(await page({}), range(71, 120));
    assert.deepEqual(await page({ limit: 3 }), range(118, 120));
    assert.deepEqual(await page({ before: 71, limit: 100 }), range(1, 70));
    assert.deepEqual(await page({ after: 0, limit: 100 }), range(1, 100));
    assert.deepEqual(await page({ after: 100 }), range(101, 120));
    assert.deepEqual(await page({ after: 120 }), []);
    for (const fields of [{ limit: 0 }, { limit: 101 }, { limit: 'many' }, { before: 5, after: 5 }, { before: -1 }, { after: 1.5 }]) {
      await assert.rejects(client.call('history', { channel, ...fields }), { code: 'bad_field' }, JSON.stringify(fields));
    }
    await assert.rejects(client.call('history', { channel: freshChannel('live') }));
  });
});
