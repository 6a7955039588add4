// The native protocol (docs/protocol.md) as every Socket.IO client speaks it.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Client, FLAVOURS, Refused, freshChannel, hex, publishEnd } from '../clients.mjs';
import { Server } from '../server.mjs';
import { within } from '../wait.mjs';

const BURST = 200;

/** What breaks careless encoders: UTF-16 lengths, separators of the polling body, escapes, JSON's own edges. */
const TEXTS = [
  'Grüße, 세계, 🙂👩‍👩‍👧‍👦 and 𝄞',
  'record\u001eseparator, nul\u0000, line\u2028and\u2029paragraph, bom\ufeff',
  'b4AQID quotes " and \\ and \\u0000 and </script>',
  '{"_placeholder":true,"num":0}',
];

const VALUES = [null, true, false, 0, -1.5e-7, 9007199254740991, '', [], {}, [[[{ a: [1, 'two', null] }]]], { '': '', _placeholder: false }];

let server;
before(async () => (server = await Server.start({ config: '[limits]\nevents_per_second = 0\n' })));
after(() => server?.stop());

for (const flavour of FLAVOURS) {
  describe(flavour.label, () => {
    let clients = [];
    const open = async (options) => {
      const client = await Client.open(server, { ...flavour, ...options });
      clients.push(client);
      return client;
    };
    afterEach(() => {
      clients.forEach((client) => client.close());
      clients = [];
    });

    test('is welcomed on the transport that it asked for', async () => {
      const client = await open({ identity: { name: 'Ann' } });
      const welcome = await client.push('welcome');
      assert.equal(welcome.app, 'demo');
      assert.equal(welcome.name, 'Ann');
      assert.equal(welcome.guest, true);
      assert.equal(typeof welcome.user, 'string');
      assert.equal(typeof welcome.node, 'string');
      assert.equal(client.transport, flavour.transport === 'polling' ? 'polling' : 'websocket');
      assert.equal(client.pushes.items[0].name, 'welcome');
    });

    test('publishes with an ack; every subscriber gets the message once', async () => {
      const [alice, bob] = await Promise.all([open({ identity: { name: 'Alice' } }), open()]);
      const channel = freshChannel();
      assert.deepEqual(pick(await alice.subscribe(channel), 'channel', 'history', 'seq'), { channel, history: true, seq: 0 });
      const { epoch } = await bob.subscribe(channel);

      const ack = await alice.publish(channel, { text: 'hello' }, { event: 'greeting', id: 'first-1' });
      assert.deepEqual(pick(ack, 'channel', 'id', 'epoch', 'seq'), { channel, id: 'first-1', epoch, seq: 1 });
      assert.ok(Math.abs(ack.at - Date.now()) < 60_000);
      await alice.publish(channel, 'not for me', { echo: false });
      await publishEnd(alice, channel);

      const { user } = await alice.push('welcome');
      const seen = await bob.messagesUntilEnd(channel);
      assert.deepEqual(seen[0], {
        channel, epoch, seq: 1, id: 'first-1', event: 'greeting', data: { text: 'hello' }, from: { user, name: 'Alice' }, at: ack.at,
      });
      assert.deepEqual(seen.map((message) => message.data), [{ text: 'hello' }, 'not for me']);
      assert.equal(seen[1].event, 'message');
      assert.deepEqual((await alice.messagesUntilEnd(channel)).map((message) => message.data), [{ text: 'hello' }]);
    });

    test('a retry with the same id is stored once and answered with its first position', async () => {
      const client = await open();
      const channel = freshChannel();
      await client.subscribe(channel);
      const first = await client.publish(channel, 1, { id: 'same' });
      const retry = await client.publish(channel, 1, { id: 'same' });
      assert.equal(retry.seq, first.seq);
      await publishEnd(client, channel);
      assert.equal((await client.messagesUntilEnd(channel)).length, 1);
    });

    test(`keeps ${BURST} messages in order, exactly once`, async () => {
      const [sender, receiver] = await Promise.all([open(), open()]);
      for (const channel of [freshChannel('chat'), freshChannel('live')]) {
        await receiver.subscribe(channel);
        await within(Promise.all(Array.from({ length: BURST }, (_, n) => sender.publish(channel, n))), 'all acks');
        await publishEnd(sender, channel);
        const messages = await receiver.messagesUntilEnd(channel);
        assert.deepEqual(messages.map((message) => message.data), Array.from({ length: BURST }, (_, n) => n));
        if (channel.startsWith('chat')) {
          assert.deepEqual(messages.map((message) => message.seq), Array.from({ length: BURST }, (_, n) => n + 1));
        } else {
          assert.ok(messages.every((message) => message.seq === undefined && message.epoch === undefined));
        }
      }
    });

    test('carries any text and any JSON value unchanged', async () => {
      const [sender, receiver] = await Promise.all([open(), open()]);
      const channel = freshChannel();
      await receiver.subscribe(channel);
      const sent = [...TEXTS, ...TEXTS.map((text) => ({ [text]: [text] })), ...VALUES, TEXTS.join('').repeat(200)];
      await within(Promise.all(sent.map((data) => sender.publish(channel, data))), 'all acks');
      await publishEnd(sender, channel);
      assert.deepEqual((await receiver.messagesUntilEnd(channel)).map((message) => message.data), sent);
    });

    test('carries binary data at any depth', async () => {
      const [sender, receiver] = await Promise.all([open(), open()]);
      const channel = freshChannel();
      await receiver.subscribe(channel);
      const every = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
      const large = Buffer.alloc(100_000, every);
      await sender.publish(channel, every);
      await sender.publish(channel, { list: [1, every, { deep: Buffer.from([0, 1, 0xff]) }], empty: Buffer.alloc(0), large });
      await publishEnd(sender, channel);
      const [plain, nested] = (await receiver.messagesUntilEnd(channel)).map((message) => message.data);
      assert.equal(hex(plain), hex(every));
      assert.equal(hex(nested.list[1]), hex(every));
      assert.equal(hex(nested.list[2].deep), '0001ff');
      assert.equal(hex(nested.empty), '');
      assert.equal(hex(nested.large), hex(large));
    });

    test('commands of the very tick of connect are handled in order', async () => {
      const client = new Client(server, flavour);
      clients.push(client);
      const channel = freshChannel();
      const buffered = client.call('presence', { channel });
      client.socket.on('connect', () => {
        client.socket.emit('subscribe', { channel });
        client.socket.emit('publish', { channel, data: 'at once' });
        client.socket.emit('publish', { channel, data: null, event: 'end' });
      });
      assert.deepEqual((await client.messagesUntilEnd(channel)).map((message) => message.data), ['at once']);
      assert.equal((await buffered).channel, channel);
    });

    if (flavour.transport === 'upgrade') {
      test('nothing is lost, doubled or misordered while it upgrades', async () => {
        const [client, other] = [new Client(server, flavour), await open()];
        clients.push(client);
        const channel = freshChannel();
        await client.push('welcome');
        await client.subscribe(channel);
        const sent = [];
        const publish = () => {
          const from = sent.length % 2 ? other : client;
          return from.publish(channel, sent.push(sent.length) - 1);
        };
        while (client.transport !== 'websocket') await publish();
        for (let n = 0; n < 20; n++) await publish();
        await publishEnd(client, channel);
        assert.deepEqual((await client.messagesUntilEnd(channel)).map(({ data }) => data), sent);
      });
    }

    test('a failing command is answered by its ack, or by "rejected" without one', async () => {
      const client = await open();
      await assert.rejects(client.call('no_such_command'), (e) => e instanceof Refused && e.code === 'unknown_command' && e.retry === 'no' && e.message.length > 0);
      client.socket.emit('neither_this', {});
      const rejected = await client.push('rejected');
      assert.equal(rejected.cmd, 'neither_this');
      assert.equal(rejected.error.code, 'unknown_command');
      assert.equal((await client.call('presence', { channel: freshChannel() })).count, 0);
    });

    test('unsubscribe ends the flow; signals reach the others and leave no trace', async () => {
      const [alice, bob] = await Promise.all([open(), open()]);
      const [channel, other] = [freshChannel(), freshChannel()];
      await Promise.all([alice.subscribe(channel), bob.subscribe(channel), bob.subscribe(other)]);
      assert.deepEqual(await alice.call('signal', { channel, event: 'typing', data: { on: true } }), { channel });
      const signal = await bob.push('signal');
      assert.deepEqual(pick(signal, 'channel', 'event', 'data'), { channel, event: 'typing', data: { on: true } });
      assert.equal(signal.seq, undefined);
      assert.equal((await alice.call('history', { channel })).head, 0);

      assert.deepEqual(await bob.call('unsubscribe', { channel }), { channel });
      await alice.publish(channel, 'nobody hears this');
      await publishEnd(alice, other);
      await bob.messagesUntilEnd(other);
      assert.deepEqual(bob.messages(channel), []);
    });
  });
}

function pick(object, ...keys) {
  return Object.fromEntries(keys.map((key) => [key, object[key]]));
}
