// Several servers as one platform: two session servers and three channel servers behind nginx, which sends each request where it likes.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { Client, Refused, freshChannel, publishEnd } from '../clients.mjs';
import { CHANNEL_SERVERS, Cluster, PATIENCE_MS } from '../cluster.mjs';
import { download, png, upload } from '../files.mjs';
import { run } from '../python.mjs';
import { S3 } from '../s3.mjs';
import { CLIENT_COMPILER } from '../server.mjs';
import { until, within } from '../wait.mjs';

const APPS = `
[limits]
events_per_second = 0
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "chat:*"
history = "durable"
presence = true
[[apps.demo.rules]]
channels = "recent:*"
history = "recent"
[[apps.demo.rules]]
channels = "found:*"
history = "durable"
search = true
[[apps.demo.rules]]
channels = "live:*"
history = "none"
[[apps.demo.files]]
channels = "*"
`;

/** Between two messages of a writer, so that two cores can follow. */
const PACE_MS = 20;

const CLIENT = join(import.meta.dirname, '../../clients/js');
// Where it finds what it imports.
const built = join(CLIENT, `build/e2e-${process.pid}`);

let cluster, s3, connect;
before(
  async () => {
    mkdirSync(built, { recursive: true });
    const { code, stdout } = await run(CLIENT_COMPILER, ['-p', join(CLIENT, 'tsconfig.build.json'), '--outDir', built]);
    assert.equal(code, 0, stdout);
    ({ connect } = await import(join(built, 'index.js')));
    s3 = await S3.start();
    cluster = await Cluster.start(APPS + s3.config);
  },
  { timeout: 2 * PATIENCE_MS },
);
after(async () => {
  await cluster?.stop();
  await s3?.stop();
  rmSync(built, { recursive: true, force: true });
});

const range = (count) => Array.from({ length: count }, (_, n) => n + 1);

/** A client of ours that follows `channel`, and keeps all that it hears, and what becomes of its connection. */
class Reader {
  seqs = [];
  /** When each came. */
  times = [];
  states = [];
  gaps = [];

  constructor(channel, home = cluster.url, options = { assign: true }) {
    this.client = connect(home, { storage: null, ...options });
    this.channel = this.client.channel(channel);
    this.channel.on('message', ({ seq }) => {
      this.seqs.push(seq);
      this.times.push(performance.now());
    });
    this.channel.on('gap', (gap) => this.gaps.push(gap));
    this.client.on('state', ({ status }) => this.states.push(status));
  }

  static async open(...args) {
    const reader = new Reader(...args);
    await within(reader.channel.subscribe(), 'answer to subscribe', PATIENCE_MS);
    return reader;
  }

  /** The name of the server that it is connected to. */
  server() {
    return cluster.nameOf(this.client.welcome.node);
  }

  async hears(seq) {
    await until(() => this.seqs.at(-1) >= seq, `hears of ${seq}`, PATIENCE_MS).catch((error) => {
      throw new Error(`${error.message}: ${this.seqs.length} came, the last ${this.seqs.at(-1)}; ${JSON.stringify(this.client.state)} ${this.states}`);
    });
  }

  /** The longest time without a message, in ms. */
  longestSilence(since = 0) {
    const times = this.times.filter((time) => time >= since);
    return Math.max(...times.slice(1).map((time, n) => time - times[n]));
  }

  /** All messages of the channel up to `count`, each once and in order. */
  heardAll(count) {
    assert.deepEqual(this.gaps, []);
    assert.deepEqual(this.seqs, range(count));
  }
}

/** Publishes one message after the other until it is told to stop; each is acked. */
class Writer {
  acked = [];
  #going = true;

  constructor(channel, options = { assign: true }) {
    this.client = connect(cluster.url, { storage: null, ...options });
    this.channel = this.client.channel(channel);
    this.done = this.#write();
    this.done.catch(() => undefined);
  }

  async #write() {
    for (let n = 0; this.#going; n++) {
      const { seq } = await within(this.channel.publish(n), 'ack', PATIENCE_MS);
      this.acked.push(seq);
      await pause(PACE_MS);
    }
  }

  /** Waits for `count` more acks. */
  async more(count) {
    const wanted = this.acked.length + count;
    await Promise.race([until(() => this.acked.length >= wanted, `${count} more acks`, PATIENCE_MS), this.done]);
  }

  async stop() {
    this.#going = false;
    await this.done;
    this.client.close();
  }
}

/** Readers heard all that was acked, once and in order, and nothing else was stored. */
async function allIsThere(readers, writers) {
  for (const writer of writers) await writer.stop();
  const acked = writers.flatMap((writer) => writer.acked).toSorted((a, b) => a - b);
  assert.deepEqual(acked, range(acked.length), 'each ack names a place of its own, without holes');
  for (const reader of readers) {
    await reader.hears(acked.length);
    reader.heardAll(acked.length);
    reader.client.close();
  }
  return acked.length;
}

/** Publishes until it is acked, by the same id: on a busy machine the store may take longer than the server waits for it. */
async function publish(client, channel, data) {
  const id = `${channel}-${JSON.stringify(data)}`;
  await until(
    () =>
      client.publish(channel, data, { id }).then(
        () => true,
        (error) => {
          if (!(error instanceof Refused) || error.retry === 'no') throw error;
          return false;
        },
      ),
    `${data} acked`,
    PATIENCE_MS,
  );
}

const OPEN = { reconnection: false, timeout: PATIENCE_MS };

for (const kind of ['chat', 'recent']) {
  test(`${kind}: whatever their transport and server, all see one order with no hole`, async () => {
    const channel = freshChannel(kind);
    const relayed = await cluster.metric('xpush_relayed_total');
    const front = ['polling', 'polling', 'websocket', 'websocket', 'upgrade', 'upgrade'].map((transport) => Client.open(cluster, { transport, ...OPEN }));
    const direct = CHANNEL_SERVERS.map((name) => Client.open({ url: cluster.urlOf(name) }, OPEN));
    const clients = await Promise.all([...front, ...direct]);
    const nodes = new Set((await Promise.all(clients.map((client) => client.push('welcome')))).map(({ node }) => node));
    assert.equal(nodes.size, CHANNEL_SERVERS.length, 'every server has some of them');
    const answers = await Promise.all(clients.map((client) => client.subscribe(channel)));
    assert.equal(new Set(answers.map(({ epoch }) => epoch)).size, 1);
    const each = 10;
    await Promise.all(
      clients.map(async (client, place) => {
        for (let n = 0; n < each; n++) await publish(client, channel, `${place}-${n}`);
      }),
    );
    await publishEnd(clients[0], channel);
    const [first, ...others] = await Promise.all(clients.map((client) => client.messagesUntilEnd(channel)));
    assert.deepEqual(first.map(({ seq }) => seq), range(clients.length * each));
    for (const other of others) assert.deepEqual(other.map(({ seq, data, from }) => [seq, data, from]), first.map(({ seq, data, from }) => [seq, data, from]));
    // Each client's own messages are in the order in which it sent them.
    clients.forEach((_, place) => assert.deepEqual(first.map(({ data }) => data).filter((data) => data.startsWith(`${place}-`)), range(each).map((n) => `${place}-${n - 1}`)));
    assert.ok((await cluster.metric('xpush_relayed_total')) > relayed, 'round robin sent some to the wrong server');
    clients.forEach((client) => client.close());
  });
}

test('nothing is kept, and still every server delivers', async () => {
  const channel = freshChannel('live');
  const clients = await Promise.all(CHANNEL_SERVERS.map((name) => Client.open({ url: cluster.urlOf(name) }, OPEN)));
  for (const client of clients) await client.subscribe(channel);
  for (let n = 0; n < 20; n++) await clients[n % clients.length].publish(channel, n);
  for (const client of clients) await publishEnd(client, channel);
  for (const client of clients) {
    await until(() => client.messages(channel).filter(({ event }) => event === 'end').length === clients.length, 'the ends of all', PATIENCE_MS);
    const data = client.messages(channel).filter(({ event }) => event !== 'end').map((message) => message.data);
    assert.deepEqual(data.toSorted((a, b) => a - b), range(20).map((n) => n - 1));
  }
  clients.forEach((client) => client.close());
});

test('every server finds what was said at any of them, and no more what was deleted', { timeout: PATIENCE_MS }, async () => {
  const channel = freshChannel('found');
  const clients = await Promise.all(CHANNEL_SERVERS.map((name) => Client.open({ url: cluster.urlOf(name) }, OPEN)));
  const texts = ['the ferry leaves', 'the ferry arrives', 'no ship today'];
  const seqs = [];
  for (const [n, text] of texts.entries()) seqs.push((await clients[n % clients.length].publish(channel, { text })).seq);
  const search = async (client, query) => (await client.call('search', { channel, query })).hits.map(({ message }) => message.seq);
  for (const client of clients) {
    const found = () => search(client, 'ferry').then((hits) => hits.length === 2 && hits);
    assert.deepEqual(await until(found, 'both are found', PATIENCE_MS), [seqs[1], seqs[0]]);
  }
  await clients[1].call('delete', { channel, seq: seqs[1] });
  for (const client of clients) assert.deepEqual(await search(client, 'ferry'), [seqs[0]]);
  clients.forEach((client) => client.close());
});

test('how far one has read is told to one\'s other device at another server, and to nobody else', async () => {
  const channel = freshChannel('chat');
  const at = (server, secret) => Client.open({ url: cluster.urlOf(server) }, { identity: { guest: `the secret of ${secret} at two servers` } });
  const [phone, laptop, other] = await Promise.all([at('n1', 'ann'), at('n2', 'ann'), at('n2', 'bob')]);
  await Promise.all([phone.subscribe(channel), other.subscribe(channel)]);
  const seqs = [];
  for (const data of [1, 2, 3]) seqs.push((await other.publish(channel, data)).seq);
  const { unread } = await phone.call('read', { channel, seq: seqs[1] });
  assert.equal(unread, 1);
  // The laptop follows nothing: it is told because it is the same user's.
  const told = await laptop.push('read', (push) => push.channel === channel);
  assert.equal(told.seq, seqs[1]);
  await phone.call('read', { channel, seq: seqs[2] });
  await laptop.push('read', (push) => push.seq === seqs[2]);
  // What comes behind it shows that nothing came before.
  await phone.publish(channel, 'behind');
  await other.push('message', (message) => message.data === 'behind');
  assert.deepEqual(other.pushes.items.filter(({ name }) => name === 'read'), []);
  [phone, laptop, other].forEach((client) => client.close());
});

test('both session servers say where to connect, and mean the same', async () => {
  const channels = range(60).map(() => freshChannel());
  const servers = new Set();
  for (const channel of channels) {
    const answers = await Promise.all(
      ['s1', 's2'].map(async (name) => (await fetch(`${cluster.urlOf(name)}/api/v1/assign?channel=${channel}`)).json()),
    );
    const [url, other] = answers.map(({ ok }) => ok.channels[0].url);
    assert.equal(url, other);
    servers.add(url);
  }
  assert.deepEqual([...servers].toSorted(), CHANNEL_SERVERS.map((name) => cluster.urlOf(name)).toSorted(), 'channels are spread over all');
  const { status, result } = await (await fetch(`${cluster.url}/node/demo/${channels[0]}`)).json();
  assert.equal(status, 'ok');
  assert.ok(servers.has(result.server.url), result.server.url);
  assert.equal((await fetch(`${cluster.url}/metrics`)).status, 401, 'figures are for who has the password');
  const operator = { authorization: `Basic ${Buffer.from('operator:secret').toString('base64')}` };
  assert.match(await (await fetch(`${cluster.url}/metrics`, { headers: operator })).text(), /# EOF/);
});

test('who is there is one list, whichever server one asks', async () => {
  const channel = freshChannel();
  const open = (name) => Client.open({ url: cluster.urlOf(name) }, { ...OPEN, identity: { name } });
  const [a, b, c] = await Promise.all(CHANNEL_SERVERS.map(open));
  await a.subscribe(channel, { presence: true });
  await b.subscribe(channel, { presence: true });
  const { user } = await b.push('welcome');
  await a.push('presence', (push) => push.joined?.some((one) => one.user === user));
  await c.subscribe(channel);
  const { user: third } = await c.push('welcome');
  for (const client of [a, b]) await client.push('presence', (push) => push.joined?.some((one) => one.user === third));
  const lists = await Promise.all([a, b, c].map(async (client) => (await client.call('presence', { channel })).users.map((one) => one.user).toSorted()));
  assert.equal(lists[0].length, 3);
  assert.deepEqual(lists[1], lists[0]);
  assert.deepEqual(lists[2], lists[0]);
  c.close();
  for (const client of [a, b]) await client.push('presence', (push) => push.left?.some((one) => one === third || one.user === third));
  [a, b].forEach((client) => client.close());
});

test('a server is killed: its clients go on at another one, and nothing is lost or doubled', { timeout: 2 * PATIENCE_MS }, async (t) => {
  const channel = freshChannel();
  const reader = await Reader.open(channel);
  const victim = await reader.server();
  const elsewhere = cluster.urlOf(CHANNEL_SERVERS.find((name) => name !== victim));
  const far = await Reader.open(channel, elsewhere, {});
  const writers = [new Writer(channel), new Writer(channel, { assign: () => Promise.resolve(elsewhere) })];
  for (const writer of writers) await writer.more(10);
  const killed = performance.now();
  await cluster.end(victim, 'SIGKILL');
  const before = reader.seqs.length;
  await until(() => reader.seqs.length > before + 5, 'heard again', PATIENCE_MS);
  const healed = reader.times[before] - killed;
  for (const writer of writers) await writer.more(10);
  assert.notEqual(await reader.server(), victim);
  const count = await allIsThere([reader, far], writers);
  t.diagnostic(`${count} messages; the killed server's reader heard again after ${healed.toFixed(0)} ms, others were silent for ${far.longestSilence().toFixed(0)} ms at most`);
  await cluster.launch(victim);
  await cluster.settled(CHANNEL_SERVERS);
});

test('a file goes in by one session server and out by the other, and is gone at both', { timeout: PATIENCE_MS }, async () => {
  const channel = freshChannel();
  const token = /xk_demo\.[\w.-]+/.exec(await cluster.command('app', 'key', 'create', 'demo', '--scope', 'admin'))[0];
  const [one, other] = ['s1', 's2'].map((name) => ({ url: cluster.urlOf(name) }));
  const { file } = await until(async () => {
    const { status, body } = await upload(one, { channel, token, user: 'ann', name: 'sky.png', body: png(600, 300) });
    return status === 201 ? body : undefined;
  }, 'the key is known at the first server');
  const whole = await until(async () => {
    const got = await download(other, file.url, { token });
    return got.status === 200 ? got : undefined;
  }, 'the key is known at the second server');
  assert.equal(whole.bytes.length, file.size);
  const part = await download(other, file.url, { token, headers: { range: 'bytes=1-3' } });
  assert.deepEqual([part.status, part.bytes.toString()], [206, 'PNG']);
  // A ticket of the one is good at the other, also through nginx.
  const { ticket } = await (await fetch(`${one.url}/api/v1/channels/${channel}/files/ticket`, { method: 'POST', headers: { authorization: `Bearer ${token}` } })).json();
  for (const server of [other, cluster]) assert.equal((await download(server, `${file.thumbnail.url}?ticket=${ticket}`)).status, 200);
  assert.deepEqual(s3.objects(), [file.id, `${file.id}.thumbnail`]);
  assert.equal((await download(other, file.url, { token, method: 'DELETE' })).status, 200);
  assert.equal((await download(one, file.url, { token })).status, 404);
  assert.deepEqual(s3.objects(), []);
});

test('a server is drained: its clients move on without noticing, and it takes nobody', { timeout: 2 * PATIENCE_MS }, async (t) => {
  const channel = freshChannel();
  const first = await Reader.open(channel);
  const drained = await first.server();
  const readers = [first];
  for (let n = 0; n < 3; n++) readers.push(await Reader.open(channel, cluster.urlOf(drained), {}));
  const writer = new Writer(channel);
  await writer.more(5);
  const began = performance.now();
  await cluster.command('drain', drained);
  t.after(() => cluster.command('undrain', drained));
  const { id } = (await cluster.nodes()).nodes.find(({ name }) => name === drained);
  await until(() => readers.every(({ client }) => client.welcome.node !== id), 'all elsewhere', PATIENCE_MS);
  const took = performance.now() - began;
  await writer.more(5);
  for (const reader of readers) {
    assert.ok(reader.states.every((status) => status === 'connecting' || status === 'online'), `${reader.states}`);
    assert.ok(reader.states.filter((status) => status === 'connecting').length <= 1, `${reader.states}`);
  }
  const silence = Math.max(...readers.map((reader) => reader.longestSilence(began)));
  const count = await allIsThere(readers, [writer]);
  t.diagnostic(`${count} messages; empty after ${took.toFixed(0)} ms; nobody was without a message for more than ${silence.toFixed(0)} ms`);
  const load = async () => (await cluster.nodes()).nodes.find(({ name }) => name === drained).connections;
  await until(async () => (await load()) === 0, `${drained} says that it is empty`, PATIENCE_MS);
  assert.equal((await fetch(`${cluster.urlOf(drained)}/readyz`)).status, 503);
  for (let n = 0; n < 10; n++) {
    const { ok } = await (await fetch(`${cluster.url}/api/v1/assign?channel=${freshChannel()}`)).json();
    assert.notEqual(ok.channels[0].url, cluster.urlOf(drained));
  }
  // nginx still sends a third of the new ones there, one of three that make one request each, and passes on to the next.
  for (const transport of ['websocket', 'websocket', 'websocket', 'polling', 'polling', 'polling']) {
    const client = await Client.open(cluster, { transport, ...OPEN });
    await client.subscribe(channel);
    client.close();
  }
  await cluster.command('undrain', drained);
  await cluster.settled(CHANNEL_SERVERS);
  await until(async () => (await fetch(`${cluster.urlOf(drained)}/readyz`)).ok, 'ready again', PATIENCE_MS);
});

test('all channel servers are restarted, one after the other, under load: nothing is lost or doubled', { timeout: 2 * PATIENCE_MS }, async (t) => {
  const channel = freshChannel();
  const readers = await Promise.all([
    Reader.open(channel),
    Reader.open(channel, cluster.url, {}),
    Reader.open(channel, cluster.urlOf('n1'), { assign: () => Promise.resolve(cluster.url) }),
  ]);
  const writers = [new Writer(channel), new Writer(channel, {})];
  for (const name of CHANNEL_SERVERS) {
    await writers[0].more(5);
    assert.equal(await cluster.end(name, 'SIGTERM'), 0, cluster.logOf(name));
    await cluster.launch(name);
    await cluster.settled(CHANNEL_SERVERS);
  }
  for (const writer of writers) await writer.more(5);
  const silence = Math.max(...readers.map((reader) => reader.longestSilence()));
  const count = await allIsThere(readers, writers);
  t.diagnostic(`${count} messages; the longest silence of a reader was ${silence.toFixed(0)} ms`);
});
