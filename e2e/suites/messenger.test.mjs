// A messenger, out of configuration and accounts alone: two people, a room, everything that happens in one.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { ask, HttpRefused, login, MESSENGER, PASSWORD, register } from '../accounts.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { next, until } from '../wait.mjs';

let server, open = [];
before(async () => (server = await Server.start({ config: MESSENGER })));
after(() => server?.stop());
afterEach(() => open.splice(0).forEach((client) => client.close()));
const keep = (client) => {
  open.push(client);
  return client;
};
const connect = async (account, options) => keep(await Client.open(server, { identity: { token: account.token }, ...options }));

/** Two people in a room that the first has founded. */
async function twoInARoom() {
  const [ann, bob] = [await register(server, 'Ann'), await register(server, 'Bob')];
  const [a, b] = [await connect(ann), await connect(bob)];
  const channel = freshChannel('room');
  await a.call('members', { channel, add: [ann.user, bob.user] });
  return { ann, bob, a, b, channel };
}

describe('members', () => {
  test('who founds a room owns it; others come in when they are asked in', async () => {
    const [ann, bob, eve] = [await register(server, 'Ann'), await register(server, 'Bob'), await register(server, 'Eve')];
    const [a, b, e] = [await connect(ann), await connect(bob), await connect(eve)];
    const channel = freshChannel('room');
    await assert.rejects(b.subscribe(channel), { code: 'forbidden' });
    const founded = await a.call('members', { channel, add: [bob.user] });
    assert.deepEqual([founded.channel, new Map(founded.members.map(({ user, role }) => [user, role]))], [
      channel,
      new Map([[ann.user, 'owner'], [bob.user, undefined]]),
    ]);
    await b.subscribe(channel);
    for (const attempt of [
      () => e.subscribe(channel),
      () => e.publish(channel, 'let me in'),
      () => e.call('history', { channel }),
      () => e.call('presence', { channel }),
      () => e.call('signal', { channel }),
      () => e.call('members', { channel }),
      () => e.call('members', { channel, add: [eve.user] }),
      () => b.call('members', { channel, add: [eve.user] }),
      () => b.call('members', { channel, remove: [ann.user] }),
    ]) {
      await assert.rejects(attempt(), { code: 'forbidden' }, String(attempt));
    }
    assert.equal((await b.call('members', { channel })).members.length, 2);
  });

  test('who is removed loses the subscription, and hears nothing any more', async () => {
    const { bob, a, b, channel } = await twoInARoom();
    await b.subscribe(channel);
    await a.call('members', { channel, remove: [bob.user] });
    const { error } = await b.push('unsubscribed', (push) => push.channel === channel);
    assert.deepEqual([error.code, error.retry], ['forbidden', 'no']);
    await a.publish(channel, 'about Bob');
    await b.call('ping');
    assert.deepEqual(b.messages(channel), []);
    await assert.rejects(b.publish(channel, 'still me'), { code: 'forbidden' });
    await assert.rejects(b.subscribe(channel), { code: 'forbidden' });
    assert.ok(!(await b.call('channels')).channels.some((mine) => mine.channel === channel && mine.last));
  });

  test('everybody may leave', async () => {
    const { bob, a, b, channel } = await twoInARoom();
    await b.call('members', { channel, remove: [bob.user] });
    assert.equal((await a.call('members', { channel })).members.length, 1);
  });
});

describe('messages', () => {
  test('an edit reaches the other\'s screen, takes its own place, and is folded into history', async () => {
    const { ann, a, b, channel } = await twoInARoom();
    const { epoch } = await b.subscribe(channel);
    const first = await a.publish(channel, { text: 'teh' });
    const edit = await a.call('edit', { channel, seq: first.seq, data: { text: 'the' }, id: 'my-edit' });
    assert.deepEqual({ ...edit, at: 0 }, { channel, id: 'my-edit', epoch, seq: 2, target: 1, at: 0 });
    const push = await b.push('edit');
    assert.deepEqual(push, { channel, epoch, seq: 2, target: 1, id: 'my-edit', data: { text: 'the' }, from: { user: ann.user, name: 'Ann' }, at: edit.at });
    const { messages, head } = await b.call('history', { channel });
    const message = messages.find(({ seq }) => seq === 1);
    assert.equal(head, 2);
    assert.deepEqual([message.data, message.edited], [{ text: 'the' }, { seq: 2, at: edit.at }]);
  });

  test('a deletion leaves nothing to read', async () => {
    const { ann, a, b, channel } = await twoInARoom();
    const { epoch } = await b.subscribe(channel);
    const { seq } = await a.publish(channel, { text: 'canary-of-what-was-deleted' });
    const gone = await a.call('delete', { channel, seq });
    const { id, at } = gone;
    assert.deepEqual(gone, { channel, id, epoch, seq: 2, target: seq, at });
    assert.deepEqual(await b.push('delete'), { channel, epoch, seq: 2, target: 1, id, from: { user: ann.user, name: 'Ann' }, at });
    const page = await b.call('history', { channel });
    const message = page.messages.find((slot) => slot.seq === seq);
    assert.deepEqual([message.data, message.deleted], [null, { seq: 2, at }]);
    assert.ok(!JSON.stringify(page).includes('canary'));
    await assert.rejects(a.call('edit', { channel, seq, data: 1 }), { code: 'unknown_message', retry: 'no' });
    await assert.rejects(a.call('delete', { channel, seq }), { code: 'unknown_message' });
    await assert.rejects(a.call('delete', { channel, seq: 99 }), { code: 'unknown_message' });
  });

  test('only the author and who moderates may change a message', async () => {
    const { a, b, channel } = await twoInARoom();
    const bobs = await b.publish(channel, 'mine');
    const anns = await a.publish(channel, 'also mine');
    await assert.rejects(b.call('edit', { channel, seq: anns.seq, data: 'yours' }), { code: 'forbidden' });
    await assert.rejects(b.call('delete', { channel, seq: anns.seq }), { code: 'forbidden' });
    // Ann owns the room.
    assert.equal((await a.call('delete', { channel, seq: bobs.seq })).target, bobs.seq);
  });

  test('the same edit by the same id is made once', async () => {
    const { a, channel } = await twoInARoom();
    const { seq } = await a.publish(channel, 1);
    const [once, again] = [await a.call('edit', { channel, seq, data: 2, id: 'e' }), await a.call('edit', { channel, seq, data: 2, id: 'e' })];
    assert.deepEqual(again, once);
    assert.equal((await a.call('history', { channel })).head, 2);
  });

  test('a resume brings edits of what was seen before', async () => {
    const { a, b, channel } = await twoInARoom();
    const { epoch } = await b.subscribe(channel);
    const { seq } = await a.publish(channel, 'first');
    await b.push('message');
    await b.call('unsubscribe', { channel });
    await a.call('edit', { channel, seq, data: 'second' });
    const { recovered, missed } = await b.subscribe(channel, { since: { epoch, seq } });
    assert.deepEqual([recovered, missed], [true, 1]);
    assert.deepEqual(((push) => [push.target, push.data, push.seq])(await b.push('edit')), [1, 'second', 2]);
  });
});

describe('read and unread', () => {
  test('a read receipt appears on the other\'s screen; markers only move forward', async () => {
    const { ann, bob, a, b, channel } = await twoInARoom();
    const subscribed = await a.subscribe(channel, { receipts: true });
    assert.ok(Array.isArray(subscribed.receipts));
    for (const n of [1, 2, 3]) await a.publish(channel, n);
    assert.deepEqual(await b.call('delivered', { channel, seq: 3 }), { channel, read: 0, delivered: 3, unread: 3 });
    assert.deepEqual(await a.push('delivered', ({ user }) => user === bob.user), { channel, user: bob.user, seq: 3 });
    assert.deepEqual(await b.call('read', { channel, seq: 2 }), { channel, read: 2, delivered: 3, unread: 1 });
    assert.deepEqual(await a.push('read', ({ user }) => user === bob.user), { channel, user: bob.user, seq: 2 });
    assert.deepEqual(await b.call('read', { channel, seq: 1 }), { channel, read: 2, delivered: 3, unread: 1 });
    assert.deepEqual(await b.call('read', { channel, seq: 99 }), { channel, read: 3, delivered: 3, unread: 0 });
    const again = await a.subscribe(channel, { receipts: true });
    assert.deepEqual(again.receipts.find(({ user }) => user === bob.user), { user: bob.user, read: 3, delivered: 3 });
    assert.deepEqual([again.read, again.unread], [3, 0], `${ann.user} has read what she wrote`);
  });

  test('a user\'s devices share the marker', async () => {
    const { bob, a, b, channel } = await twoInARoom();
    const tablet = await connect(bob);
    await a.publish(channel, 1);
    await b.call('read', { channel, seq: 1 });
    assert.deepEqual(await tablet.push('read'), { channel, user: bob.user, seq: 1 });
    assert.equal((await tablet.subscribe(channel)).unread, 0);
  });

  test('unread counts what others wrote, without silent and deleted messages, edits and one\'s own', async () => {
    const { a, b, channel } = await twoInARoom();
    const unread = async () => (await b.call('channels')).channels.find((mine) => mine.channel === channel)?.unread;
    await a.publish(channel, 1);
    await a.publish(channel, 'hush', { silent: true });
    const third = await a.publish(channel, 3);
    await a.call('edit', { channel, seq: third.seq, data: 'three' });
    assert.equal(await unread(), 2);
    await a.call('delete', { channel, seq: third.seq });
    assert.equal(await unread(), 1);
    await b.publish(channel, 'I have read all that');
    assert.equal(await unread(), 0);
    const silent = (await b.call('history', { channel })).messages.find(({ data }) => data === 'hush');
    assert.equal(silent.silent, true);
  });

  test('channels lists mine, those active last first, in pages', async () => {
    const { ann, a, b } = await twoInARoom();
    const rooms = [];
    for (let n = 0; n < 3; n++) {
      const channel = freshChannel('room');
      rooms.unshift(channel);
      const { user } = await b.push('welcome');
      await a.call('members', { channel, add: [ann.user, user] });
      await a.publish(channel, n);
    }
    const mine = (await b.call('channels')).channels;
    assert.deepEqual(mine.slice(0, 3).map(({ channel, seq, read, delivered, unread, last }) => [channel, seq, read, delivered, unread, last.data]), [
      [rooms[0], 1, 0, 0, 1, 2],
      [rooms[1], 1, 0, 0, 1, 1],
      [rooms[2], 1, 0, 0, 1, 0],
    ]);
    const { epoch } = await b.subscribe(rooms[0]);
    assert.equal(mine[0].epoch, epoch);
    assert.ok(mine[0].active_at >= mine[0].last.at);
    const first = await b.call('channels', { limit: 2 });
    const rest = await b.call('channels', { limit: 100, after: first.after });
    assert.deepEqual([...first.channels, ...rest.channels].map(({ channel }) => channel), mine.map(({ channel }) => channel));
    assert.equal(rest.after, undefined);
  });

  test('news in a room that is not followed here is a notification, unless it is silent, followed, or muted', async () => {
    const { bob, a, b, channel } = await twoInARoom();
    await a.publish(channel, 'hush', { silent: true });
    await a.publish(channel, 'hello');
    const { unread, message } = await b.push('notification', (push) => push.channel === channel);
    assert.deepEqual([unread, message.data, message.seq], [1, 'hello', 2]);
    await ask(server, 'PUT', `me/channels/${encodeURIComponent(channel)}`, { token: bob.token, muted: true });
    const other = freshChannel('room');
    await a.call('members', { channel: other, add: [bob.user] });
    await b.subscribe(other);
    await a.publish(channel, 'muted');
    await a.publish(other, 'followed');
    await b.push('message', (push) => push.channel === other);
    await b.call('unsubscribe', { channel: other });
    await a.publish(other, 'not followed any more');
    await b.push('notification', (push) => push.channel === other);
    assert.deepEqual(
      b.pushes.items.filter(({ name }) => name === 'notification').map(({ push }) => push.message.data),
      ['hello', 'not followed any more'],
    );
  });

  test('a burst is one notification a second, of the newest', async () => {
    const { a, b, channel } = await twoInARoom();
    for (let n = 1; n <= 50; n++) a.socket.emit('publish', { channel, data: n });
    await b.push('notification', (push) => push.message.data === 50);
    const { length } = b.pushes.items.filter(({ name }) => name === 'notification');
    assert.ok(length <= 3, `${length} notifications`);
  });
});

describe('who is there', () => {
  test('typing is told with how long it holds, and nobody keeps it', async () => {
    const { ann, a, b, channel } = await twoInARoom();
    await b.subscribe(channel);
    await a.call('signal', { channel, event: 'typing', ttl: 5_000 });
    const { at, ...signal } = await b.push('signal');
    assert.deepEqual(signal, { channel, event: 'typing', data: null, from: { user: ann.user, name: 'Ann' }, ttl: 5_000 });
    await a.call('signal', { channel, event: 'typing', ttl: 0 });
    await b.push('signal', ({ ttl }) => ttl === 0);
    await assert.rejects(a.call('signal', { channel, ttl: 60_001 }), { code: 'bad_field' });
    assert.equal((await b.call('history', { channel })).head, 0);
  });

  test('presence is of users, by name', async () => {
    const { ann, bob, a, b, channel } = await twoInARoom();
    await a.subscribe(channel, { presence: true });
    await b.subscribe(channel);
    assert.deepEqual((await a.push('presence', (push) => push.joined)).joined, [{ user: bob.user, name: 'Bob' }]);
    const { users } = await b.call('presence', { channel });
    assert.deepEqual(users.map(({ user }) => user).sort(), [ann.user, bob.user].sort());
    for (const { state } of users) assert.equal(state, 'online');
  });

  test('status tells online, away, and the devices', async () => {
    const phone = await register(server, 'Ann', { id: 'phone', platform: 'ios' });
    const [a, b] = [await connect(phone), await connect(await register(server, 'Bob'))];
    const seen = async () => (await b.call('status', { users: [phone.user] })).users[0];
    const online = await seen();
    assert.deepEqual([online.user, online.state, online.devices], [phone.user, 'online', [{ device: 'phone', state: 'online' }]]);
    await a.call('status', { state: 'away' });
    await until(async () => (await seen()).state === 'away', 'away');
    await a.call('status', { state: 'online' });
    await until(async () => (await seen()).state === 'online', 'online');
    const nobody = await b.call('status', { users: ['nobody-at-all'] });
    assert.deepEqual(nobody.users, [{ user: 'nobody-at-all', state: 'offline' }]);
    await assert.rejects(a.call('status', { state: 'asleep' }), { code: 'bad_field' });
  });
});

describe('publishing to a user', () => {
  test('reaches all of their devices, and one device alone', async () => {
    const [ann, phone] = [await register(server, 'Ann'), await register(server, 'Bob', { id: 'phone' })];
    const laptop = await login(server, phone.user, { id: 'laptop' });
    const [a, onPhone, onLaptop] = [await connect(ann), await connect(phone), await connect(laptop)];
    const inbox = `@${encodeURIComponent(phone.user)}`;
    await onPhone.subscribe(inbox);
    await onLaptop.subscribe(inbox);
    assert.equal((await a.call('publish', { user: phone.user, data: 'to all' })).channel, inbox);
    for (const client of [onPhone, onLaptop]) assert.equal((await client.push('message')).data, 'to all');
    await onPhone.subscribe(`${inbox}/phone`);
    await assert.rejects(onLaptop.subscribe(`${inbox}/phone`), { code: 'forbidden' });
    await a.call('publish', { user: phone.user, device: 'phone', data: 'to one' });
    assert.equal((await onPhone.push('message', ({ data }) => data === 'to one')).channel, `${inbox}/phone`);
    await onLaptop.call('ping');
    assert.deepEqual(onLaptop.pushes.items.filter(({ push }) => push.data === 'to one'), []);
    await assert.rejects(a.subscribe(inbox), { code: 'forbidden' });
    await assert.rejects(a.call('history', { channel: inbox }), { code: 'forbidden' });
  });

  test('is refused to whom they have blocked, until they have not', async () => {
    const [ann, bob] = [await register(server, 'Ann'), await register(server, 'Bob')];
    const a = await connect(ann);
    await ask(server, 'PUT', `me/blocks/${ann.user}`, { token: bob.token });
    await until(() => a.call('publish', { user: bob.user, data: 1 }).then(() => false, ({ code }) => code === 'forbidden'), 'refused');
    await ask(server, 'DELETE', `me/blocks/${ann.user}`, { token: bob.token });
    await until(() => a.call('publish', { user: bob.user, data: 2 }).then(() => true, () => false), 'let through');
  });
});

describe('accounts and devices', () => {
  test('a login is refused as it is documented', async () => {
    const { user } = await register(server);
    const refusals = [
      [() => login(server, user, undefined, 'wrong password'), 401, 'bad_credentials'],
      [() => login(server, 'nobody-at-all', undefined, PASSWORD), 401, 'bad_credentials'],
      [() => ask(server, 'POST', 'auth/register', { user, password: PASSWORD }), 409, 'conflict'],
      [() => ask(server, 'POST', 'auth/register', { user: 'g-impostor', password: PASSWORD }), 400, 'bad_field'],
      [() => ask(server, 'POST', 'auth/login', { user }), 400, 'bad_field'],
      [() => ask(server, 'GET', 'me/devices', { token: 'nonsense' }), 401, 'unauthenticated'],
      [() => ask(server, 'GET', 'me/devices'), 401, 'unauthenticated'],
      [() => ask(server, 'GET', 'nowhere'), 404, 'not_found'],
      [() => ask(server, 'POST', 'auth/login', { user, password: 'x'.repeat(1_000_000) }), 413, 'too_large'],
    ];
    for (const [attempt, status, code] of refusals) {
      const error = await attempt().then(() => assert.fail(`let through: ${attempt}`), (e) => e);
      assert.ok(error instanceof HttpRefused, String(error));
      assert.deepEqual([error.status, error.code], [status, code], String(attempt));
    }
    assert.ok(!server.log.includes(PASSWORD) && !server.log.includes('wrong password'));
  });

  test('refresh tokens rotate; one that is shown again later ends the login, and its connection', async () => {
    const first = await register(server);
    const second = await ask(server, 'POST', 'auth/refresh', { refresh_token: first.refresh_token });
    const third = await ask(server, 'POST', 'auth/refresh', { refresh_token: second.refresh_token });
    const client = await connect({ token: third.access_token });
    const gone = next(client.socket, 'disconnect');
    await assert.rejects(ask(server, 'POST', 'auth/refresh', { refresh_token: first.refresh_token }), { status: 401 });
    assert.equal((await client.push('closing')).error.code, 'revoked');
    await gone;
    await assert.rejects(ask(server, 'POST', 'auth/refresh', { refresh_token: third.refresh_token }), { status: 401, code: 'revoked' });
  });

  test('log out that phone: its connection ends, the laptop\'s does not', async () => {
    const phone = await register(server, 'Ann', { id: 'phone', name: 'My phone', platform: 'android' });
    const laptop = await login(server, phone.user, { id: 'laptop', platform: 'web' });
    const clients = [await connect(phone), await connect(phone, { major: 2, transport: 'polling' })];
    const plain = keep(await PlainSocket.open(server, { token: phone.token }));
    const other = await connect(laptop);
    const { devices } = await ask(server, 'GET', 'me/devices', { token: laptop.token });
    assert.deepEqual(devices.map(({ id, platform }) => `${id} ${platform}`).sort(), ['laptop web', 'phone android']);
    assert.equal(devices.find(({ id }) => id === 'phone').name, 'My phone');
    const gone = clients.map((client) => next(client.socket, 'disconnect', 5_000));
    await ask(server, 'DELETE', 'me/devices/phone', { token: laptop.token });
    await Promise.all(gone);
    assert.deepEqual(await plain.end(), { code: 4127, reason: 'revoked' });
    for (const client of clients) assert.equal((await client.push('closing')).error.code, 'revoked');
    const refused = keep(new Client(server, { identity: { token: phone.token } }));
    assert.equal((await next(refused.socket, 'connect_error')).data.code, 'revoked');
    await assert.rejects(ask(server, 'POST', 'auth/refresh', { refresh_token: phone.refresh_token }), { status: 401, code: 'revoked' });
    await other.call('ping');
    assert.ok(other.socket.connected);
  });

  test('logging out everywhere ends every connection', async () => {
    const phone = await register(server);
    const laptop = await login(server, phone.user);
    const clients = [await connect(phone), await connect(laptop)];
    const gone = clients.map((client) => next(client.socket, 'disconnect', 5_000));
    await ask(server, 'POST', 'auth/logout', { token: laptop.token, everywhere: true });
    await Promise.all(gone);
  });

  test('who goes takes everything along: connections, and what was said', async () => {
    const [ann, bob] = [await register(server, 'Ann'), await register(server, 'Bob')];
    const [a, b] = [await connect(ann), await connect(bob)];
    const channel = freshChannel('room');
    await a.call('members', { channel, add: [bob.user] });
    const { seq } = await a.publish(channel, 'what she said');
    await b.publish(channel, 'what he said');
    const gone = next(a.socket, 'disconnect', 5_000);
    await ask(server, 'DELETE', 'me', { token: ann.token });
    await gone;
    await assert.rejects(login(server, ann.user), { code: 'bad_credentials' });
    const page = () => b.call('history', { channel }).then(({ messages }) => messages);
    const erased = await until(async () => (await page()).find((message) => message.seq === seq && message.deleted), 'erased', 40_000);
    assert.deepEqual([erased.data, erased.from], [null, { user: '$erased' }]);
    assert.deepEqual((await page()).map((message) => message.from.user), ['$erased', bob.user]);
    assert.deepEqual((await b.call('members', { channel })).members, [{ user: bob.user, role: 'owner' }]);
    const again = () => ask(server, 'POST', 'auth/register', { user: ann.user, name: 'Ann', password: PASSWORD });
    const next_ = await until(() => again().catch(() => undefined), 'free again', 40_000);
    assert.equal((await b.call('history', { channel })).messages[0].data, null);
    assert.deepEqual((await (await connect({ token: next_.access_token })).call('channels')).channels, []);
  });

  test('another password ends the other logins', async () => {
    const [here, there] = await (async () => {
      const registered = await register(server);
      return [registered, await login(server, registered.user)];
    })();
    const [stays, goes] = [await connect(here), await connect(there)];
    const gone = next(goes.socket, 'disconnect', 5_000);
    await ask(server, 'POST', 'auth/password', { token: here.token, current: PASSWORD, new: `${PASSWORD}, again` });
    await gone;
    await stays.call('ping');
    await assert.rejects(login(server, here.user), { code: 'bad_credentials' });
    await login(server, here.user, undefined, `${PASSWORD}, again`);
  });
});
