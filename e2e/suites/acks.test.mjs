// Acknowledgements with a time limit, as socket.io-client 4 offers them.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Client, Refused, TRANSPORTS, freshChannel } from '../clients.mjs';
import { Server } from '../server.mjs';

for (const transport of Object.keys(TRANSPORTS)) {
  describe(`acks with timeout, ${transport}`, () => {
    let server, client;
    before(async () => {
      server = await Server.start();
      client = await Client.open(server, { transport });
    });
    after(async () => {
      client?.close();
      await server?.stop();
    });

    test('an answer in time resolves', async () => {
      const channel = freshChannel();
      const answer = await client.socket.timeout(5_000).emitWithAck('publish', { channel, data: 1 });
      assert.equal(answer.ok.seq, 1);
      assert.ok((await client.call('ping')).at > 0);
    });

    test('a refusal is an answer too', async () => {
      const answer = await client.socket.timeout(5_000).emitWithAck('publish', { channel: 'with space', data: 1 });
      assert.equal(answer.error.code, 'bad_channel');
      await assert.rejects(client.publish('', 1), Refused);
    });

    test('a silent server runs into the timeout; its late answer harms nothing', async () => {
      const channel = freshChannel();
      await server.pause();
      try {
        await assert.rejects(client.socket.timeout(200).emitWithAck('publish', { channel, data: 'late' }), /timed out/);
      } finally {
        server.resume();
      }
      const { seq } = await client.publish(channel, 'after');
      assert.equal(seq, 2);
      const { messages } = await client.call('history', { channel });
      assert.deepEqual(messages.map((message) => message.data), ['late', 'after']);
    });
  });
}
