// The HTTP API for back ends (docs/api.md): what a server publishes and asks, and what clients see of it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { MESSENGER } from '../accounts.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { token } from '../jwt.mjs';
import { Server } from '../server.mjs';
import { EventStream } from '../sse.mjs';
import { until } from '../wait.mjs';

let server, key;
const open = [];
before(async () => {
  server = await Server.start({ config: MESSENGER, args: ['--log-level', 'trace'] });
  key = await newKey('admin');
});
after(() => {
  open.forEach((client) => client.close());
  return server?.stop();
});

/** A key as `xpush app key create` prints it. */
async function newKey(...scopes) {
  const printed = await server.command('app', 'key', 'create', 'demo', ...scopes.flatMap((scope) => ['--scope', scope]));
  return /xk_demo\.\S+/.exec(printed)[0].replaceAll("'", '');
}

/** Asks: `{status, text, body}`. A `body` that is text or bytes is sent as it is. */
async function call(method, path, body, { shown = key, ...headers } = {}) {
  const raw = typeof body === 'string' || body instanceof Uint8Array;
  const response = await fetch(`${server.url}/api/v1/${path}`, {
    method,
    body: raw || body === undefined ? body : JSON.stringify(body),
    headers: { authorization: `Bearer ${shown}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
  });
  const text = await response.text();
  return { status: response.status, text, body: JSON.parse(text) };
}

async function ok(...request) {
  const { status, text, body } = await call(...request);
  assert.ok(status < 300, `${request[0]} ${request[1]}: ${status} ${text}`);
  return body;
}

async function refused(code, ...request) {
  const { body } = await call(...request);
  assert.equal(body.error?.code, code, `${request[0]} ${request[1]}`);
}

async function connect(claims) {
  const client = await Client.open(server, { identity: { token: token(claims) } });
  open.push(client);
  return client;
}

const channelPath = (channel) => `channels/${encodeURIComponent(channel)}`;

test('a message reaches sockets, streams and history as the bytes that came', async () => {
  const channel = freshChannel('chat');
  const ann = await connect({ sub: 'ann' });
  await ann.subscribe(channel);
  const stream = await EventStream.open(server, [channel], { token: token({ sub: 'ann' }) });
  open.push(stream);
  const data = '{ "n" : 1.50e3, "s":"\\u00e9" ,"d":[ 1,1 ] }';
  const published = await ok('POST', 'messages', `{"channel":"${channel}","data":${data},"event":"order","from":{"user":"bob","name":"Bob"}}`);
  assert.deepEqual([published.channel, published.seq], [channel, 1]);
  const heard = await ann.push('message');
  assert.deepEqual([heard.event, heard.data, heard.from], ['order', { n: 1500, s: 'é', d: [1, 1] }, { user: 'bob', name: 'Bob' }]);
  await stream.events.first((event) => event.name === 'message');
  const page = await call('GET', `${channelPath(channel)}/messages`);
  assert.ok(page.text.includes(`"data":${data},`), page.text);
  await ok('PATCH', `${channelPath(channel)}/messages/1`, { data: 'new' });
  assert.equal((await ann.push('edit')).data, 'new');
  await ok('DELETE', `${channelPath(channel)}/messages/1`);
  assert.equal((await ann.push('delete')).target, 1);
  await refused('unknown_message', 'DELETE', `${channelPath(channel)}/messages/1`);
});

test('the same idempotency key is one message, over a crash, too', async () => {
  const channel = freshChannel('chat');
  const send = () => ok('POST', 'messages', { channel, data: 1 }, { 'idempotency-key': 'order-7' });
  const first = await send();
  assert.deepEqual(await send(), first);
  await server.crash();
  assert.deepEqual(await send(), first);
  assert.equal((await ok('GET', `${channelPath(channel)}/messages`)).head, 1);
});

test('1,000 messages have one answer, in order', async () => {
  const [one, other] = [freshChannel('chat'), freshChannel('chat')];
  const messages = Array.from({ length: 1_000 }, (_, number) => ({ channel: number % 2 ? one : other, data: number }));
  const { results } = await ok('POST', 'messages/batch', { messages }, { 'idempotency-key': 'import' });
  assert.deepEqual(results.map(({ ok }) => ok?.seq), messages.map((_, number) => (number >> 1) + 1));
  const again = await ok('POST', 'messages/batch', { messages }, { 'idempotency-key': 'import' });
  assert.deepEqual(again, { results });
});

test('users are reached, counted and disconnected', async () => {
  const [phone, laptop] = [await connect({ sub: 'cid', device: 'phone' }), await connect({ sub: 'cid', device: 'laptop' })];
  await phone.subscribe('@cid');
  const channel = freshChannel('chat');
  for (const client of [phone, laptop]) await client.subscribe(channel);
  await ok('POST', 'messages', { user: 'cid', data: 'paid' });
  assert.equal((await phone.push('message')).data, 'paid');
  await ok('POST', 'signals', { channel, event: 'tick', data: 7 });
  assert.equal((await laptop.push('signal')).data, 7);
  const there = await ok('GET', `${channelPath(channel)}/presence`);
  assert.deepEqual([there.count, there.users[0].user], [1, 'cid']);
  const live = await ok('GET', `channels?prefix=${encodeURIComponent(channel)}`);
  assert.deepEqual(live.channels, [{ channel, subscribers: 2 }]);
  assert.equal((await ok('GET', 'users/cid/status')).users[0].state, 'online');
  assert.ok((await ok('GET', 'users/cid/channels')).channels.some((one) => one.channel === channel));
  await ok('POST', 'users/cid/disconnect', { device: 'phone' });
  assert.equal((await phone.push('closing')).error.code, 'revoked');
  await laptop.publish(channel, 'still here');
  await ok('POST', 'users/cid/disconnect');
  assert.equal((await laptop.push('closing')).error.code, 'revoked');
});

test("a user's connections follow what its server says", async () => {
  const channel = freshChannel('chat');
  const eve = await connect({ sub: 'eve' });
  eve.socket.on('subscribed', (push) => eve.pushes.push({ name: 'subscribed', push }));
  await ok('PUT', `users/eve/subscriptions/${encodeURIComponent(channel)}`);
  assert.equal((await eve.push('subscribed')).channel, channel);
  await ok('POST', 'messages', { channel, data: 'for eve' });
  assert.equal((await eve.push('message')).data, 'for eve');
  await ok('DELETE', `users/eve/subscriptions/${encodeURIComponent(channel)}`);
  assert.equal((await eve.push('unsubscribed')).channel, channel);
});

test('members come and go', async () => {
  const room = freshChannel('room');
  await ok('POST', `${channelPath(room)}/members`, { add: ['ann', 'bob'], role: 'moderator' });
  const bob = await connect({ sub: 'bob' });
  await bob.subscribe(room);
  await ok('DELETE', `${channelPath(room)}/members/bob`);
  assert.equal((await bob.push('unsubscribed')).channel, room);
  const { members } = await ok('GET', `${channelPath(room)}/members`);
  assert.deepEqual(members.map(({ user, role }) => [user, role]), [['ann', 'moderator']]);
});

describe('what is refused', () => {
  const deep = (levels) => `{"channel":"chat:x","data":${'['.repeat(levels)}${']'.repeat(levels)}}`;
  for (const [what, code, ...request] of [
    ['a body of 10 MB', 'too_large', 'POST', 'messages', `{"channel":"chat:x","data":"${'x'.repeat(10 << 20)}"}`],
    ['a batch of 10 MB', 'too_large', 'POST', 'messages/batch', 'x'.repeat(10 << 20)],
    ['a depth bomb', 'bad_json', 'POST', 'messages', deep(31)],
    ['a deeper one', 'bad_json', 'POST', 'messages', deep(400_000)],
    ['a name twice', 'bad_json', 'POST', 'messages', '{"channel":"chat:x","channel":"chat:y","data":1}'],
    ['another content type', 'bad_content_type', 'POST', 'messages', '{}', { 'content-type': 'text/xml' }],
    ['a parameter twice', 'bad_field', 'GET', 'users?limit=1&limit=2'],
    ['a reserved event', 'bad_event', 'POST', 'messages', { channel: 'chat:x', event: 'disconnect', data: 1 }],
    ["XPUSH's own channel", 'forbidden', 'POST', 'messages', { channel: '$presence', data: 1 }],
    ['a channel without a rule', 'not_found', 'POST', 'messages', { channel: 'nowhere', data: 1 }],
    ['a channel without history', 'no_history', 'GET', 'channels/live:x/messages'],
    ['an unknown user', 'not_found', 'GET', 'users/nobody'],
    ['an unknown key', 'not_found', 'DELETE', 'keys/nothing'],
    ['another method', 'method_not_allowed', 'PUT', 'messages', {}],
    ['an unknown path', 'not_found', 'GET', 'nowhere'],
  ]) {
    test(what, () => refused(code, ...request));
  }
});

test('a key opens what its scopes say until it is revoked, and no secret is in the log', async () => {
  const reader = await newKey('read');
  await ok('GET', 'stats', undefined, { shown: reader });
  await refused('forbidden', 'POST', 'messages', { channel: 'chat:x', data: 1 }, { shown: reader });
  await refused('forbidden', 'GET', 'users', undefined, { shown: token({ sub: 'ann' }) });
  await ok('GET', 'users', undefined, { shown: token({ sub: 'backend', roles: ['server'] }) });
  const canary = randomBytes(16).toString('hex');
  await refused('unauthenticated', 'GET', 'stats', undefined, { shown: `${reader.replace(/\.[^.]*$/, '')}.${canary}` });
  await ok('POST', 'messages', { channel: freshChannel('chat'), data: canary });
  await ok('POST', 'users', { user: 'dee', password: canary });
  await server.command('app', 'key', 'revoke', 'demo', reader.split('.')[1]);
  await until(async () => (await call('GET', 'stats', undefined, { shown: reader })).status === 401, 'revoked');
  for (const secret of [key, reader, canary]) assert.ok(!server.log.includes(secret.split('.').at(-1)), 'a secret is in the log');
});
