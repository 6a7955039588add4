// The Python that the tests run: a virtual environment beside them, or $XPUSH_PYTHON.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { within } from './wait.mjs';

export const PYTHON = process.env.XPUSH_PYTHON ?? join(import.meta.dirname, '.venv/bin/python');

/** Runs a program to its end: `{code, stdout, stderr}`. */
export async function run(program, args, { ms = 60_000, ...options } = {}) {
  const child = spawn(program, args, options);
  const output = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr']) child[name].setEncoding('utf8').on('data', (text) => (output[name] += text));
  const stop = () => child.kill('SIGKILL');
  process.once('exit', stop);
  try {
    const [code] = await within(once(child, 'close'), `end of ${program} ${args.join(' ')}`, ms);
    return { code, ...output };
  } finally {
    stop();
    process.off('exit', stop);
  }
}
