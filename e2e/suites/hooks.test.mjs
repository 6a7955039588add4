// An app's back end is told what happens, signed, in order and at least once; and asked before it happens.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Backend, SECRET } from '../backend.mjs';
import { Client } from '../clients.mjs';
import { keysOf, token as signed } from '../jwt.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';


const config = (backend, hook) => `
[hooks]
allow_private = true
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "durable:*"
history = "durable"
[[apps.demo.rules]]
channels = "recent:*"
history = "recent"
[[apps.demo.rules]]
channels = "*"
${keysOf('demo')}
[[apps.demo.hooks]]
url = "${backend.url}"
secret = "${SECRET}"
${hook}
`;

const token = (sub) => signed({ sub, app: 'demo' });

describe('events', () => {
  let server, backend, open = [];
  before(async () => {
    const events = 'events = ["connected", "disconnected", "occupied", "vacated", "message", "online", "offline"]';
    ({ backend, server } = await Backend.beside((backend) => config(backend, events)));
  });
  after(() => Promise.all([server?.stop(), backend?.stop()]));
  afterEach(() => {
    open.forEach((client) => client.close());
    open = [];
    backend.takes = () => 204;
  });
  const client = async (options) => {
    const one = await Client.open(server, options);
    open.push(one);
    return one;
  };

  test('who comes and goes, and which channels are in use', async () => {
    const ann = await client({ identity: { token: token('ann'), device: 'web' } });
    await ann.call('subscribe', { channel: 'live' });
    ann.close();
    const of = (type) => backend.of(type).filter((event) => event.user === 'ann' || event.channel === 'live');
    await until(() => of('offline').length === 1, 'ann is offline');
    const [connected, disconnected] = [of('connected')[0], of('disconnected')[0]];
    assert.deepEqual([connected.guest, connected.device], [false, 'web']);
    assert.equal(connected.connection, disconnected.connection);
    assert.deepEqual([of('online')[0].state, of('offline')[0].state], ['online', 'offline']);
    const types = backend.events.filter((event) => event.user === 'ann').map((event) => event.type);
    assert.deepEqual(types.toSorted(), ['connected', 'disconnected', 'offline', 'online']);
    for (const [first, then] of [['connected', 'disconnected'], ['online', 'offline']]) {
      assert.ok(types.indexOf(first) < types.indexOf(then), types.join());
    }
    await until(() => of('vacated').length === 1, 'vacated');
    const channel = backend.events.filter((event) => event.channel === 'live').map((event) => event.type);
    assert.deepEqual(channel, ['occupied', 'vacated']);
  });

  for (const channel of ['durable:a', 'recent:a', 'plain:a']) {
    test(`messages of ${channel}, once each and in order`, async () => {
      const ann = await client({ identity: { token: token('ann') } });
      const published = await Promise.all(Array.from({ length: 50 }, (_, n) => ann.call('publish', { channel, data: { n } })));
      const mine = () => backend.of('message').filter((event) => event.channel === channel);
      await until(() => mine().length === 50, 'all of them');
      assert.deepEqual(mine().map(({ message }) => message.data.n), Array.from({ length: 50 }, (_, n) => n));
      assert.deepEqual(mine().map(({ message }) => message.id), published.map(({ id }) => id));
      const { message } = mine()[0];
      assert.deepEqual([message.event, message.from.user, message.kind], ['message', 'ann', 'message']);
      assert.equal(message.seq, published[0].seq);
    });
  }

  test('edits and deletions, too', async () => {
    const ann = await client({ identity: { token: token('ann') } });
    const { seq } = await ann.call('publish', { channel: 'durable:e', data: 1 });
    await ann.call('edit', { channel: 'durable:e', seq, data: 2 });
    await ann.call('delete', { channel: 'durable:e', seq });
    const mine = () => backend.of('message').filter((event) => event.channel === 'durable:e').map(({ message }) => message);
    await until(() => mine().length === 3, 'all of them');
    assert.deepEqual(mine().map(({ kind, target, data }) => [kind, target, data]), [
      ['message', undefined, 1],
      ['edit', seq, 2],
      ['delete', seq, undefined],
    ]);
  });

  test('a server that is asked to stop tells, sooner or later, who went with it', async () => {
    await client({ identity: { token: token('last') } });
    await until(() => backend.of('connected').some((event) => event.user === 'last'), 'connected');
    const { code } = await server.end('SIGTERM');
    assert.equal(code, 0);
    await server.launch();
    await until(() => backend.of('disconnected').some((event) => event.user === 'last'), 'disconnected', 60_000);
  });

  test('what was acknowledged is told after kill -9, in order, with the same id each time', async () => {
    backend.takes = () => 503;
    const ann = await client({ identity: { token: token('ann') } });
    const channel = 'durable:crash';
    const ids = [];
    for (let round = 0; round < 3; round++) {
      const calls = Array.from({ length: 40 }, (_, n) => ann.call('publish', { channel, data: { n: round * 40 + n } }));
      for (const { id } of await Promise.all(calls)) ids.push(id);
    }
    await server.end('SIGKILL');
    backend.takes = () => 204;
    await server.launch();
    const taken = () => backend.of('message').filter((event) => event.channel === channel && event.status === 204);
    await until(() => new Set(taken().map(({ message }) => message.id)).size === 120, 'all of them', 60_000);
    const first = [...new Set(taken().map(({ message }) => message.id))];
    assert.deepEqual(first, ids);
    const all = backend.of('message').filter((event) => event.channel === channel);
    for (const id of ids) {
      const told = new Set(all.filter(({ message }) => message.id === id).map((event) => event.id));
      assert.equal(told.size, 1, 'the event has one id, however often it is told');
    }
    assert.equal(backend.forged, 0);
    assert.doesNotMatch(server.log, new RegExp(SECRET.slice(6)));
  });
});

describe('questions', () => {
  let server, backend, open = [];
  before(async () => {
    const asks = 'asks = ["connect", "subscribe", "publish"]\ntimeout = "1s"';
    ({ backend, server } = await Backend.beside((backend) => config(backend, asks)));
  });
  after(() => Promise.all([server?.stop(), backend?.stop()]));
  afterEach(() => {
    open.forEach((client) => client.close());
    open = [];
    backend.answer = () => ({ body: { allow: true } });
    backend.asks.length = 0;
  });
  const client = async (options) => {
    const one = await Client.open(server, options);
    open.push(one);
    return one;
  };
  const answers = (by) => (backend.answer = (ask) => ({ body: { allow: true, ...by[ask.type]?.(ask) } }));

  test('connect: guests and users are admitted, renamed, limited or refused', async () => {
    answers({
      connect: ({ user, guest, name }) =>
        guest ? { allow: name === 'Good', reason: 'who are you?' } : { name: 'Dr. Ann', channels: { 'recent:*': ['subscribe'] } },
    });
    await client({ identity: { name: 'Good' } });
    await assert.rejects(client({ identity: { name: 'Bad' } }), /who are you/);
    const ann = await client({ identity: { token: token('ann') } });
    const { name } = ann.pushes.items.find((one) => one.name === 'welcome').push;
    assert.equal(name, 'Dr. Ann');
    await ann.call('subscribe', { channel: 'recent:a' });
    await assert.rejects(ann.call('publish', { channel: 'recent:a', data: 1 }), { code: 'forbidden' });
    await assert.rejects(ann.call('subscribe', { channel: 'durable:a' }), { code: 'forbidden' });
    const asked = backend.asks.find((ask) => ask.type === 'connect' && ask.user === 'ann');
    assert.deepEqual([asked.guest, asked.address], [false, '127.0.0.1']);
  });

  test('event streams and XPUSH 0.1 are asked about, too', async () => {
    answers({ connect: () => ({ allow: false, reason: 'closed' }) });
    const stream = await fetch(`${server.url}/sse?channel=recent:a`);
    assert.equal(stream.status, 403);
    assert.equal((await stream.json()).error.message, 'closed');
    answers({ subscribe: () => ({ allow: false }) });
    const other = await fetch(`${server.url}/sse?channel=recent:a`);
    assert.equal(other.status, 403);
  });

  test('subscribe: what one may do in a channel, asked once', async () => {
    answers({ subscribe: ({ channel }) => ({ allow: channel !== 'recent:no', permissions: ['subscribe', 'history'] }) });
    const ann = await client({ identity: { token: token('ann') } });
    await assert.rejects(ann.call('subscribe', { channel: 'recent:no' }), { code: 'forbidden' });
    await ann.call('subscribe', { channel: 'recent:yes' });
    await ann.call('history', { channel: 'recent:yes' });
    await assert.rejects(ann.call('publish', { channel: 'recent:yes', data: 1 }), { code: 'forbidden' });
    const asked = backend.asks.filter((ask) => ask.channel === 'recent:yes');
    assert.equal(asked.length, 1);
    assert.ok(asked[0].permissions.includes('publish'), 'what one may without the hook');
  });

  test('publish: what the back end itself publishes is asked about where a hook says so, and nowhere else', async () => {
    answers({ publish: ({ data }) => (data.n === 3 ? { allow: false, reason: 'no threes' } : data.n === 4 ? { data: { n: 4, amended: true } } : {}) });
    const asking = await Server.start({ config: config(backend, 'asks = ["publish"]\napi = true') });
    try {
      for (const [where, isAsked] of [[server, false], [asking, true]]) {
        const before = backend.asks.length;
        const key = /xk_demo\.[\w.-]+/.exec(await where.command('app', 'key', 'create', 'demo', '--scope', 'admin'))[0];
        const messages = Array.from({ length: 6 }, (_, n) => ({ channel: 'recent:api', data: { n }, from: { user: 'ann' } }));
        const post = (path, body) => fetch(`${where.url}/api/v1/${path}`, { method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: JSON.stringify(body) });
        const { results } = await (await post('messages/batch', { messages })).json();
        const asked = backend.asks.slice(before);
        assert.deepEqual(asked.map(({ data, user }) => [data.n, user]), isAsked ? messages.map(({ data }) => [data.n, 'ann']) : []);
        assert.deepEqual(results.map(({ ok, error }) => ok?.seq ?? error.message), isAsked ? [1, 2, 3, 'no threes', 4, 5] : [1, 2, 3, 4, 5, 6]);
        const page = await fetch(`${where.url}/api/v1/channels/recent:api/messages`, { headers: { authorization: `Bearer ${key}` } });
        const amended = (await page.json()).messages.filter(({ data }) => data.amended);
        assert.equal(amended.length, isAsked ? 1 : 0);
        const one = await post('messages', messages[3]);
        assert.equal(one.status, isAsked ? 403 : 200);
      }
    } finally {
      await asking.stop();
    }
  });

  test('publish: amended, refused with a reason, and still in order', async () => {
    answers({
      publish: ({ data }) => (data.n % 10 === 3 ? { allow: false, reason: 'no threes' } : data.n % 10 === 4 ? { data: { n: data.n, amended: true } } : {}),
    });
    const [ann, bob] = [await client(), await client()];
    await bob.call('subscribe', { channel: 'recent:p' });
    const results = await Promise.allSettled(
      Array.from({ length: 40 }, (_, n) => ann.call('publish', { channel: 'recent:p', data: { n } })),
    );
    const refused = results.filter(({ status }) => status === 'rejected').map(({ reason }) => reason.message);
    assert.deepEqual(refused, Array(4).fill('no threes'));
    await bob.push('message', (message) => message.data.n === 39);
    const got = bob.pushes.items.filter((one) => one.name === 'message').map((one) => one.push.data);
    assert.deepEqual(got.map(({ n }) => n), Array.from({ length: 40 }, (_, n) => n).filter((n) => n % 10 !== 3));
    assert.ok(got.every(({ n, amended }) => Boolean(amended) === (n % 10 === 4)));
  });

  test('an edit is asked about like the message', async () => {
    const ann = await client({ identity: { token: token('ann') } });
    const { seq } = await ann.call('publish', { channel: 'durable:x', data: 'fine' });
    answers({ publish: ({ data }) => ({ allow: data !== 'rude' }) });
    await assert.rejects(ann.call('edit', { channel: 'durable:x', seq, data: 'rude' }), { code: 'forbidden' });
    await ann.call('edit', { channel: 'durable:x', seq, data: 'kind' });
  });

  test('a back end that hangs refuses nobody else, and what it is asked ends in time', async () => {
    const ann = await client();
    answers({});
    backend.answer = (ask) => (ask.channel === 'recent:slow' ? null : { body: { allow: true } });
    const slow = assert.rejects(ann.call('publish', { channel: 'recent:slow', data: 1 }), { code: 'unavailable' });
    const bob = await client();
    await bob.call('publish', { channel: 'recent:fast', data: 1 });
    await slow;
    assert.equal(backend.forged, 0);
  });
});
