// Connections that must not be: each client's own way to say so.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Client, FLAVOURS } from '../clients.mjs';
import { Server } from '../server.mjs';
import { within } from '../wait.mjs';

let server, client;
before(async () => (server = await Server.start()));
after(() => server?.stop());
afterEach(() => client?.close());

/** What the client says of a refused connection: `connect_error` with an error since 3, `error` with a text before. */
function refusal(options) {
  client = new Client(server, options);
  return within(
    new Promise((resolve, reject) => {
      client.socket.once(options.major >= 3 ? 'connect_error' : 'error', resolve);
      client.socket.once('connect', () => reject(new Error('connected')));
    }),
    'refusal',
  );
}

for (const flavour of FLAVOURS) {
  describe(flavour.label, () => {
    test('an unknown namespace', async () => {
      const error = await refusal({ ...flavour, namespace: '/nowhere' });
      if (flavour.major < 3) return assert.equal(error, 'Invalid namespace');
      assert.equal(error.message, 'Invalid namespace');
      assert.equal(error.data.code, 'unknown_namespace');
      assert.equal(error.data.retry, 'no');
    });

    test('an identity that is wrong', async () => {
      for (const [identity, code] of [[{ app: 'nobody' }, 'unknown_app'], [{ guest: 'short' }, 'bad_field'], [{ name: ' ' }, 'bad_field']]) {
        const error = await refusal({ ...flavour, identity });
        if (flavour.major < 3) assert.ok(typeof error === 'string' && error.length > 0, String(error));
        else assert.equal(error.data.code, code);
        client.close();
      }
    });
  });
}
