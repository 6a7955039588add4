// The code blocks of a text of docs/, run as a reader would: in one folder, with one server, from top to bottom.
//
// What follows the language in a block's first line says what to do with it; a block that says nothing is only read.
//
//   ```toml file=xpush.toml     is written into this file
//   ```sh run                   is typed into a terminal, and must end well
//   ```sh start                 is typed into another terminal, where it goes on; the same text again: what is there is killed (SIGKILL) first
//   ```text prints              is what the block before has printed, and nothing else; `…` stands for anything
//   ```text shows               are lines that it prints, among others, sooner or later
//   ```text shows=watch.mjs     the same of the terminal in which `watch.mjs` was started
//
// The address 127.0.0.1:8000 is the server's, whatever port it has, and 127.0.0.1:9000 that of a back end of the reader's own. Where no block starts a server, there is one with the text's xpush.toml.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { PYTHON } from './python.mjs';
import { BINARY, freePort } from './server.mjs';
import { until, within } from './wait.mjs';

const ADDRESS = '127.0.0.1:8000';
/** Of the reader's back end: as an address, and as what a program listens on. */
const BACK_END = ['127.0.0.1:9000', 'listen(9000'];
const MARK = 'end-of-block';

/** `{language, words, text, line}` of each block. */
export function blocksOf(markdown) {
  const blocks = [];
  let open;
  for (const [index, line] of markdown.split('\n').entries()) {
    const fence = /^\s*```(\S*)\s*(.*)$/.exec(line);
    if (open && fence) {
      blocks.push({ ...open, text: open.lines.join('\n') });
      open = undefined;
    } else if (open) {
      open.lines.push(line);
    } else if (fence) {
      open = { language: fence[1], words: fence[2].split(' ').filter(Boolean), lines: [], line: index + 1 };
    }
  }
  return blocks;
}

export const isRun = ({ words }) => words.some((word) => ['run', 'start'].includes(word));

/** Whether `printed` is `expected`, in which `…` stands for anything. */
export function matches(printed, expected) {
  const pattern = expected.trim().split('…').map((words) => words.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('[^]*?');
  return new RegExp(`^${pattern}$`).test(printed.trim());
}

/** Whether each line of `expected` is one of `printed`. */
export function shows(printed, expected) {
  const lines = printed.split('\n');
  return expected.trim().split('\n').every((wanted) => lines.some((line) => matches(line, wanted)));
}

/** A shell that keeps what was set in it. */
class Terminal {
  output = '';

  constructor(folder, env) {
    // A group of its own: what it has started ends with it.
    this.shell = spawn('bash', ['--noprofile', '--norc'], { cwd: folder, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    for (const stream of [this.shell.stdout, this.shell.stderr]) stream.setEncoding('utf8').on('data', (text) => (this.output += text));
  }

  /** Types a block; what it prints until it ends. */
  async run(text) {
    this.output = '';
    this.type(`${text}\necho "${MARK} $?"`);
    const ended = () => new RegExp(`${MARK} (\\d+)\\n$`).exec(this.output);
    await until(() => ended() ?? this.shell.exitCode !== null, `the end of ${text}`, 60_000);
    const [end, code] = ended() ?? ['', `${this.shell.exitCode}`];
    if (code !== '0') throw new Error(`ended with ${code}:\n${text}\n${this.output}`);
    this.output = this.output.slice(0, this.output.length - end.length);
    return this.output;
  }

  type(text) {
    this.shell.stdin.write(`${text}\n`);
  }

  async end() {
    if (this.shell.exitCode !== null || this.shell.signalCode !== null) return;
    const end = once(this.shell, 'close');
    process.kill(-this.shell.pid, 'SIGKILL');
    await within(end, 'the end of a terminal');
  }
}

/** Somebody who reads a text. */
export class Reader {
  #folder = mkdtempSync(join(tmpdir(), 'xpush-docs-'));
  /** What goes on, by what was typed. */
  #started = new Map();

  static async open(packages) {
    const reader = new Reader();
    reader.port = await freePort();
    reader.backEnd = await freePort();
    // What is started in it may run as somebody else, as nginx does.
    chmodSync(reader.#folder, 0o755);
    const programs = join(reader.#folder, '.bin');
    mkdirSync(programs);
    symlinkSync(BINARY, join(programs, 'xpush'));
    for (const [name, path] of Object.entries(packages)) {
      const place = join(reader.#folder, 'node_modules', name);
      mkdirSync(dirname(place), { recursive: true });
      symlinkSync(path, place);
    }
    const { NODE_OPTIONS, NODE_TEST_CONTEXT, ...env } = process.env;
    // Whoever reads has no account of these tests' own settings.
    for (const name of Object.keys(env)) if (name.startsWith('XPUSH_')) delete env[name];
    reader.env = { ...env, PATH: `${programs}:${dirname(PYTHON)}:${env.PATH}`, HOME: reader.#folder, XPUSH_LISTEN: `127.0.0.1:${reader.port}` };
    reader.terminal = new Terminal(reader.#folder, reader.env);
    return reader;
  }

  /** Does what a block says; `before` is what the one before has printed: `{output}`. */
  async take({ words, text }, before) {
    const own = BACK_END.reduce((text, place) => text.replaceAll(place, place.replace('9000', this.backEnd)), text);
    const typed = own.replaceAll(ADDRESS, `127.0.0.1:${this.port}`);
    const file = words.find((word) => word.startsWith('file='))?.slice('file='.length);
    if (file) writeFileSync(join(this.#folder, file), `${typed}\n`);
    else if (words.includes('run')) return { output: await this.terminal.run(typed) };
    else if (words.includes('start')) return this.#start(typed);
    else if (words.includes('prints')) await this.#compare(typed, before, matches);
    const shown = words.find((word) => /^shows(=|$)/.test(word))?.slice('shows='.length);
    if (shown !== undefined) await this.#compare(typed, shown ? this.#terminalOf(shown) : before, shows);
    return before;
  }

  async #start(text) {
    const same = this.#started.get(text);
    await same?.end();
    const terminal = new Terminal(this.#folder, this.env);
    this.#started.set(text, terminal);
    terminal.type(text);
    if (/^xpush\b/.test(text)) await this.#ready(terminal);
    return terminal;
  }

  #terminalOf(words) {
    return [...this.#started].find(([text]) => text.includes(words))[1];
  }

  /** Starts the server that nobody else starts. */
  async serve() {
    await this.#start('xpush');
  }

  async #ready(terminal) {
    const ready = async () => (await fetch(`http://127.0.0.1:${this.port}/readyz`).catch(() => null))?.ok;
    await until(ready, 'ready', 30_000).catch((error) => {
      throw new Error(`${error.message}\n${terminal.output}`);
    });
  }

  async #compare(expected, printed, holds) {
    await until(() => holds(printed.output, expected), 'what the text says', 15_000).catch(() => {
      throw new Error(`the text says:\n${expected}\nprinted was:\n${printed.output}`);
    });
  }

  async close() {
    await Promise.all([this.terminal, ...this.#started.values()].map((terminal) => terminal.end()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
