// What docs/ tells one to type does what it says: every block that is marked as to be run (../snippets.mjs).
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { PYTHON, run } from '../python.mjs';
import { BINARY, CLIENT_COMPILER } from '../server.mjs';
import { Reader, blocksOf, isRun, matches, shows } from '../snippets.mjs';

const ROOT = join(import.meta.dirname, '../..');
const CLIENT = join(ROOT, 'clients/js');
const TEXTS = [join(ROOT, 'README.md'), join(CLIENT, 'README.md'), ...readdirSync(join(ROOT, 'docs')).filter((name) => name.endsWith('.md')).map((name) => join(ROOT, 'docs', name))];
const texts = TEXTS.map((path) => ({ name: path.slice(ROOT.length + 1), blocks: blocksOf(readFileSync(path, 'utf8')) }));

/** `@xpush/client` as it would be installed. */
const client = mkdtempSync(join(tmpdir(), 'xpush-client-'));
before(async () => {
  const { code, stdout } = await run(CLIENT_COMPILER, ['-p', join(CLIENT, 'tsconfig.build.json'), '--outDir', join(client, 'dist')]);
  assert.equal(code, 0, stdout);
  symlinkSync(join(CLIENT, 'package.json'), join(client, 'package.json'));
  symlinkSync(join(CLIENT, 'node_modules'), join(client, 'node_modules'));
});
after(() => rmSync(client, { recursive: true }));

for (const { name, blocks } of texts.filter(({ blocks }) => blocks.some(isRun))) {
  test(`${name} does what it says`, { timeout: 110_000 }, async () => {
    const reader = await Reader.open({ '@xpush/client': client, 'socket.io-client': join(CLIENT, 'node_modules/socket.io-client'), jsonwebtoken: join(ROOT, 'e2e/node_modules/jsonwebtoken') });
    try {
      let printed = { output: '' };
      let serves = blocks.some((block) => isRun(block) && /^xpush( serve|$| -)/m.test(block.text) && block.words.includes('start'));
      for (const block of blocks) {
        if (!serves && isRun(block)) {
          await reader.serve();
          serves = true;
        }
        printed = await reader.take(block, printed).catch((error) => {
          throw new Error(`${name}:${block.line}: ${error.message}`);
        });
      }
    } finally {
      await reader.close();
    }
  });
}

describe('blocks that are only read', () => {
  const folder = mkdtempSync(join(tmpdir(), 'xpush-blocks-'));
  after(() => rmSync(folder, { recursive: true }));

  // What is left out, `…`, is left to the reader.
  const whole = texts.flatMap(({ name, blocks }) => blocks.filter(({ language, text }) => language === 'js' && !text.includes('…')).map((block) => ({ ...block, name })));
  test('are JavaScript where they say so', async () => {
    assert.ok(whole.length > 10);
    for (const [index, { name, line, text }] of whole.entries()) {
      const file = join(folder, `${index}.mjs`);
      writeFileSync(file, text);
      const { code, stderr } = await run(process.execPath, ['--check', file]);
      assert.equal(code, 0, `${name}:${line}: ${stderr}`);
    }
  });
});

test('what is configuration is taken as such', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'xpush-toml-'));
  const parts = texts.flatMap(({ name, blocks }) => blocks.filter(({ language, words }) => language === 'toml' && words.length === 0).map((block) => ({ ...block, name })));
  assert.ok(parts.length >= 8, `${parts.length}`);
  for (const { name, line, text } of parts) {
    const file = join(folder, 'xpush.toml');
    const secret = join(folder, 'secret');
    writeFileSync(secret, 'a secret that is long enough for each of these, '.repeat(2), { mode: 0o600 });
    // What is left to the reader, and files of the reader's own; TLS has no meaning without a certificate.
    const filled = text.replaceAll(/(^|\s)#.*$/gm, '').replaceAll('…', 'x').replaceAll(/_file = ".*"/g, `_file = "${secret}"`).replace(/\[tls\]\n(.+\n?)*/, '');
    // Parts of an app; what an app cannot do without is said elsewhere.
    const apps = new Set([...filled.matchAll(/\[apps\.([a-z]+)\b/g)].map(([, app]) => app));
    const bare = [...apps].filter((app) => !filled.includes(`[[apps.${app}.rules]]`));
    writeFileSync(file, filled + bare.map((app) => `\n[[apps.${app}.rules]]\nchannels = "*"\n`).join(''), { mode: 0o600 });
    const { code, stderr } = await run(BINARY, ['check-config', file]);
    assert.equal(code, 0, `${name}:${line}: ${stderr}`);
  }
  rmSync(folder, { recursive: true });
});

test('both verifications of docs/hooks.md take what is signed, and nothing else', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'xpush-verify-'));
  const { blocks } = texts.find(({ name }) => name === 'docs/hooks.md');
  for (const file of ['verify.mjs', 'verify.py']) {
    writeFileSync(join(folder, file), blocks.find(({ words }) => words.includes(`file=${file}`)).text);
  }
  writeFileSync(join(folder, 'ask.mjs'), 'import { verify } from "./verify.mjs";\nconsole.log(process.argv.slice(2).map((one) => JSON.parse(one)).map(([h, b, s]) => verify(h, Buffer.from(b), s)).join());\n');
  writeFileSync(join(folder, 'ask.py'), 'import json, sys\nfrom verify import verify\nprint(",".join(str(verify(h, b.encode(), s)).lower() for h, b, s in map(json.loads, sys.argv[1:])))\n');
  const secret = 'a secret of at least 24 bytes';
  const sign = (body, key, at = Math.floor(Date.now() / 1000)) => ({
    'webhook-id': 'id-1',
    'webhook-timestamp': String(at),
    'webhook-signature': `v1,${Buffer.from('another').toString('base64')} v1,${createHmac('sha256', key).update(`id-1.${at}.${body}`).digest('base64')}`,
  });
  const raw = Buffer.from('the bytes behind whsec_ are base64');
  const cases = [
    [sign('{"a":1}', secret), '{"a":1}', secret],
    [sign('{"a":"é"}', raw), '{"a":"é"}', `whsec_${raw.toString('base64')}`],
    [sign('{"a":1}', secret), '{"a":2}', secret],
    [sign('{"a":1}', 'another secret, of somebody else'), '{"a":1}', secret],
    [sign('{"a":1}', secret, Math.floor(Date.now() / 1000) - 301), '{"a":1}', secret],
  ].map((one) => JSON.stringify(one));
  for (const [program, file] of [[process.execPath, 'ask.mjs'], [PYTHON, 'ask.py']]) {
    const { code, stdout, stderr } = await run(program, [join(folder, file), ...cases]);
    assert.equal(code, 0, stderr);
    assert.equal(stdout.trim(), 'true,true,false,false,false', file);
  }
  rmSync(folder, { recursive: true });
});

test('docs/configuration.md has every key of the default configuration, with its default', async () => {
  const { stdout } = await run(BINARY, ['default-config']);
  const table = readFileSync(join(ROOT, 'docs/configuration.md'), 'utf8').split('\n').filter((line) => line.startsWith('| `'));
  const rows = table.map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim()));
  let section = '';
  let keys = 0;
  for (const line of stdout.split('\n')) {
    const header = /^\[([a-z0-9.]+)\]$/.exec(line);
    if (header) section = `${header[1].replace('apps.demo', 'apps.NAME')}.`;
    // Rules and what else comes several times has tables and examples of its own.
    if (line.startsWith('[[')) break;
    const [, unset, name, value] = /^(# )?([a-z_]+) = (.+)$/.exec(line) ?? [];
    if (!name) continue;
    keys += 1;
    const row = rows.find(([, first]) => first.includes(`\`${section}${name}\``));
    assert.ok(row, `${section}${name} is in no table`);
    if (!unset) assert.ok(row[2].includes(`\`${value}\``), `${section}${name} is ${value}, and the table says ${row[2]}`);
  }
  assert.ok(keys > 40, `${keys}`);
});

test('what the runner takes for the same is the same', () => {
  assert.ok(matches('stored at 7\n', 'stored at …'));
  assert.ok(matches('a\nb\nc', 'a\n…\nc'));
  assert.ok(shows('a\nb 1 c\nd', 'd\nb … c') && !shows('a\nb', 'b\nc'));
  for (const other of ['stored', 'not stored at 7', 'stored at 7\nand more']) assert.ok(!matches(other, 'stored at 7'), other);
});
