// One shape for every Socket.IO client: the same calls whatever its major version, transport and parser.
import sio1 from 'sio1';
import sio2 from 'sio2';
import { io as sio3 } from 'sio3';
import { io as sio4 } from 'sio4';
import msgpack from 'socket.io-msgpack-parser';
import { Inbox, next, until, within } from './wait.mjs';

export const MAJORS = { 1: sio1, 2: sio2, 3: sio3, 4: sio4 };

export const TRANSPORTS = {
  polling: ['polling'],
  websocket: ['websocket'],
  upgrade: ['polling', 'websocket'],
};

const PUSHES = [
  ...['welcome', 'message', 'edit', 'delete', 'signal', 'gap', 'presence', 'read', 'delivered', 'notification'],
  ...['unsubscribed', 'token_expiring', 'rejected', 'closing', 'moved'],
];

/** Every way to talk Socket.IO that is tested: each major on each transport, and msgpack where there is a parser for it. */
export const FLAVOURS = [
  ...Object.keys(MAJORS).map((major) => ({ major: Number(major) })),
  { major: 3, parser: msgpack },
  { major: 4, parser: msgpack },
].flatMap(({ major, parser }) =>
  Object.keys(TRANSPORTS).map((transport) => ({
    label: `socket.io-client ${major}${parser ? ' msgpack' : ''}, ${transport}`,
    major,
    transport,
    parser,
  })),
);

/** A command's refusal. */
export class Refused extends Error {
  constructor(command, error) {
    super(`${command}: ${error?.code}: ${error?.message}`);
    Object.assign(this, error);
  }
}

export class Client {
  pushes = new Inbox();

  /** `identity` travels where the client's version can put it; `options` are the client's own. */
  constructor(server, { major = 4, transport = 'websocket', parser, identity = {}, namespace = '', ...options } = {}) {
    const credentials = major >= 3 ? { auth: identity } : { query: identity };
    this.socket = MAJORS[major](server.url + namespace, {
      transports: TRANSPORTS[transport],
      forceNew: true,
      reconnection: false,
      ...credentials,
      ...(parser && { parser }),
      ...options,
    });
    for (const name of PUSHES) this.socket.on(name, (push) => this.pushes.push({ name, push }));
  }

  /** A client that is connected and welcomed, and upgraded if its transport says so. */
  static async open(server, options = {}) {
    const client = new Client(server, options);
    const refused = new Promise((_, reject) => {
      for (const name of ['connect_error', 'error']) client.socket.once(name, (e) => reject(e instanceof Error ? e : new Error(String(e))));
    });
    await Promise.race([next(client.socket, 'connect'), refused]);
    await client.push('welcome');
    if (options.transport === 'upgrade') await client.upgraded();
    return client;
  }

  get transport() {
    return this.socket.io.engine.transport.name;
  }

  upgraded() {
    return until(() => this.transport === 'websocket', 'upgraded');
  }

  /** Sends a command; its `ok`, or a `Refused`. */
  async call(command, fields = {}) {
    const answer = await within(
      new Promise((resolve) => this.socket.emit(command, fields, resolve)),
      `answer to ${command}`,
    );
    if (answer.ok === undefined) throw new Refused(command, answer.error);
    return answer.ok;
  }

  subscribe(channel, fields = {}) {
    return this.call('subscribe', { channel, ...fields });
  }

  publish(channel, data, fields = {}) {
    return this.call('publish', { channel, data, ...fields });
  }

  /** The first push of that name (which also fits `match`). */
  async push(name, match = () => true) {
    return (await this.pushes.first((item) => item.name === name && match(item.push), `push "${name}"`)).push;
  }

  /** The messages of a channel so far. */
  messages(channel) {
    return this.pushes.items.filter(({ name, push }) => name === 'message' && push.channel === channel).map(({ push }) => push);
  }

  /** All messages of a channel up to the one with the event `end`, which is left out: what came twice or out of order shows. */
  async messagesUntilEnd(channel) {
    await this.push('message', (message) => message.channel === channel && message.event === 'end');
    return this.messages(channel).filter((message) => message.event !== 'end');
  }

  close() {
    this.socket.disconnect();
  }
}

/** Marks the end of what is expected in a channel (see `messagesUntilEnd`). */
export function publishEnd(client, channel) {
  return client.publish(channel, null, { event: 'end' });
}

let names = 0;
/** A channel that no other test uses. */
export function freshChannel(prefix = 'chat') {
  return `${prefix}:e2e-${process.pid}-${++names}`;
}

/** Whatever a client hands out for binary data (Buffer, ArrayBuffer, Uint8Array), as hex. */
export function hex(binary) {
  if (binary instanceof ArrayBuffer) return Buffer.from(binary).toString('hex');
  if (ArrayBuffer.isView(binary)) return Buffer.from(binary.buffer, binary.byteOffset, binary.byteLength).toString('hex');
  throw new TypeError(`not binary: ${JSON.stringify(binary)}`);
}
