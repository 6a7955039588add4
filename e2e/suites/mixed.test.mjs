// Every kind of client in one channel: what one of them says, all of them hear, unchanged and in one order.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, FLAVOURS, freshChannel, hex, publishEnd } from '../clients.mjs';
import { EventStream } from '../sse.mjs';
import { Server } from '../server.mjs';
import { PlainSocket } from '../plain.mjs';

let server, clients;
before(async () => {
  server = await Server.start();
  clients = await Promise.all(FLAVOURS.map((flavour) => Client.open(server, { ...flavour, identity: { name: flavour.label } })));
});
after(async () => {
  clients?.forEach((client) => client.close());
  await server?.stop();
});

test(`${FLAVOURS.length} kinds of Socket.IO client see one order of everybody's text and binary data`, async () => {
  const channel = freshChannel();
  await Promise.all(clients.map((client) => client.subscribe(channel)));
  const payload = (n) => ({ n, text: `Grüße 🙂 ${n}`, nested: [{ bytes: Buffer.from([n, 0, 0xff, 0x80 + n]) }] });
  await Promise.all(clients.map((client, n) => client.publish(channel, payload(n))));
  await publishEnd(clients[0], channel);

  const seen = await Promise.all(clients.map((client) => client.messagesUntilEnd(channel)));
  const readable = (message) => [message.seq, message.from.name, message.data.text, hex(message.data.nested[0].bytes)];
  const expected = seen[0].map(readable);
  assert.deepEqual(expected.map(([seq]) => seq), FLAVOURS.map((_, n) => n + 1));
  assert.deepEqual(
    expected.map(([, ...rest]) => rest).sort(),
    FLAVOURS.map(({ label }, n) => [label, payload(n).text, hex(payload(n).nested[0].bytes)]).sort(),
  );
  seen.forEach((messages, n) => assert.deepEqual(messages.map(readable), expected, FLAVOURS[n].label));
});

test('plain WebSocket and SSE share the channel', async () => {
  const channel = freshChannel();
  const plain = await PlainSocket.open(server);
  const stream = await EventStream.open(server, [channel]);
  await Promise.all([...clients.map((client) => client.subscribe(channel)), plain.call('subscribe', { channel })]);
  await plain.call('publish', { channel, data: { from: 'plain', text: '세계 🙂' } });
  await clients.at(-1).publish(channel, { from: 'msgpack', list: [1, -1, 1.5, null, true, 'x'] });
  await clients[0].publish(channel, { from: 'old' });
  await publishEnd(clients[0], channel);

  const expected = [{ from: 'plain', text: '세계 🙂' }, { from: 'msgpack', list: [1, -1, 1.5, null, true, 'x'] }, { from: 'old' }];
  const data = (messages) => messages.filter((m) => m.event !== 'end').map((m) => m.data);
  for (const client of clients) assert.deepEqual(data(await client.messagesUntilEnd(channel)), expected);
  await plain.push('message', (m) => m.event === 'end');
  assert.deepEqual(data(plain.messages(channel)), expected);
  await stream.event('message', (m) => m.event === 'end');
  assert.deepEqual(data(stream.messages(channel)), expected);
  plain.close();
  stream.close();
});
