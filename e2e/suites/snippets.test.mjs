// What docs/ tells one to type does what it says: every block that is marked as to be run (../snippets.mjs).
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { run } from '../python.mjs';
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
    const reader = await Reader.open({ '@xpush/client': client, 'socket.io-client': join(CLIENT, 'node_modules/socket.io-client') });
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
