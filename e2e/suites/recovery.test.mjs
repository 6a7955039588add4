// Socket.IO's own connection state recovery: a stock client goes on by itself, or is told that it cannot.
import assert from 'node:assert/strict';
import { connect, createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import msgpack from 'socket.io-msgpack-parser';
import { Client, TRANSPORTS, freshChannel, hex, publishEnd } from '../clients.mjs';
import { EngineSocket } from '../engine.mjs';
import { keysOf, token } from '../jwt.mjs';
import { Server } from '../server.mjs';
import { next, until } from '../wait.mjs';

const config = (recovery) => `
[limits]
events_per_second = 0

[apps.demo]
guests = true
recovery = ${recovery}
${keysOf('demo')}
[[apps.demo.rules]]
channels = "chat:*"
history = "recent"

[[apps.demo.rules]]
channels = "log:*"
history = "durable"
presence = true

[[apps.demo.rules]]
channels = "short:*"
history = "recent"
keep = { count = 10, bytes = "1MB", age = "1h" }

[[apps.demo.rules]]
channels = "live:*"
presence = true
`;

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
const data = (client, channel) => client.messages(channel).map((message) => message.data);
const RECONNECTING = { reconnection: true, reconnectionDelay: 20, reconnectionDelayMax: 100, randomizationFactor: 0 };
const FLAVOURS = Object.keys(TRANSPORTS).flatMap((transport) => [
  { label: `${transport}, JSON`, transport },
  { label: `${transport}, msgpack`, transport, parser: msgpack },
]);

let server, writer;
before(async () => {
  server = await Server.start({ config: config(true) });
  writer = await Client.open(server, { identity: { token: token({ sub: 'writer' }) } });
});
after(async () => {
  writer?.close();
  await server?.stop();
});
const publish = async (channel, numbers) => {
  for (const n of numbers) await writer.publish(channel, n);
};
const open = (options = {}, at = server) => Client.open(at, { ...RECONNECTING, ...options });

/** Cuts the connection at the engine, and connects again when `meanwhile` is over; whether the client says that it has recovered. */
async function breakOff(client, meanwhile = async () => {}) {
  const dropped = next(client.socket, 'disconnect');
  client.socket.io.reconnection(false);
  client.socket.io.engine.close();
  await dropped;
  await meanwhile();
  client.socket.io.reconnection(true);
  client.socket.connect();
  await next(client.socket, 'connect');
  return client.socket.recovered;
}

/** Between a client and the server: what it cuts, the server does not notice at once. */
class Proxy {
  #pairs = new Set();

  static async before(target) {
    const proxy = new Proxy();
    proxy.listener = createServer((near) => {
      near.on('error', () => {});
      if (proxy.down) return near.destroy();
      const far = connect(target.port, '127.0.0.1');
      const pair = { near, far };
      proxy.#pairs.add(pair);
      near.pipe(far, { end: false });
      far.pipe(near);
      far.on('error', () => {});
      near.on('close', () => !pair.left && far.destroy());
    });
    await new Promise((resolve) => proxy.listener.listen(0, '127.0.0.1', resolve));
    proxy.url = `http://127.0.0.1:${proxy.listener.address().port}`;
    return proxy;
  }

  /** The client's side is gone, and comes no more until the proxy is up again; the server's stays as it is. */
  cut() {
    this.down = true;
    for (const pair of this.#pairs) {
      pair.left = true;
      pair.near.destroy();
    }
  }

  close() {
    this.listener.close();
    for (const { near, far } of this.#pairs) for (const end of [near, far]) end.destroy();
  }
}

for (const { label, ...flavour } of FLAVOURS) {
  describe(`recovery, socket.io-client 4, ${label}`, () => {
    test('what was missed comes once, in order, before what is new, again and again', async () => {
      const [channel, beside] = [freshChannel('log'), freshChannel('live')];
      const client = await open(flavour);
      await client.subscribe(channel, { presence: true, receipts: true });
      await client.subscribe(beside);
      await publish(channel, range(1, 3));
      await client.push('message', (message) => message.data === 3);
      for (const round of range(1, 4)) {
        const first = round * 100;
        assert.equal(await breakOff(client, () => publish(channel, range(first, first + 36))), true, `round ${round}`);
        await publish(channel, range(first + 37, first + 40));
        await publish(beside, [first]);
        await client.push('message', (message) => message.channel === beside && message.data === first);
      }
      await publishEnd(writer, channel);
      const messages = await client.messagesUntilEnd(channel);
      assert.deepEqual(messages.map((message) => message.data), [...range(1, 3), ...range(1, 4).flatMap((round) => range(round * 100, round * 100 + 40))]);
      assert.deepEqual(messages.map((message) => message.seq), range(1, messages.length));
      assert.deepEqual(data(client, beside), range(1, 4).map((round) => round * 100));
      client.close();
    });

    test('a connection of which the server does not know that it is gone is taken over', async (t) => {
      const proxy = await Proxy.before(server);
      t.after(() => proxy.close());
      const channel = freshChannel();
      const client = await open(flavour, proxy);
      t.after(() => client.close());
      await client.subscribe(channel);
      await publish(channel, [1]);
      await client.push('message', (message) => message.data === 1);
      const dropped = next(client.socket, 'disconnect');
      proxy.cut();
      await dropped;
      await publish(channel, [2, 3]);
      proxy.down = false;
      await next(client.socket, 'connect');
      assert.equal(client.socket.recovered, true);
      await publish(channel, [4]);
      await client.push('message', (message) => message.data === 4);
      assert.deepEqual(data(client, channel), [1, 2, 3, 4]);
    });

    test('before the first message it goes on where the subscription began; edits, deletions and binary parts come too', async () => {
      const channel = freshChannel();
      await publish(channel, [1, 2]);
      const client = await open(flavour);
      await client.subscribe(channel);
      const changed = async () => {
        await writer.publish(channel, { parts: [Buffer.from([1, 2, 3])] });
        await writer.call('edit', { channel, seq: 1, data: 'edited' });
        await writer.call('delete', { channel, seq: 2 });
      };
      assert.equal(await breakOff(client, changed), true);
      const [binary, edit, gone] = [await client.push('message'), await client.push('edit'), await client.push('delete')];
      assert.equal(hex(binary.data.parts[0]), '010203');
      assert.deepEqual([binary.seq, edit.seq, edit.target, gone.seq, gone.target], [3, 4, 1, 5, 2]);
      // An edit was the last that it received.
      assert.equal(await breakOff(client, () => publish(channel, [6])), true);
      await client.push('message', (message) => message.data === 6);
      assert.equal(client.messages(channel).length, 2);
      client.close();
    });

    test('two channels with history, or one that no longer reaches back so far, are not recovered', async () => {
      const [a, b, short] = [freshChannel(), freshChannel(), freshChannel('short')];
      const client = await open(flavour);
      await client.subscribe(a);
      await client.subscribe(b);
      assert.equal(await breakOff(client, () => publish(a, [1])), false);
      await client.subscribe(short);
      await publish(short, [1]);
      await client.push('message', (message) => message.channel === short);
      assert.equal(await breakOff(client, () => publish(short, range(2, 20))), false);
      const answer = await client.subscribe(short);
      assert.equal(answer.seq, 20);
      await publish(short, [21]);
      await client.push('message', (message) => message.data === 21);
      assert.deepEqual([data(client, a), data(client, short)], [[], [1, 21]]);
      // From there on it is recovered again.
      assert.equal(await breakOff(client, () => publish(short, [22])), true);
      await client.push('message', (message) => message.data === 22);
      client.close();
    });
  });
}

describe('recovery, what clients claim', () => {
  const connected = async (auth) => {
    const socket = await EngineSocket.open(server, 4);
    socket.send(`40${JSON.stringify(auth)}`);
    const connect = JSON.parse((await socket.frame((f) => f.startsWith('40{'))).slice(2));
    const welcome = JSON.parse((await socket.frame((f) => f.startsWith('42["welcome"'))).slice(2))[1];
    return { socket, connect, welcome };
  };
  const messages = ({ socket }) => socket.frames.items.filter((f) => String(f).startsWith('42["message"')).map((f) => JSON.parse(f.slice(2)));

  test('garbage and other people’s pids give nothing, and the owner still recovers', async () => {
    const channel = freshChannel();
    const ann = { token: token({ sub: 'ann' }) };
    const first = await connected(ann);
    const { pid } = first.connect;
    assert.match(pid, /^[\w-]{30}$/);
    first.socket.send(`421["subscribe",{"channel":"${channel}"}]`);
    await first.socket.frame((f) => f.startsWith('431['));
    await publish(channel, [1]);
    await first.socket.frame((f) => f.startsWith('42["message"'));
    const [[, message, offset]] = messages(first);
    assert.equal(offset, `${message.epoch}.1.${channel}`);
    first.socket.close();
    await publish(channel, [2]);
    const flipped = pid.slice(0, -1) + (pid.endsWith('A') ? 'Q' : 'A');
    for (const [what, auth] of [
      ['another user', { token: token({ sub: 'eve' }), pid, offset }],
      ['a guest', { pid, offset }],
      ['an altered pid', { ...ann, pid: flipped, offset }],
      ['no pid at all', { ...ann, pid: 'x', offset }],
      ['a number', { ...ann, pid: 7, offset }],
      ['an object', { ...ann, pid: {}, offset: [] }],
      ['an offset that is none', { ...ann, pid, offset: 'x' }],
      ['a number as offset', { ...ann, pid, offset: 1 }],
    ]) {
      const other = await connected(auth);
      assert.notEqual(other.connect.pid, pid, what);
      other.socket.send(`421["presence",{"channel":"live:nobody"}]`);
      await other.socket.frame((f) => f.startsWith('431['));
      assert.deepEqual(messages(other), [], what);
      other.socket.close();
    }
    const again = await connected({ ...ann, pid, offset });
    assert.equal(again.connect.pid, pid);
    assert.equal(again.welcome.user, 'ann');
    await again.socket.frame((f) => f.startsWith('42["message"'));
    assert.deepEqual(messages(again).map(([, message]) => message.data), [2]);
    again.socket.close();
    const beyond = await connected({ ...ann, pid, offset: `${message.epoch}.99.${channel}` });
    assert.notEqual(beyond.connect.pid, pid);
    beyond.socket.close();
  });

  test('a guest without a secret is the same guest', async () => {
    const first = await connected({});
    first.socket.close();
    const again = await connected({ pid: first.connect.pid });
    assert.equal(again.connect.pid, first.connect.pid);
    assert.equal(again.welcome.user, first.welcome.user);
    again.socket.close();
  });

  test('a token that is no good is refused, whatever it comes with', async () => {
    const first = await connected({ token: token({ sub: 'ann' }) });
    first.socket.close();
    const socket = await EngineSocket.open(server, 4);
    socket.send(`40${JSON.stringify({ token: token({ sub: 'ann', exp: 1 }), pid: first.connect.pid })}`);
    const refusal = JSON.parse((await socket.frame((f) => f.startsWith('44'))).slice(2));
    assert.equal(refusal.data.code, 'token_expired');
    socket.close();
  });

  test('who disconnects by itself is not recovered', async () => {
    const client = await open();
    await client.subscribe(freshChannel());
    client.socket.disconnect().connect();
    await next(client.socket, 'connect');
    assert.equal(client.socket.recovered, false);
    client.close();
  });

  test('after a restart nothing is recovered, and the next time it is', async () => {
    const own = await Server.start({ config: config(true) });
    const channel = freshChannel('log');
    const client = await open({}, own);
    await client.subscribe(channel);
    await client.publish(channel, 1);
    await client.push('message');
    const back = next(client.socket, 'connect', 30_000);
    await own.crash();
    await back;
    assert.equal(client.socket.recovered, false);
    const { seq } = await client.subscribe(channel);
    assert.equal(seq, 1);
    assert.equal(await breakOff(client), true);
    await client.publish(channel, 2);
    await client.push('message', (message) => message.data === 2);
    assert.deepEqual(data(client, channel), [1, 2]);
    client.close();
    await own.stop();
  });

  test('where the app does not offer it, nothing is different from before', async () => {
    const own = await Server.start({ config: config(false) });
    const client = await open({}, own);
    const channel = freshChannel();
    await client.subscribe(channel);
    const listened = [];
    client.socket.on('message', (...args) => listened.push(args.length));
    await client.publish(channel, 1);
    await until(() => listened.length === 1, 'delivered');
    assert.deepEqual(listened, [1]);
    assert.ok(!(await breakOff(client)));
    client.close();
    await own.stop();
  });
});
