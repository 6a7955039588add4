// XPUSH 0.1 clients (docs/protocol.md, "XPUSH 0.1") on the Socket.IO versions of their day, beside native ones.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Client, MAJORS, TRANSPORTS, freshChannel, publishEnd } from '../clients.mjs';
import { Server } from '../server.mjs';
import { Inbox, next, within } from '../wait.mjs';

let server, open = [];
before(async () => (server = await Server.start({ config: '[limits]\nevents_per_second = 0\n' })));
after(() => server?.stop());
afterEach(() => {
  open.forEach((client) => client.close());
  open = [];
});

/** What an XPUSH 0.1 client does: asks which server has the channel, then connects to it in the namespace `/channel`. */
class OldClient {
  events = new Inbox();

  static async open(major, transport, channel, user, names = []) {
    const node = await (await fetch(`${server.url}/node/demo/${encodeURIComponent(channel)}`)).json();
    const { name, url } = node.result.server;
    const query = new URLSearchParams({ A: 'demo', C: channel, U: user, D: 'web', S: name });
    const client = new OldClient();
    client.server = name;
    client.socket = MAJORS[major](`${url}/channel?${query}`, { transports: TRANSPORTS[transport], forceNew: true, reconnection: false });
    for (const event of ['_event', ...names]) client.socket.on(event, (data) => client.events.push({ event, data }));
    open.push(client);
    await next(client.socket, 'connect');
    return client;
  }

  send(fields) {
    return within(new Promise((resolve) => this.socket.emit('send', fields, resolve)), 'answer to send');
  }

  async event(name, match = () => true) {
    return (await this.events.first(({ event, data }) => event === name && match(data), `event "${name}"`)).data;
  }

  of(name) {
    return this.events.items.filter(({ event }) => event === name).map(({ data }) => data);
  }

  close() {
    this.socket.disconnect();
  }
}

for (const [major, transport] of [1, 2].flatMap((major) => Object.keys(TRANSPORTS).map((transport) => [major, transport]))) {
  describe(`XPUSH 0.1 on socket.io-client ${major}, ${transport}`, () => {
    test('who comes and who goes is told by _event', async () => {
      const channel = freshChannel();
      const ann = await OldClient.open(major, transport, channel, 'ann');
      const bob = await OldClient.open(major, transport, channel, 'bob');
      const came = await ann.event('_event', (e) => e.event === 'CONNECTION' && e.U === 'bob');
      assert.deepEqual({ ...came, id: undefined }, { event: 'CONNECTION', id: undefined, count: 2, A: 'demo', C: channel, S: ann.server, U: 'bob', D: 'web' });
      assert.equal(typeof came.id, 'string');
      assert.notEqual(came.id, bob.socket.io.engine.id, 'the session id is a secret of its client');
      bob.close();
      const left = await ann.event('_event', (e) => e.event === 'DISCONNECT');
      assert.deepEqual(left, { event: 'DISCONNECT', count: 1, A: 'demo', C: channel, U: 'bob' });
    });

    test('send reaches everybody in the channel, the sender too, with C and TS', async () => {
      const channel = freshChannel();
      const ann = await OldClient.open(major, transport, channel, 'ann', ['chat']);
      const bob = await OldClient.open(major, transport, channel, 'bob', ['chat']);
      const elsewhere = await OldClient.open(major, transport, freshChannel(), 'eve', ['chat']);
      const params = { NM: 'chat', DT: { MSG: 'Grüße 세계 🙂' } };
      assert.deepEqual(await ann.send(params), { status: 'ok', params });
      for (const client of [ann, bob]) {
        const { TS, ...rest } = await client.event('chat');
        assert.deepEqual(rest, { MSG: 'Grüße 세계 🙂', C: channel });
        assert.ok(Math.abs(TS - Date.now()) < 60_000);
      }
      await elsewhere.send({ NM: 'chat', DT: { MSG: 'own' } });
      await elsewhere.event('chat');
      assert.deepEqual(elsewhere.of('chat').map(({ MSG }) => MSG), ['own']);
    });

    test('200 messages arrive in order, exactly once', async () => {
      const channel = freshChannel();
      const ann = await OldClient.open(major, transport, channel, 'ann');
      const bob = await OldClient.open(major, transport, channel, 'bob', ['tick', 'end']);
      const acks = [];
      for (let n = 0; n < 200; n++) acks.push(ann.send({ NM: 'tick', DT: { n } }));
      assert.ok((await Promise.all(acks)).every(({ status }) => status === 'ok'));
      assert.equal((await ann.send({ NM: 'end', DT: {} })).status, 'ok');
      await bob.event('end');
      assert.deepEqual(bob.of('tick').map(({ n }) => n), Array.from({ length: 200 }, (_, n) => n));
    });

    test('S and SS reach one socket only', async () => {
      const channel = freshChannel();
      const ann = await OldClient.open(major, transport, channel, 'ann', ['whisper', 'end']);
      const bob = await OldClient.open(major, transport, channel, 'bob', ['whisper', 'end']);
      const eve = await OldClient.open(major, transport, channel, 'eve', ['whisper', 'end']);
      const { id, S } = await ann.event('_event', (e) => e.event === 'CONNECTION' && e.U === 'bob');
      assert.equal((await ann.send({ NM: 'whisper', DT: { MSG: 'psst' }, S, SS: id })).status, 'ok');
      assert.equal((await ann.send({ NM: 'end', DT: {} })).status, 'ok');
      for (const client of [ann, bob, eve]) await client.event('end');
      assert.equal((await bob.event('whisper')).MSG, 'psst');
      assert.deepEqual([ann, eve].flatMap((client) => client.of('whisper')), []);
    });

    test('a missing field is answered with ERR-PARAM', async () => {
      const ann = await OldClient.open(major, transport, freshChannel(), 'ann');
      for (const [fields, missing] of [[{ DT: {} }, 'NM'], [{ NM: 'chat' }, 'DT'], [{}, 'NM']]) {
        assert.deepEqual(await ann.send(fields), {
          status: 'ERR-PARAM',
          message: { status: 'error', message: '', detail: `[${missing}] must be supplied` },
        });
      }
    });

    test('native and old clients share a channel', async () => {
      const channel = freshChannel();
      const old = await OldClient.open(major, transport, channel, 'ann', ['greeting', 'end']);
      const native = await Client.open(server, { identity: { name: 'Native' } });
      open.push(native);
      await native.subscribe(channel);
      await old.send({ NM: 'greeting', DT: { MSG: 'from old' } });
      await native.publish(channel, { MSG: 'from native' }, { event: 'greeting' });
      await publishEnd(native, channel);
      assert.deepEqual((await native.messagesUntilEnd(channel)).map(({ event, data }) => [event, data.MSG]), [
        ['greeting', 'from old'],
        ['greeting', 'from native'],
      ]);
      await old.event('end');
      assert.deepEqual(old.of('greeting').map(({ MSG, C }) => [MSG, C]), [['from old', channel], ['from native', channel]]);
    });

    test('names that belong to the server cannot be sent', async () => {
      const channel = freshChannel();
      const ann = await OldClient.open(major, transport, channel, 'ann', ['end', 'disconnect', 'error']);
      const bob = await OldClient.open(major, transport, channel, 'bob', ['end', 'error']);
      for (const NM of ['_event', 'connect', 'disconnect', 'error', 'newListener', '', 'x'.repeat(65)]) {
        assert.notEqual((await ann.send({ NM, DT: { event: 'DISCONNECT', forged: true } })).status, 'ok', NM);
      }
      assert.equal((await ann.send({ NM: 'end', DT: {} })).status, 'ok');
      await bob.event('end');
      assert.ok(!JSON.stringify(bob.events.items).includes('forged'));
    });
  });
}

test('GET /status/ping and /node/:app/:channel answer as 0.1 did', async () => {
  const ping = await fetch(`${server.url}/status/ping`);
  assert.deepEqual(await ping.json(), { status: 'ok', result: { message: 'pong' } });
  const node = await (await fetch(`${server.url}/node/demo/${encodeURIComponent('chat:세계')}`)).json();
  assert.equal(node.status, 'ok');
  assert.equal(node.result.channel, 'chat:세계');
  assert.deepEqual(Object.keys(node.result).sort(), ['channel', 'seq', 'server']);
  assert.deepEqual(Object.keys(node.result.server).sort(), ['channel', 'name', 'url']);
  assert.equal(new URL(node.result.server.url).port, String(server.port));
});

test('a connection without A, C or S is refused', async () => {
  for (const query of ['', '?A=demo&S=x', '?C=chat:a&S=x', '?A=nobody&C=chat:a&S=x', '?A=demo&C=b%20ad&S=x']) {
    const socket = MAJORS[2](`${server.url}/channel${query}`, { transports: ['websocket'], forceNew: true, reconnection: false });
    open.push(socket);
    await Promise.race([
      next(socket, 'error'),
      next(socket, 'connect').then(() => assert.fail(`connected with "${query}"`)),
    ]);
  }
});
