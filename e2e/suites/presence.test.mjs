// Presence counts users, not sockets.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Client, Refused, freshChannel, publishEnd } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';

const SECRET = 'a-secret-that-the-browser-keeps-0001';

let server, open = [];
before(async () => (server = await Server.start({ config: '[log]\nlevel = "trace"\n' })));
after(() => server?.stop());
afterEach(() => {
  open.forEach((client) => client.close());
  open = [];
});

const connect = async (identity, options) => {
  const client = await Client.open(server, { identity, ...options });
  open.push(client);
  return client;
};

test('the same guest secret is the same user, on every transport and after coming back', async () => {
  const user = async (client) => (await client.push('welcome')).user;
  const first = await user(await connect({ guest: SECRET }));
  for (const options of [{ major: 1 }, { major: 2, transport: 'polling' }, { major: 3, transport: 'upgrade' }]) {
    assert.equal(await user(await connect({ guest: SECRET }, options)), first, JSON.stringify(options));
  }
  const plain = await PlainSocket.open(server, { guest: SECRET });
  open.push(plain);
  assert.equal(await user(plain), first);
  assert.notEqual(await user(await connect({ guest: `${SECRET}-other` })), first);
  assert.notEqual(await user(await connect({})), await user(await connect({})));
  assert.ok(!first.includes(SECRET));
  assert.ok(!server.log.includes(SECRET), 'the secret stands in the log');
});

test('a user with two sockets counts once, comes once and leaves once', async () => {
  const channel = freshChannel();
  const watcher = await connect({ name: 'Watcher' });
  const answer = await watcher.subscribe(channel, { presence: true });
  assert.equal(answer.presence.count, 1);

  const tabs = [await connect({ guest: SECRET, name: 'Ann' }), await connect({ guest: SECRET, name: 'Ann' }, { major: 2 })];
  const { user } = await tabs[0].push('welcome');
  for (const tab of tabs) {
    assert.equal((await tab.subscribe(channel, { presence: true })).presence.count, 2);
  }
  assert.deepEqual((await watcher.push('presence', (push) => push.joined)).joined, [{ user, name: 'Ann' }]);

  tabs[0].close();
  const other = await connect({ name: 'Bob' });
  await other.subscribe(channel);
  await watcher.push('presence', (push) => push.joined?.some(({ name }) => name === 'Bob'));
  assert.equal((await watcher.call('presence', { channel })).count, 3);

  tabs[1].close();
  const left = await watcher.push('presence', (push) => push.left);
  assert.deepEqual([left.channel, left.count, left.left.map((gone) => gone.user)], [channel, 2, [user]]);

  const pushes = watcher.pushes.items.filter(({ name }) => name === 'presence').map(({ push }) => push);
  const joins = pushes.flatMap((push) => push.joined ?? []).filter((joined) => joined.user === user);
  assert.equal(joins.length, 1);
});

test('the list of users names each one once; nobody learns a secret or a session id from it', async () => {
  const channel = freshChannel();
  const [ann, bob] = [await connect({ guest: SECRET, name: 'Ann' }), await connect({ name: 'Bob' })];
  await Promise.all([ann.subscribe(channel, { presence: true }), bob.subscribe(channel, { presence: true })]);
  await ann.publish(channel, 'hello');
  await publishEnd(ann, channel);
  await bob.messagesUntilEnd(channel);
  const { count, users } = await bob.call('presence', { channel });
  assert.equal(count, 2);
  assert.deepEqual(users.map(({ name }) => name).sort(), ['Ann', 'Bob']);
  const heard = JSON.stringify([users, bob.pushes.items]);
  assert.ok(!heard.includes(SECRET));
  assert.ok(!heard.includes(ann.socket.io.engine.id));
});

test('unsubscribing leaves; a channel without presence refuses to count', async () => {
  const channel = freshChannel();
  const [ann, bob] = [await connect({}), await connect({})];
  await ann.subscribe(channel, { presence: true });
  await bob.subscribe(channel, { presence: true });
  await ann.push('presence', (push) => push.joined);
  await bob.call('unsubscribe', { channel });
  assert.equal((await ann.push('presence', (push) => push.left)).count, 1);
  await assert.rejects(ann.call('presence', { channel: freshChannel('live') }), (e) => e instanceof Refused && e.code === 'no_presence');
});
