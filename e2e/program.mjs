// A program beside our servers: its output, and its end, by its pid.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { until, within } from './wait.mjs';

/** For what a busy machine may take long to do. */
export const PATIENCE_MS = 60_000;

const running = new Set();
const killAll = () => running.forEach((child) => child.kill('SIGKILL'));
process.on('exit', killAll);

/** One program, its output, and its end. */
export class Program {
  log = '';

  constructor(name, program, args, options = {}) {
    this.name = name;
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    this.child.unref();
    this.child.once('error', (error) => (this.log += error));
    running.add(this.child);
    this.child.once('exit', () => running.delete(this.child));
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream.unref();
      stream.setEncoding('utf8').on('data', (text) => (this.log = (this.log + text).slice(-40_000)));
    }
  }

  get alive() {
    return this.child.pid !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits until `probe` is true, while the program lives. */
  ready(probe) {
    return until(
      async () => {
        if (!this.alive) throw new Error(`${this.name} ended with ${this.child.exitCode ?? this.child.signalCode}:\n${this.log}`);
        return probe();
      },
      `${this.name} ready`,
      PATIENCE_MS,
    );
  }

  /** Sends `signal` and waits for the end; the exit code. */
  async end(signal = 'SIGKILL') {
    if (this.alive) {
      const exit = once(this.child, 'exit');
      this.child.kill(signal);
      await within(exit, `end of ${this.name} after ${signal}`, PATIENCE_MS);
    }
    return this.child.exitCode;
  }
}

/** Whether somebody listens there, and answers `question` with `answer` if there is one. */
export async function answers(port, question = '', answer = '') {
  const socket = connect(port, '127.0.0.1');
  try {
    return await within(
      new Promise((resolve) => {
        let text = '';
        socket.on('error', () => resolve(false));
        socket.on('close', () => resolve(false));
        socket.on('connect', () => (answer ? socket.write(question) : resolve(true)));
        socket.on('data', (data) => (text += data).includes(answer) && resolve(true));
      }),
      'answer',
      2_000,
    ).catch(() => false);
  } finally {
    socket.destroy();
  }
}
