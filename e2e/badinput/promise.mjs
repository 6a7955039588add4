// What holds after every bad input: the process lives, its memory is bounded, the others are undisturbed, and it was counted.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, freshChannel } from '../clients.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const GROWTH = 64 * 1024 * 1024;

/**
 * Starts a server for this file and gives `offend(name, options, attack)`: a test that runs `attack(server)` and then checks the promise.
 * `counted: false` is for input that is unusual but allowed, so that nothing is refused.
 */
export function promise(config = '') {
  let server, bystander;
  let beats = 0;
  let ended;
  const channel = freshChannel('live');
  before(async () => {
    server = await Server.start({ config });
    bystander = await Client.open(server);
    bystander.socket.on('disconnect', (reason, details) => (ended = `${reason} ${details?.description ?? ''}`));
    await bystander.subscribe(channel);
  });
  after(() => {
    bystander?.close();
    return server?.stop();
  });

  return function offend(name, { counted = true } = {}, attack) {
    test(name, async () => {
      const [refused, memory] = [await server.metric('xpush_refused_total'), server.rss()];
      const first = beats + 1;
      const beat = setInterval(() => bystander.socket.emit('publish', { channel, data: ++beats }), 100);
      try {
        await attack(server);
      } finally {
        clearInterval(beat);
      }

      assert.ok(server.alive, `the process ended:\n${server.log}`);
      assert.equal(ended, undefined, 'the bystander was disconnected');
      const last = ++beats;
      await bystander.publish(channel, last);
      await bystander.push('message', ({ data }) => data === last);
      const heard = bystander.messages(channel).map(({ data }) => data).filter((data) => data >= first);
      assert.deepEqual(heard, Array.from({ length: last - first + 1 }, (_, n) => first + n), 'the bystander was disturbed');
      bystander.pushes.items.length = 0;

      const growth = server.rss() - memory;
      assert.ok(growth < GROWTH, `memory grew by ${(growth / 1e6).toFixed(0)} MB`);
      assert.doesNotMatch(server.log, /panicked/);
      if (counted) await until(async () => (await server.metric('xpush_refused_total')) > refused, 'counted in xpush_refused_total', 1_000);
    });
  };
}
