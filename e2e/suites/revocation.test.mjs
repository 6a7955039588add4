// What an operator takes away is gone within five seconds, on every transport.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { MESSENGER, register } from '../accounts.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { token } from '../jwt.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { EventStream } from '../sse.mjs';
import { next, until, within } from '../wait.mjs';

const SOON = 5_000;

let server, open = [];
before(async () => (server = await Server.start({ config: MESSENGER })));
after(() => server?.stop());
afterEach(() => open.splice(0).forEach((client) => client.close()));
const keep = (client) => {
  open.push(client);
  return client;
};

test('a revoked user is cut off everywhere, and stays out', async () => {
  const ann = await register(server, 'Ann');
  const signed = token({ sub: ann.user });
  const channel = freshChannel();
  const clients = [];
  for (const options of [{ major: 1 }, { major: 2, transport: 'polling' }, { major: 3, transport: 'upgrade' }, { major: 4 }, { major: 4, transport: 'polling' }]) {
    clients.push(keep(await Client.open(server, { ...options, identity: { token: clients.length % 2 ? signed : ann.token } })));
  }
  const plain = keep(await PlainSocket.open(server, { token: ann.token }));
  const stream = keep(await EventStream.open(server, [channel], { token: signed }));
  await stream.event('welcome');
  const bystander = keep(await Client.open(server, { identity: { token: token({ sub: 'bystander' }) } }));
  await bystander.publish(channel, 1);
  const position = await stream.event('message');

  const gone = [...clients.map((client) => next(client.socket, 'disconnect', SOON)), within(plain.closed, 'close', SOON), within(stream.ended, 'end', SOON)];
  await server.command('user', 'revoke', '--app', 'demo', ann.user);
  await Promise.all(gone);
  for (const client of clients) assert.equal((await client.push('closing')).error.code, 'revoked');
  assert.deepEqual(await plain.closed, { code: 4127, reason: 'revoked' });
  assert.equal((await stream.event('closing')).data.error.code, 'revoked');

  for (const bad of [ann.token, signed]) {
    const again = keep(new Client(server, { identity: { token: bad } }));
    assert.equal((await next(again.socket, 'connect_error')).data.code, 'revoked');
  }
  const resumed = await EventStream.open(server, [channel], { lastEventId: position.id });
  assert.equal(resumed.response.status, 401);
  assert.equal((await resumed.response.json()).error.code, 'revoked');
  await bystander.call('ping');
  assert.ok(bystander.socket.connected);
});

test('a guest that is switched off stays out, whatever it comes by; others are welcome', async () => {
  const guest = 'the-secret-of-a-nuisance';
  const channel = freshChannel();
  const stream = keep(await EventStream.open(server, [channel], { query: { guest } }));
  const { user } = (await stream.event('welcome')).data;
  const client = keep(await Client.open(server, { identity: { guest } }));
  const other = keep(await Client.open(server));
  await other.publish(channel, 1);
  const { id } = await stream.event('message');
  const gone = [next(client.socket, 'disconnect', SOON), within(stream.ended, 'end', SOON)];
  await server.command('user', 'disable', '--app', 'demo', user);
  await Promise.all(gone);

  for (const major of [2, 4]) {
    const again = keep(new Client(server, { major, identity: { guest } }));
    if (major === 4) assert.equal((await next(again.socket, 'connect_error')).data.code, 'revoked');
    else await next(again.socket, 'error');
  }
  for (const options of [{ query: { guest } }, { lastEventId: id }]) {
    const { response } = await EventStream.open(server, [channel], options);
    assert.equal(response.status, 401);
    assert.equal((await response.json()).error.code, 'revoked');
  }
  const plain = keep(await PlainSocket.raw(server, { guest }));
  plain.send({ id: 1, cmd: 'ping' });
  assert.deepEqual(await within(plain.closed, 'close'), { code: 4127, reason: 'revoked' });
  keep(await Client.open(server, { identity: { guest: 'the-secret-of-somebody-else' } }));
  await other.call('ping');

  await server.command('user', 'enable', '--app', 'demo', user);
  await until(async () => (await EventStream.open(server, [channel], { query: { guest } })).response.ok, 'welcome again', SOON);
});
