// Back ends that publish by socket.io's ordinary emitter over Redis (https://www.npmjs.com/package/@socket.io/redis-emitter): every server serves its own subscribers.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createClient } from '@redis/client';
import { Emitter } from '@socket.io/redis-emitter';
import { Client, freshChannel } from '../clients.mjs';
import { CHANNEL_SERVERS, Cluster, PATIENCE_MS } from '../cluster.mjs';
import { run } from '../python.mjs';
import { blocksOf } from '../snippets.mjs';
import { until } from '../wait.mjs';

const E2E = join(import.meta.dirname, '..');

const APPS = `
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "chat:*"
history = "durable"
[[apps.demo.rules]]
channels = "recent:*"
history = "recent"
[[apps.demo.rules]]
channels = "live:*"
history = "none"
`;

let cluster, redis;
before(
  async () => {
    cluster = await Cluster.start(APPS, { redis: 'emitters = "socket.io"' });
    redis = await createClient({ url: cluster.redis }).connect();
  },
  { timeout: 2 * PATIENCE_MS },
);
after(async () => {
  redis?.destroy();
  await cluster?.stop();
});

/** One figure of a server. */
async function figure(server, name) {
  const text = await (await fetch(`${cluster.urlOf(server)}/metrics`)).text();
  const found = new RegExp(`^${name} (\\d+)$`, 'm').exec(text);
  assert.ok(found, `${name} is not among\n${text}`);
  return Number(found[1]);
}

const taken = (server) => figure(server, 'xpush_emissions_taken_total');
const refused = (server) => figure(server, 'xpush_emissions_refused_total');

test('the lines of docs/cluster.md do what it says', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xpush-emitter-'));
  t.after(() => rmSync(folder, { recursive: true }));
  symlinkSync(join(E2E, 'node_modules'), join(folder, 'node_modules'));
  const { text } = blocksOf(readFileSync(join(E2E, '../docs/cluster.md'), 'utf8')).find(({ words }) => words.includes('file=goal.mjs'));
  assert.ok(text.includes('redis://redis.example.com:6379'));
  writeFileSync(join(folder, 'goal.mjs'), text.replace('redis://redis.example.com:6379', cluster.redis));
  const client = await Client.open({ url: cluster.urlOf('n2') });
  await client.subscribe('live:scores');
  const { code, stderr } = await run(process.execPath, [join(folder, 'goal.mjs')]);
  assert.equal(code, 0, stderr);
  const { event, data, from } = await client.push('message');
  assert.deepEqual([event, data, from.user], ['goal', { team: 'home' }, 'server']);
  client.close();
});

test('an emission reaches the subscribers of every server, once', async () => {
  const channel = freshChannel('live');
  const clients = await Promise.all(CHANNEL_SERVERS.map((server) => Client.open({ url: cluster.urlOf(server) })));
  for (const client of clients) await client.subscribe(channel);
  const before = await Promise.all(CHANNEL_SERVERS.map(taken));
  const emitter = new Emitter(redis);
  for (let n = 1; n <= 3; n++) emitter.to(channel).emit('goal', { team: 'home', n });
  emitter.in([channel, freshChannel('live')]).emit('goal', { team: 'away', n: 4 });
  for (const client of clients) {
    await until(() => client.messages(channel).length >= 4, 'four goals', PATIENCE_MS);
    const goals = client.messages(channel);
    assert.deepEqual(goals.map(({ data }) => data.n), [1, 2, 3, 4]);
    for (const goal of goals) {
      assert.deepEqual([goal.channel, goal.event, goal.from.user, goal.seq], [channel, 'goal', 'server', undefined]);
    }
  }
  for (const [at, server] of CHANNEL_SERVERS.entries()) {
    await until(async () => (await taken(server)) === before[at] + 5, 'five are counted', PATIENCE_MS);
  }
  clients.forEach((client) => client.close());
});

test('what an emitter may not do is refused, counted, and reaches nobody', async () => {
  const [live, kept, recent] = ['live', 'chat', 'recent'].map((kind) => freshChannel(kind));
  const client = await Client.open({ url: cluster.urlOf('n1') });
  for (const channel of [live, kept, recent]) await client.subscribe(channel);
  const emitter = new Emitter(redis);
  const attempts = [
    ['a durable channel', () => emitter.to(kept).emit('goal', 1)],
    ['a channel with recent history', () => emitter.to(recent).emit('goal', 1)],
    ['a channel without a rule', () => emitter.to('nowhere:1').emit('goal', 1)],
    ['a name that no channel has', () => emitter.to('not a channel').emit('goal', 1)],
    ['everybody', () => emitter.emit('goal', 1)],
    ['a reserved event', () => emitter.to(live).emit('presence', 1)],
    ['several arguments', () => emitter.to(live).emit('goal', 1, 2)],
    ['exceptions', () => emitter.to(live).except(kept).emit('goal', 1)],
    ['a request to servers', () => emitter.in(live).disconnectSockets()],
    ['another request', () => emitter.in(live).socketsJoin(kept)],
    ['garbage', () => redis.publish(`socket.io#/#${live}#`, 'garbage')],
  ];
  for (const [what, attempt] of attempts) {
    const before = await refused('n1');
    attempt();
    await until(async () => (await refused('n1')) > before, `${what} is counted`, PATIENCE_MS);
    assert.equal(await refused('n1'), before + 1, what);
  }
  emitter.to(live).emit('goal', 'the last');
  await until(() => client.messages(live).length > 0, 'the last', PATIENCE_MS);
  const heard = client.pushes.items.filter(({ name }) => name === 'message').map(({ push }) => push.data);
  assert.deepEqual(heard, ['the last']);
  assert.match(cluster.logOf('n1'), /an emission on redis is refused/);
  client.close();
});

test('what goes over the bus is counted', async () => {
  const channel = freshChannel('chat');
  const [writer, reader] = await Promise.all(['n1', 'n2'].map((server) => Client.open({ url: cluster.urlOf(server) })));
  await reader.subscribe(channel);
  const [published, received] = [await figure('n1', 'xpush_bus_published_total'), await figure('n2', 'xpush_bus_received_total')];
  await writer.publish(channel, 1);
  await until(() => reader.messages(channel).length === 1, 'it comes', PATIENCE_MS);
  assert.ok((await figure('n1', 'xpush_bus_published_total')) > published);
  assert.ok((await figure('n2', 'xpush_bus_received_total')) > received);
  for (const server of CHANNEL_SERVERS) {
    assert.equal(await figure(server, 'xpush_bus_lost_total'), 0);
    assert.equal(await figure(server, 'xpush_bus_unreadable_total'), 0);
    assert.ok((await figure(server, 'xpush_bus_connections_total')) >= 1);
  }
  [writer, reader].forEach((client) => client.close());
});
