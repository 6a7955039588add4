// schemathesis: requests made out of the server's own description, good ones and bad ones; each answer is compared with what the description says of it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { MESSENGER } from '../accounts.mjs';
import { PASSWORD, firstOperator } from '../admin.mjs';
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
  createUser: 'some names are the server\'s to give: those of guests, of 0.1 clients, of itself',
  uploadFile: 'this app takes no files',
  listFiles: 'after is a file of the page before',
  adminHistory: 'before and after exclude each other; some channels keep no history',
  adminPresence: 'some channels keep no presence',
  adminConversations: 'after is what the page before gave',
  adminSnippets: 'a host is more than its characters',
  adminCreateUser: 'the same of names',
  adminCheck: 'settings are a language of their own',
  adminCreateApp: 'settings are a language of their own',
  adminChangeApp: 'settings are a language of their own',
  adminRules: 'rules are a part of that language, and an app has at least one',
  adminTestRules: 'rules are a part of that language, and an app has at least one',
  adminOrigins: 'an origin has more to it than its characters',
  adminAddSigningKey: 'a secret is for HS256, a public key for the others, and both must be some',
};
/** Here the app is the one that is there, whatever else was made up to be refused. */
const OUR_APP = ['adminVersion', 'adminRestore'];
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

/** What an operator must not have asked in its name, and why. */
const NOT_ASKED = {
  adminDeleteApp: 'it would take away the app that everything else is asked of',
  adminSignOut: 'it ends the cookie, and with `everywhere` the token that is shown',
  adminPassword: 'guesses of its password make an operator wait',
  adminSetUp: 'the same, of whoever has the link',
  adminSignIn: 'guesses from this address make everybody there wait',
};

const ours = OUR_APP.map((id) => `[[operations]]\ninclude-operation-id = "${id}"\n[operations.checks]\nnegative_data_rejection.enabled = false\n`);

/** An app to be changed, and the token of an operator who may. */
async function operatorsToken() {
  const operator = await firstOperator(server, 'keeper');
  await operator.call('POST', '/apps', { app: 'victim' });
  writeFileSync(join(folder, 'schemathesis.toml'), `[parameters]\n"path.app" = "victim"\n${exceptions.join('')}${TOO_LONG}${ours.join('')}`);
  const body = JSON.stringify({ app: 'xpush', user: 'keeper', password: PASSWORD });
  const response = await fetch(`${server.url}/api/v1/auth/login`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  return (await response.json()).access_token;
}

const excluded = Object.keys(NOT_ASKED).flatMap((id) => ['--exclude-operation-id', id]);
for (const [what, credentials, ...which] of [
  ['for back ends', apiKey, '--exclude-tag', 'me', '--exclude-tag', 'accounts', '--exclude-tag', 'administration'],
  // What ends the token that the others need is left to the suites in Rust.
  ['for users', () => token({ sub: 'ann', app: 'demo' }), '--include-tag', 'me', '--include-tag', 'accounts', '--exclude-operation-id', 'endMe', '--exclude-operation-id', 'logOut'],
  ['for operators', operatorsToken, '--include-tag', 'administration', ...excluded],
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
      { ms: 150_000, cwd: folder },
    );
    assert.equal(code, 0, `${stdout.slice(-40_000)}\n${stderr.slice(-2_000)}`);
    assert.ok(server.alive);
    for (const word of ['panicked', 'ERROR']) assert.ok(!server.log.includes(word), server.log);
  });
}
