// Messages at and over the payload limit: taken at it, refused with a name over it, the others undisturbed.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Client, FLAVOURS, freshChannel, publishEnd } from '../clients.mjs';
import { EngineSocket, Polling } from '../engine.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { next } from '../wait.mjs';

const LIMIT = 1_000_000;

let server, bystander, channel, open = [];
before(async () => {
  server = await Server.start({ config: '[limits]\nevents_per_second = 0\n' });
  bystander = await Client.open(server);
  channel = freshChannel();
  await bystander.subscribe(channel);
});
after(() => {
  bystander?.close();
  return server?.stop();
});
afterEach(async () => {
  open.forEach((client) => client.close());
  open = [];
  const last = (await bystander.publish(channel, 'still here')).seq;
  await bystander.push('message', (message) => message.channel === channel && message.seq === last);
});
const connect = async (options) => {
  const client = await Client.open(server, options);
  open.push(client);
  return client;
};

for (const flavour of FLAVOURS) {
  describe(flavour.label, () => {
    test('a message just under the limit arrives whole', async () => {
      const [sender, receiver] = await Promise.all([connect(flavour), connect(flavour)]);
      const channel = freshChannel();
      await receiver.subscribe(channel);
      // msgpack travels in polling bodies as base64.
      const room = flavour.parser && flavour.transport === 'polling' ? LIMIT * 0.75 : LIMIT;
      const data = 'y'.repeat(room - 1_000);
      assert.equal((await sender.publish(channel, data)).seq, 1);
      await publishEnd(sender, channel);
      const [message] = await receiver.messagesUntilEnd(channel);
      assert.equal(message.data, data);
    });

    test('a message over the limit ends the sender, and nobody hears it', async () => {
      const [sender, receiver] = await Promise.all([connect(flavour), connect(flavour)]);
      const channel = freshChannel();
      await receiver.subscribe(channel);
      const ended = next(sender.socket, 'disconnect');
      sender.socket.emit('publish', { channel, data: 'z'.repeat(LIMIT) });
      await ended;
      await publishEnd(receiver, channel);
      assert.deepEqual(await receiver.messagesUntilEnd(channel), []);
    });
  });
}

/** A publish of exactly `size` bytes on the wire. */
function sized(size, head, tail) {
  return head + 'x'.repeat(size - head.length - tail.length) + tail;
}

test('WebSocket: the limit is exact, and one byte more closes with 1009', async () => {
  for (const eio of [3, 4]) {
    const socket = await EngineSocket.open(server, eio, '');
    const head = `421["publish",{"channel":"${freshChannel()}","data":"`;
    socket.send(sized(LIMIT, head, '"}]'));
    await socket.frame((f) => f.startsWith('431[{"ok"'));
    socket.send(sized(LIMIT + 1, head, '"}]'));
    assert.equal((await socket.end()).code, 1009);
  }
});

test('plain WebSocket: the limit is exact, and one byte more closes with 1009', async () => {
  const plain = await PlainSocket.open(server);
  const head = `{"id":10,"cmd":"publish","channel":"${freshChannel()}","data":"`;
  plain.send(sized(LIMIT, head, '"}'));
  assert.equal((await plain.answer(10)).ok.seq, 1);
  plain.send(sized(LIMIT + 1, head, '"}'));
  assert.equal((await plain.end()).code, 1009);
});

test('polling: the limit is exact, and one byte more is answered with 413', async () => {
  const polling = await (await Polling.open(server, 4)).connect();
  const post = (body) => polling.request('POST', { body, headers: { 'content-type': 'text/plain' } });
  const head = `421["publish",{"channel":"${freshChannel()}","data":"`;
  assert.equal((await post(sized(LIMIT, head, '"}]'))).status, 200);
  await polling.until((packet) => packet.startsWith('431[{"ok"'));
  assert.equal((await post(sized(LIMIT + 1, head, '"}]'))).status, 413);
});

test('an event counts with its attachments', async () => {
  const [sender, receiver] = await Promise.all([connect(), connect()]);
  const channel = freshChannel();
  await receiver.subscribe(channel);
  await sender.publish(channel, [Buffer.alloc(400_000, 1), Buffer.alloc(400_000, 2)]);
  const outcome = Promise.race([
    next(sender.socket, 'disconnect').then(() => 'disconnected'),
    sender.publish(channel, [Buffer.alloc(400_000, 1), Buffer.alloc(400_000, 2), Buffer.alloc(400_000, 3)]).then(
      () => 'taken',
      (error) => error.code,
    ),
  ]);
  assert.match(await outcome, /^(disconnected|too_large)$/);
  await publishEnd(receiver, channel);
  assert.equal((await receiver.messagesUntilEnd(channel)).length, 1);
});
