// schemathesis: requests made out of the server's own description, good ones and bad ones; each answer is compared with what the description says of it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { MESSENGER } from '../accounts.mjs';
import { token } from '../jwt.mjs';
import { PYTHON, run } from '../python.mjs';
import { Server } from '../server.mjs';

const folder = mkdtempSync(join(tmpdir(), 'xpush-schemathesis-'));

// Every check is on. What may be refused although each part of it is as described, and why:
const DEPENDS = {
  listChannels: 'names are bounded by their bytes, which no pattern counts',
  history: 'before and after exclude each other; some channels keep no history',
  presence: 'some channels keep no presence',
  conversations: 'after is what the page before gave',
  search: 'a query must ask for something, of a channel that is searched',
  publish: 'either a channel or a user is to be named',
  block: 'nobody blocks themselves',
  uploadFile: 'this app takes no files',
  listFiles: 'after is a file of the page before',
};
// A URL that is too long is refused (431) before anybody looks at what it asks for.
const TOO_LONG = '[[operations]]\ninclude-operation-id = "assign"\n[operations.checks]\nnegative_data_rejection.enabled = false\n';
const exceptions = Object.entries(DEPENDS).map(
  ([id, why]) => `[[operations]] # ${why}\ninclude-operation-id = "${id}"\n[operations.checks]\npositive_data_acceptance.enabled = false\n`,
);
writeFileSync(join(folder, 'schemathesis.toml'), exceptions.join('') + TOO_LONG);

let server;
before(async () => (server = await Server.start({ config: MESSENGER })));
after(async () => {
  await server?.stop();
  rmSync(folder, { recursive: true });
});

const apiKey = async () => /xk_demo\.[\w.-]+/.exec(await server.command('app', 'key', 'create', 'demo', '--scope', 'admin'))[0];

for (const [what, credentials, ...which] of [
  ['for back ends', apiKey, '--exclude-tag', 'me', '--exclude-tag', 'accounts', '--exclude-tag', 'administration'],
  // What ends the token that the others need is left to the suites in Rust.
  ['for users', () => token({ sub: 'ann', app: 'demo' }), '--include-tag', 'me', '--include-tag', 'accounts', '--exclude-operation-id', 'endMe', '--exclude-operation-id', 'logOut'],
]) {
  test(`the server does what its description says, ${what}`, async () => {
    const settings = ['--seed', '7', '--generation-deterministic', '--phases', 'coverage,fuzzing', '--max-examples', '25'];
    const { code, stdout, stderr } = await run(
      join(dirname(PYTHON), 'schemathesis'),
      [
        'run',
        `${server.url}/api/v1/openapi.json`,
        ...settings,
        ...which,
        '--header',
        `Authorization: Bearer ${await credentials()}`,
        '--suppress-health-check',
        'all',
        '--no-color',
      ],
      { ms: 60_000, cwd: folder },
    );
    assert.equal(code, 0, `${stdout.slice(-40_000)}\n${stderr.slice(-2_000)}`);
    assert.ok(server.alive);
    for (const word of ['panicked', 'ERROR']) assert.ok(!server.log.includes(word), server.log);
  });
}
