// Who comes and goes, as a log that the application's back end follows.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { MESSENGER, register } from '../accounts.mjs';
import { Client } from '../clients.mjs';
import { token } from '../jwt.mjs';
import { Server } from '../server.mjs';

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
