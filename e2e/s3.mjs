// A server that speaks S3 and checks signatures: the Versity gateway, over a folder, with one bucket.
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { Program, answers } from './program.mjs';
import { freePort } from './server.mjs';

const GATEWAY = resolve(process.env.VERSITYGW_BIN ?? join(import.meta.dirname, '../target/xtask/go/versitygw'));
const BUCKET = 'xpush-files';
const ACCESS_KEY = 'access-of-tests';
const SECRET_KEY = 'secret-of-tests';

/** It, if it is not there: a line with a hint. */
export function missingS3() {
  return existsSync(GATEWAY) ? [] : [`${GATEWAY} (cargo xtask test builds it, or set VERSITYGW_BIN)`];
}

export class S3 {
  #folder = mkdtempSync(join(tmpdir(), 'xpush-s3-'));
  #gateway;
  #port;

  static async start() {
    const s3 = new S3();
    // Its metadata are extended attributes, which not every temporary folder has: they go beside it.
    for (const name of [`objects/${BUCKET}`, 'beside']) mkdirSync(join(s3.#folder, name), { recursive: true });
    writeFileSync(join(s3.#folder, 'secret'), SECRET_KEY, { mode: 0o600 });
    s3.#port = await freePort();
    await s3.launch();
    return s3;
  }

  async launch() {
    const args = ['--port', `127.0.0.1:${this.#port}`, '--quiet', '--access', ACCESS_KEY, '--secret', SECRET_KEY];
    this.#gateway = new Program('versitygw', GATEWAY, [...args, 'posix', '--sidecar', join(this.#folder, 'beside'), join(this.#folder, 'objects')]);
    await this.#gateway.ready(() => answers(this.#port));
  }

  /** What servers are told. */
  get config() {
    return `
[s3]
endpoint = "http://127.0.0.1:${this.#port}"
bucket = "${BUCKET}"
access_key = "${ACCESS_KEY}"
secret_key_file = "${join(this.#folder, 'secret')}"
`;
  }

  /** Names of the objects that are kept. */
  objects() {
    const folder = join(this.#folder, 'objects', BUCKET, 'xpush');
    return existsSync(folder) ? readdirSync(folder).sort() : [];
  }

  /** It is not to be reached any more, until it is launched again. */
  end() {
    return this.#gateway.end();
  }

  async stop() {
    await this.end();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
