// Who comes and goes, as a log that the application's back end follows.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { MESSENGER, register } from '../accounts.mjs';
import { Client } from '../clients.mjs';
import { token } from '../jwt.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

let server;
before(async () => (server = await Server.start({ config: MESSENGER })));
after(() => server?.stop());
const connect = (account) => Client.open(server, { identity: { token: account.token } });

test('a back end follows who comes and goes, in order', async () => {
  const backend = await connect({ token: token({ sub: 'backend', roles: ['server'] }) });
  await backend.subscribe('$presence');
  const ann = await register(server, 'Ann');
  const a = await connect(ann);
  await backend.push('message', ({ channel, data }) => channel === '$presence' && data.user === ann.user && data.state === 'online');
  await a.call('status', { state: 'away' });
  const away = await backend.push('message', ({ data }) => data?.user === ann.user && data.state === 'away');
  assert.equal(away.event, 'status');
  await assert.rejects(a.subscribe('$presence'), { code: 'forbidden' });
  await assert.rejects(a.publish('$presence', 1), (error) => ['forbidden', 'bad_channel'].includes(error.code));
});

for (const how of ['crash', 'end']) {
  test(`who was there when the server stopped (${how}) is told to be offline by the next one, unless it is back`, async () => {
    const [ann, bob] = [await register(server, 'Ann'), await register(server, 'Bob')];
    const clients = [await connect(ann), await connect(bob)];
    const backend = () => connect({ token: token({ sub: 'backend', roles: ['server'] }) });
    const log = async (client, user) => {
      const { messages } = await client.call('history', { channel: '$presence', limit: 100 });
      return messages.filter(({ data }) => data.user === user).map(({ data }) => data.state);
    };
    const first = await backend();
    await until(async () => (await log(first, bob.user)).length === 1 && (await log(first, ann.user)).length === 1, 'both are online');
    if (how === 'crash') await server.crash();
    else {
      await server.end('SIGTERM');
      await server.launch();
    }
    for (const client of [first, ...clients]) client.close();
    const again = [await backend(), await connect(bob)];
    await until(async () => (await log(again[0], ann.user)).at(-1) === 'offline', 'she is offline', 30_000);
    assert.deepEqual(await log(again[0], ann.user), ['online', 'offline']);
    assert.deepEqual(await log(again[0], bob.user), ['online']);
    for (const client of again) client.close();
  });
}
