// The real binary as a child process: started on a free port with a fresh data directory, stopped by its pid.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { run } from './python.mjs';
import { until, within } from './wait.mjs';

export const BINARY = resolve(process.env.XPUSH_BIN ?? join(import.meta.dirname, '../target/release/xpush'));

/** What builds `@xpush/client` for the browser. */
export const CLIENT_COMPILER = join(import.meta.dirname, '../clients/js/node_modules/.bin/tsc');

const running = new Set();
const killAll = () => running.forEach((child) => child.kill('SIGKILL'));
process.on('exit', killAll);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(1));

export class Server {
  #child;
  #folder = mkdtempSync(join(tmpdir(), 'xpush-e2e-'));
  #settings;
  #args;
  log = '';

  constructor(port, { config, args = [] } = {}) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#settings = ['--data-dir', join(this.#folder, 'data')];
    if (config) {
      const file = join(this.#folder, 'xpush.toml');
      writeFileSync(file, config);
      this.#settings.push('--config', file);
    }
    this.#args = ['--listen', `127.0.0.1:${port}`, ...this.#settings, ...args];
  }

  static async start(options) {
    const server = new Server(await freePort(), options);
    await server.launch();
    return server;
  }

  /** Where it keeps its configuration, and in `data` everything else. */
  get folder() {
    return this.#folder;
  }

  get pid() {
    return this.#child.pid;
  }

  get alive() {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  async launch() {
    const child = spawn(BINARY, this.#args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: this.#folder });
    // A test that failed before it could stop its server must still end.
    child.unref();
    this.#child = child;
    running.add(child);
    child.once('exit', () => running.delete(child));
    for (const stream of [child.stdout, child.stderr]) {
      stream.unref();
      stream.setEncoding('utf8').on('data', (text) => (this.log = (this.log + text).slice(-20_000)));
    }
    const spawned = new Promise((_, reject) => child.once('error', reject));
    const ready = until(async () => {
      if (!this.alive) throw new Error(`xpush ended with ${child.exitCode ?? child.signalCode}:\n${this.log}`);
      return (await fetch(`${this.url}/readyz`).catch(() => null))?.ok;
    }, 'ready');
    await Promise.race([spawned, ready]);
  }

  /** Sends `signal` and waits for the end: `{code, signal, ms}`. */
  async end(signal = 'SIGKILL', ms = 15_000) {
    const start = performance.now();
    const child = this.#child;
    if (this.alive) {
      const exit = once(child, 'exit');
      child.kill(signal);
      await within(exit, `end of xpush after ${signal}`, ms);
    }
    return { code: child.exitCode, signal: child.signalCode, ms: performance.now() - start };
  }

  /** Ends the process and removes what it stored. */
  async stop() {
    await this.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  /** Kills the process and starts another one with the same data. */
  async crash() {
    await this.end('SIGKILL');
    await this.launch();
  }

  /** Runs `xpush ARGS` beside the server, with the same data and configuration: what it prints. */
  async command(...args) {
    const { code, stdout, stderr } = await run(BINARY, [...args, ...this.#settings], { cwd: this.#folder });
    if (code !== 0) throw new Error(`xpush ${args.join(' ')} ended with ${code}: ${stderr}`);
    return stdout;
  }

  /** Stops every thread, and waits until they stand still. */
  async pause() {
    process.kill(this.pid, 'SIGSTOP');
    const folder = `/proc/${this.pid}/task`;
    const state = (task) => readFileSync(`${folder}/${task}/stat`, 'utf8').split(') ')[1][0];
    await until(() => readdirSync(folder).every((task) => state(task) === 'T'), 'stopped');
  }

  resume() {
    process.kill(this.pid, 'SIGCONT');
  }

  /** Resident memory in bytes. */
  rss() {
    return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${this.pid}/status`, 'utf8'))[1]) * 1024;
  }

  /** The sum of all samples of a metric family. */
  async metric(name) {
    const text = await (await fetch(`${this.url}/metrics`, { headers: { connection: 'close' } })).text();
    const samples = text.split('\n').filter((line) => line.startsWith(name) && /^[ {]/.test(line.slice(name.length)));
    return samples.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(' '))), 0);
  }
}

export async function freePort() {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address();
  probe.close();
  await once(probe, 'close');
  return port;
}
