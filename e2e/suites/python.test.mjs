// python-socketio on both of its transports; the steps are in python/.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { MESSENGER } from '../accounts.mjs';
import { PYTHON, run } from '../python.mjs';
import { Server } from '../server.mjs';

let server;
before(async () => (server = await Server.start({ config: MESSENGER })));
after(() => server?.stop());

for (const transport of ['polling', 'websocket']) {
  for (const flow of ['flow', 'messenger']) {
    test(`python-socketio, ${flow}, ${transport}`, async (t) => {
      const script = join(import.meta.dirname, `../python/${flow}.py`);
      const { code, stdout, stderr } = await run(PYTHON, [script, server.url, transport]);
      const steps = stdout.trim().split('\n').filter(Boolean).map((line) => JSON.parse(line));
      for (const { step, failure } of steps.slice(0, -1)) {
        await t.test(step, () => assert.equal(failure, null, failure));
      }
      assert.deepEqual(steps.at(-1), { end: true }, stderr);
      assert.equal(code, 0, stderr);
    });
  }
}
