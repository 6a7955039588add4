// TCP by hand: what no client library would send.
import { randomBytes } from 'node:crypto';
import { connect } from 'node:net';
import { Inbox, next, within } from '../wait.mjs';

/** A TCP connection that keeps what came. */
export class RawSocket {
  received = Buffer.alloc(0);

  static async open(server) {
    const raw = new this();
    raw.socket = connect(server.port, '127.0.0.1');
    raw.socket.setNoDelay();
    // Being cut off in the middle of a write is what many of these tests are about.
    raw.socket.on('error', (error) => (raw.error = error));
    raw.socket.on('data', (data) => raw.take(data));
    raw.closed = new Promise((resolve) => raw.socket.once('close', resolve));
    await next(raw.socket, 'connect');
    return raw;
  }

  take(data) {
    this.received = Buffer.concat([this.received, data]);
    this.onReceived?.();
  }

  /** Writes, and waits for room when there is none; false when the other side has closed. */
  async write(data) {
    if (this.socket.destroyed || !this.socket.writable) return false;
    if (!this.socket.write(data)) {
      await Promise.race([new Promise((resolve) => this.socket.once('drain', resolve)), this.closed]);
    }
    return !this.socket.destroyed;
  }

  /** The status of the HTTP answer; 0 when the connection was closed without one. */
  async status() {
    const line = () => /^HTTP\/1\.1 (\d{3}) /.exec(this.received.subarray(0, 64).toString('latin1'));
    const came = new Promise((resolve) => {
      this.onReceived = () => line() && resolve();
      this.onReceived();
    });
    await within(Promise.race([came, this.closed]), 'HTTP answer');
    return Number(line()?.[1] ?? 0);
  }

  end(ms) {
    return within(this.closed, 'end of the connection', ms);
  }

  close() {
    this.socket.destroy();
  }
}

/** Sends one request and gives the status of its answer. */
export async function request(server, ...parts) {
  const raw = await RawSocket.open(server);
  try {
    for (const part of parts) await raw.write(part);
    return await raw.status();
  } finally {
    raw.close();
  }
}

export const OPCODE = { continuation: 0, text: 1, binary: 2, close: 8, ping: 9, pong: 10 };

/** A client's WebSocket frame (RFC 6455, 5.2); `length` and `masked` may lie. */
export function frame(opcode, payload = '', { fin = true, rsv = 0, masked = true, length } = {}) {
  const data = Buffer.from(payload);
  const declared = BigInt(length ?? data.length);
  const head = [(fin ? 0x80 : 0) | (rsv << 4) | opcode];
  const mask = masked ? 0x80 : 0;
  if (declared < 126n) head.push(mask | Number(declared));
  else if (declared < 65_536n) head.push(mask | 126, Number(declared >> 8n), Number(declared & 0xffn));
  else {
    head.push(mask | 127);
    for (let shift = 56n; shift >= 0n; shift -= 8n) head.push(Number((declared >> shift) & 0xffn));
  }
  if (!masked) return Buffer.concat([Buffer.from(head), data]);
  const key = randomBytes(4);
  return Buffer.concat([Buffer.from(head), key, data.map((byte, n) => byte ^ key[n % 4])]);
}

export const text = (payload, options) => frame(OPCODE.text, payload, options);

/** A WebSocket connection whose frames are made by hand. */
export class RawWebSocket extends RawSocket {
  frames = new Inbox();
  #bytes = Buffer.alloc(0);

  static async open(server, path) {
    const raw = await super.open(server);
    await raw.write(handshake(path));
    const status = await raw.status();
    if (status !== 101) throw new Error(`handshake answered ${status}`);
    return raw;
  }

  /** Socket.IO, joined to `/`. */
  static async engine(server, eio = 4) {
    const raw = await this.open(server, `/socket.io/?EIO=${eio}&transport=websocket`);
    if (eio === 4) await raw.write(text('40'));
    await raw.text((frame) => frame.startsWith('42["welcome"'));
    return raw;
  }

  take(data) {
    super.take(this.frames.items.length > 0 || this.upgraded ? Buffer.alloc(0) : data);
    this.#bytes = Buffer.concat([this.#bytes, data]);
    if (!this.upgraded) {
      const end = this.#bytes.indexOf('\r\n\r\n');
      if (end < 0) return;
      this.upgraded = true;
      this.#bytes = this.#bytes.subarray(end + 4);
    }
    while (this.#shift());
  }

  /** One frame of the server, which never masks. */
  #shift() {
    const bytes = this.#bytes;
    if (bytes.length < 2) return false;
    let length = bytes[1] & 0x7f;
    let at = 2;
    if (length === 126) [length, at] = [bytes.length >= 4 ? bytes.readUInt16BE(2) : Infinity, 4];
    else if (length === 127) [length, at] = [bytes.length >= 10 ? Number(bytes.readBigUInt64BE(2)) : Infinity, 10];
    if (bytes.length < at + length) return false;
    const data = bytes.subarray(at, at + length);
    const opcode = bytes[0] & 0x0f;
    this.frames.push(opcode === OPCODE.text ? { opcode, text: data.toString() } : { opcode, data });
    this.#bytes = bytes.subarray(at + length);
    return true;
  }

  async text(match) {
    return (await this.frames.first((f) => f.opcode === OPCODE.text && match(f.text), 'text frame')).text;
  }

  /** The code of the close frame that ended the connection; 0 when there was none. */
  async closeCode(ms) {
    await this.end(ms);
    const close = this.frames.items.find(({ opcode }) => opcode === OPCODE.close);
    return close === undefined ? 0 : close.data.length < 2 ? 1005 : close.data.readUInt16BE(0);
  }
}

export function handshake(path, headers = {}) {
  const fields = {
    Host: 'localhost',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Version': '13',
    ...headers,
  };
  const lines = Object.entries(fields).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}\r\n`);
  return `GET ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}
