// A crash of the server, as people with accounts meet it: who they are and how far they were is still there.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { MESSENGER, register } from '../accounts.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { token } from '../jwt.mjs';
import { Server } from '../server.mjs';
import { streamGoesOn } from '../sse.mjs';

const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);

let server;
before(async () => (server = await Server.start({ config: MESSENGER })));
after(() => server?.stop());
const connect = (sub) => Client.open(server, { identity: { token: token({ sub }) } });

test('an event stream goes on by Last-Event-ID alone, as the same user', () =>
  streamGoesOn(server, { token: token({ sub: 'ann' }), connect: () => connect('writer') }));

test('markers, unread counts, members and logins are still there', async () => {
  const [ann, bob] = [await register(server, 'Ann'), await register(server, 'Bob')];
  const [a, b] = [await Client.open(server, { identity: { token: ann.token } }), await Client.open(server, { identity: { token: bob.token } })];
  const channel = freshChannel('room');
  await a.call('members', { channel, add: [bob.user] });
  for (const n of range(1, 5)) await a.publish(channel, n);
  await b.call('read', { channel, seq: 2 });
  const before_ = (await b.call('channels')).channels;
  await server.crash();
  const [a2, b2] = [await Client.open(server, { identity: { token: ann.token } }), await Client.open(server, { identity: { token: bob.token } })];
  assert.deepEqual((await b2.call('channels')).channels, before_);
  assert.equal((await a2.call('members', { channel })).members.length, 2);
  const { read, unread } = await b2.subscribe(channel);
  assert.deepEqual([read, unread], [2, 3]);
  for (const client of [a, b, a2, b2]) client.close();
});
