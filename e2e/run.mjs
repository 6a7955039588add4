// Runs every suite against the real binary ($XPUSH_BIN, or the release build) and ends with one line of counts.
//
//   node run.mjs [part of a file name…]
//
// Nothing is skipped: what is missing fails.
import { accessSync, constants, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { run } from 'node:test';
import { spec } from 'node:test/reporters';
import { PYTHON, run as execute } from './python.mjs';
import { CHROMIUM } from './browser.mjs';
import { missingServices } from './cluster.mjs';
import { BINARY, CLIENT_COMPILER } from './server.mjs';

const FILE_MS = 300_000;
const FOLDERS = ['suites', 'badinput'];

// Socket.IO 1 and 2 use what Node has deprecated since.
process.env.NODE_OPTIONS = `${process.env.NODE_OPTIONS ?? ''} --no-deprecation`;

const missing = await findMissing();
for (const line of missing) console.error(`missing: ${line}`);

const wanted = process.argv.slice(2);
const files = FOLDERS.flatMap((folder) => readdirSync(join(import.meta.dirname, folder)).map((name) => join(import.meta.dirname, folder, name)))
  .filter((file) => file.endsWith('.test.mjs') && (wanted.length === 0 || wanted.some((part) => file.includes(part))));

let passed = 0;
let failed = missing.length;
const slow = [];
const started = performance.now();
const stream = run({ files, concurrency: 2, timeout: FILE_MS });
stream.on('test:pass', (event) => {
  if (isSuite(event)) return;
  // A test that did not run has not passed.
  if (event.skip !== undefined || event.todo !== undefined) failed++;
  else passed++;
  slow.push([event.details.duration_ms, event.name]);
});
stream.on('test:fail', (event) => {
  if (event.details.error?.failureType !== 'subtestsFailed') failed++;
});
stream.compose(new spec()).pipe(process.stdout);
await new Promise((resolve) => stream.on('end', resolve));

const seconds = ((performance.now() - started) / 1_000).toFixed(0);
const slowest = slow.toSorted(([a], [b]) => b - a).slice(0, 3);
console.log(`${files.length} files in ${seconds} s; slowest: ${slowest.map(([ms, name]) => `${name} ${(ms / 1_000).toFixed(1)} s`).join(', ')}`);
if (passed === 0) failed ||= 1;
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

function isSuite(event) {
  return event.details.type === 'suite' || event.name.endsWith('.test.mjs');
}

async function findMissing() {
  const lines = [];
  const executable = (file, hint) => {
    try {
      accessSync(file, constants.X_OK);
      return true;
    } catch {
      lines.push(`${file} (${hint})`);
      return false;
    }
  };
  executable(BINARY, 'cargo build --release, or set XPUSH_BIN');
  executable(CHROMIUM, 'apt-get install chromium, or set CHROMIUM');
  executable(CLIENT_COMPILER, 'npm ci --prefix ../clients/js');
  const hint = 'python3 -m venv e2e/.venv && e2e/.venv/bin/pip install -r e2e/python/requirements.txt, or set XPUSH_PYTHON';
  if (executable(PYTHON, hint)) {
    const { code } = await execute(PYTHON, ['-c', 'import jwt, socketio, websocket, requests']);
    if (code !== 0) lines.push(`the packages of e2e/python/requirements.txt in ${PYTHON} (${hint})`);
  }
  return [...lines, ...missingServices()];
}
