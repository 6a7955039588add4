// Connection tokens and subscription tokens: who one is, what one may, and for how long.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { MESSENGER } from '../accounts.mjs';
import { Client, FLAVOURS, freshChannel } from '../clients.mjs';
import { now, token } from '../jwt.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { EventStream } from '../sse.mjs';
import { next, within } from '../wait.mjs';

const FORBIDDEN = { code: 'forbidden', retry: 'no' };

let server, open = [];
before(async () => (server = await Server.start({ config: MESSENGER })));
after(() => server?.stop());
afterEach(() => open.splice(0).forEach((client) => client.close()));
const keep = (client) => {
  open.push(client);
  return client;
};
const connect = async (claims, options) => keep(await Client.open(server, { identity: { token: token(claims) }, ...options }));
const server_ = () => connect({ sub: 'backend', roles: ['server'] });

describe('a good token is welcomed', () => {
  const claims = { sub: 'ann', name: 'Ann', device: 'phone', app: 'demo', aud: ['xpush', 'else'] };

  for (const flavour of FLAVOURS) {
    test(flavour.label, async () => {
      const client = keep(await Client.open(server, { ...flavour, identity: { token: token(claims), name: 'Ignored', device: 'ignored' } }));
      const { node, rate, expires_at, ...welcome } = await client.push('welcome');
      assert.deepEqual(welcome, { app: 'demo', user: 'ann', name: 'Ann', guest: false, device: 'phone' });
      assert.ok(Math.abs(expires_at - (now() + 3_600) * 1_000) < 10_000, `${expires_at}`);
    });
  }

  for (const algorithm of ['HS256', 'RS256', 'ES256', 'EdDSA']) {
    test(`${algorithm}, with kid and without`, async () => {
      for (const header of [{}, { kid: algorithm }]) {
        const client = keep(await Client.open(server, { identity: { token: token(claims, { algorithm, header }) } }));
        assert.equal((await client.push('welcome')).user, 'ann');
      }
    });
  }

  test('/ws: by connect, by the query, by the header', async () => {
    const credentials = token(claims);
    const byConnect = keep(await PlainSocket.raw(server));
    assert.equal((await byConnect.call('connect', { token: credentials })).user, 'ann');
    const byQuery = keep(await PlainSocket.open(server, { token: credentials }));
    assert.equal((await byQuery.push('welcome')).user, 'ann');
    const byHeader = keep(await PlainSocket.raw(server, {}, { headers: { authorization: `Bearer ${credentials}` } }));
    await byHeader.call('ping');
    assert.equal((await byHeader.push('welcome')).user, 'ann');
  });

  test('/sse: by the query, by the header', async () => {
    for (const how of [{ query: { token: token(claims) } }, { token: token(claims) }]) {
      const stream = keep(await EventStream.open(server, ['chat:a'], how));
      assert.equal((await stream.event('welcome')).data.user, 'ann');
    }
  });

  test('clocks may be five seconds off', async () => {
    for (const time of [{ exp: now() - 2 }, { iat: now() + 3 }, { nbf: now() + 3 }]) {
      const client = keep(new Client(server, { identity: { token: token({ sub: 'ann', ...time }) } }));
      await client.push('welcome');
    }
  });
});

test('what a user says is told with its name, and nobody else\'s id can be had by it', async () => {
  const [ann, bob] = [await connect({ sub: 'ann', name: 'Ann' }), await connect({ sub: 'bob' })];
  const channel = freshChannel();
  await bob.subscribe(channel);
  await ann.publish(channel, 1);
  assert.deepEqual((await bob.push('message')).from, { user: 'ann', name: 'Ann' });
});

describe('capabilities', () => {
  test('alone decide: what no pattern matches is forbidden', async () => {
    const client = await connect({ sub: 'ann', channels: { 'chat:read-*': ['subscribe', 'history'], 'chat:all-*': ['*'] } });
    await client.subscribe('chat:read-1');
    assert.equal((await client.call('history', { channel: 'chat:read-1' })).head, 0);
    await assert.rejects(client.publish('chat:read-1', 1), FORBIDDEN);
    await assert.rejects(client.call('signal', { channel: 'chat:read-1' }), FORBIDDEN);
    await assert.rejects(client.call('presence', { channel: 'chat:read-1' }), FORBIDDEN);
    await client.subscribe('chat:all-1');
    assert.equal((await client.publish('chat:all-1', 1)).seq, 1);
    for (const channel of ['chat:other', 'room:x', 'staff:x']) await assert.rejects(client.subscribe(channel), FORBIDDEN, channel);
  });

  test('let into channels that the rule keeps closed, but never beyond any rule', async () => {
    const client = await connect({ sub: 'ann', channels: { '*': ['*'] } });
    await client.subscribe('staff:room');
    await client.subscribe('private:x');
    await assert.rejects(client.subscribe('nobody:has-a-rule'), FORBIDDEN);
    await assert.rejects(client.subscribe('@bob'), FORBIDDEN);
    await assert.rejects(client.subscribe('$presence'), FORBIDDEN);
  });

  test('a pattern matches whole names only', async () => {
    const client = await connect({ sub: 'ann', channels: { 'chat:a': ['subscribe'] } });
    await client.subscribe('chat:a');
    for (const channel of ['chat:ab', 'chat:A', 'chat:']) await assert.rejects(client.subscribe(channel), FORBIDDEN, channel);
  });
});

test('roles open what asks for them; the server may everything', async () => {
  const [staff, ann, backend] = [await connect({ sub: 'sue', roles: ['staff'] }), await connect({ sub: 'ann' }), await server_()];
  await staff.subscribe('staff:desk');
  await assert.rejects(ann.subscribe('staff:desk'), FORBIDDEN);
  await assert.rejects(ann.publish('staff:desk', 1), FORBIDDEN);
  for (const channel of ['staff:desk', 'room:any', 'private:any']) {
    await backend.subscribe(channel);
    await backend.publish(channel, 'from the back end');
  }
  assert.equal((await staff.push('message')).data, 'from the back end');
});

test('guests are let in where anyone is, and nowhere else', async () => {
  const guest = keep(await Client.open(server));
  await guest.subscribe(freshChannel());
  for (const channel of ['staff:desk', 'room:any', 'private:any', '@ann']) await assert.rejects(guest.subscribe(channel), FORBIDDEN, channel);
  await assert.rejects(guest.call('publish', { user: 'ann', data: 1 }), FORBIDDEN);
});

describe('subscription tokens', () => {
  const forChannel = (channel, claims) => token({ sub: 'ann', channel, exp: now() + 60, ...claims });

  test('let their user into their channel', async () => {
    const ann = await connect({ sub: 'ann' });
    const channel = freshChannel('private');
    await assert.rejects(ann.subscribe(channel), FORBIDDEN);
    await ann.subscribe(channel, { token: forChannel(channel) });
    assert.equal((await ann.publish(channel, 1)).seq, 1);
    assert.equal((await ann.call('history', { channel })).head, 1);
  });

  test('allow what they say', async () => {
    const ann = await connect({ sub: 'ann' });
    const channel = freshChannel('private');
    await ann.subscribe(channel, { token: forChannel(channel, { actions: ['subscribe'] }) });
    await assert.rejects(ann.publish(channel, 1), FORBIDDEN);
    await assert.rejects(ann.call('history', { channel }), FORBIDDEN);
  });

  test('are nobody else\'s, for no other channel, and of one key', async () => {
    const ann = await connect({ sub: 'ann' });
    const channel = freshChannel('private');
    const wrong = [
      forChannel(channel, { sub: 'bob' }),
      forChannel(`${channel}x`),
      token({ sub: 'ann' }),
      token({ sub: 'ann', channel }, { secret: 'another secret, and a long one at that, isn\'t it' }),
      'nonsense',
    ];
    for (const [index, bad] of wrong.entries()) {
      await assert.rejects(ann.subscribe(channel, { token: bad }), (error) => ['forbidden', 'unauthenticated'].includes(error.code), `${index}`);
    }
    await assert.rejects(ann.subscribe(channel, { token: forChannel(channel, { exp: now() - 60 }) }), { code: 'token_expired' });
  });

  test('are no connection tokens', async () => {
    const client = keep(new Client(server, { identity: { token: forChannel('private:x') } }));
    const error = await next(client.socket, 'connect_error');
    assert.equal(error.data.code, 'unauthenticated');
  });

  test('end their subscription when they end', async () => {
    const ann = await connect({ sub: 'ann' });
    const channel = freshChannel('private');
    await ann.subscribe(channel, { token: forChannel(channel, { exp: now() + 2 }) });
    const { error } = await ann.push('unsubscribed', (push) => push.channel === channel);
    assert.equal(error.code, 'token_expired');
    await (await server_()).publish(channel, 'unheard');
    await ann.call('ping');
    assert.deepEqual(ann.messages(channel), []);
  });
});

describe('expiry', () => {
  for (const { label, ...flavour } of FLAVOURS.filter(({ major, parser }) => [2, 4].includes(major) && !parser)) {
    test(`a connection is warned, and ends at exp (${label})`, async () => {
      const exp = now() + 4;
      const client = keep(await Client.open(server, { ...flavour, identity: { token: token({ sub: 'ann', exp }) } }));
      const gone = next(client.socket, 'disconnect', 15_000);
      assert.equal((await client.push('token_expiring')).expires_at, exp * 1_000);
      assert.equal((await client.push('closing')).error.code, 'token_expired');
      await gone;
    });
  }

  test('a connection is warned, and ends at exp (/ws)', async () => {
    const plain = keep(await PlainSocket.open(server, { token: token({ sub: 'ann', exp: now() + 4 }) }));
    await plain.push('token_expiring');
    assert.equal((await plain.push('closing')).error.code, 'token_expired');
    assert.deepEqual(await within(plain.closed, 'close', 12_000), { code: 4126, reason: 'token_expired' });
  });

  test('refresh goes on without a break, for the same user alone', async () => {
    const channel = freshChannel();
    const end = now() + 8;
    const [ann, bob] = [await connect({ sub: 'ann', exp: end }), await connect({ sub: 'bob' })];
    await ann.subscribe(channel);
    await ann.push('token_expiring');
    for (const [bad, code] of [
      [token({ sub: 'bob' }), 'forbidden'],
      [token({ sub: 'ann', app: 'other' }), 'unauthenticated'],
      ['nonsense', 'unauthenticated'],
      [token({ sub: 'ann', exp: now() - 60 }), 'token_expired'],
    ]) {
      await assert.rejects(ann.call('refresh', { token: bad }), (error) => error.code === code || (code === 'forbidden' && error.code === 'unauthenticated'), `${code}`);
    }
    const exp = now() + 600;
    assert.equal((await ann.call('refresh', { token: token({ sub: 'ann', exp }) })).expires_at, exp * 1_000);
    // Behind the end of the first token.
    const late = await connect({ sub: 'carl', exp: end + 1 });
    assert.equal((await late.push('closing')).error.code, 'token_expired');
    await bob.publish(channel, 'still here');
    assert.equal((await ann.push('message')).data, 'still here');
    assert.ok(ann.socket.connected);
  });

  test('refresh takes another token\'s permissions', async () => {
    const ann = await connect({ sub: 'ann', channels: { 'chat:*': ['subscribe', 'publish'] } });
    const channel = freshChannel();
    await ann.subscribe(channel);
    await ann.call('refresh', { token: token({ sub: 'ann', channels: { 'live:*': ['subscribe'] } }) });
    const { error } = await ann.push('unsubscribed', (push) => push.channel === channel);
    assert.equal(error.code, 'forbidden');
    await assert.rejects(ann.publish(channel, 1), FORBIDDEN);
  });
});
