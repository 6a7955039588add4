// Engine.IO by hand, below any client library: what is on the wire is what a test says.
import WebSocket from 'ws';
import { Inbox, next, within } from './wait.mjs';

const SEPARATOR = '\x1e';

/** How each version writes the body of a poll. */
const PAYLOADS = {
  4: {
    encode: (packets) => packets.join(SEPARATOR),
    decode: (body) => body.split(SEPARATOR),
  },
  3: {
    encode: (packets) => packets.map((packet) => `${packet.length}:${packet}`).join(''),
    decode(body) {
      const packets = [];
      while (body) {
        const colon = body.indexOf(':');
        const length = Number(body.slice(0, colon));
        if (colon < 1 || !(length > 0)) throw new Error(`malformed payload: ${JSON.stringify(body.slice(0, 200))}`);
        packets.push(body.slice(colon + 1, colon + 1 + length));
        body = body.slice(colon + 1 + length);
      }
      return packets;
    },
  },
};

export function engineUrl(server, query, scheme = 'http') {
  return `${server.url.replace('http', scheme)}/socket.io/?${new URLSearchParams(query)}`;
}

/** A session on long polling. */
export class Polling {
  /** Opens a session; `open` is what the server said of it, `first` what came in the same answer. */
  static async open(server, eio, query = {}) {
    const polling = new Polling();
    Object.assign(polling, { server, eio, query });
    polling.response = await polling.request('GET');
    const [open, ...rest] = PAYLOADS[eio].decode(await polling.response.text());
    polling.open = JSON.parse(open.slice(1));
    polling.sid = polling.open.sid;
    polling.first = rest;
    return polling;
  }

  request(method, { body, headers, query } = {}) {
    const parameters = { EIO: this.eio, transport: 'polling', ...this.query, ...(this.sid && { sid: this.sid }), ...query };
    // Without keep-alive: a server may close an idle connection at the moment in which a request is on its way.
    return fetch(engineUrl(this.server, parameters), { method, body, headers: { connection: 'close', ...headers } });
  }

  /** The packets of the next poll. */
  async poll() {
    const response = await within(this.request('GET'), 'answer to the poll');
    if (response.status !== 200) throw new Error(`poll answered ${response.status}: ${await response.text()}`);
    return PAYLOADS[this.eio].decode(await response.text());
  }

  /** Polls until a packet matches; pings of the server are answered on the way. */
  async until(match) {
    for (;;) {
      for (const packet of await this.poll()) {
        if (match(packet)) return packet;
        if (packet === '2' && this.eio === 4) await this.post('3');
      }
    }
  }

  async post(...packets) {
    return this.request('POST', { body: PAYLOADS[this.eio].encode(packets), headers: { 'content-type': 'text/plain;charset=UTF-8' } });
  }

  /** Joins the main namespace: protocol 5 asks for it, protocol 4 is told. */
  async connect(identity = '') {
    if (this.eio === 4) await this.post(`40${identity}`);
    if (!this.first.some((packet) => packet.startsWith('40'))) await this.until((packet) => packet.startsWith('40'));
    return this;
  }
}

/** A session on WebSocket, or the probe of an upgrade when `query` has a sid. */
export class EngineSocket {
  frames = new Inbox();

  constructor(server, query, options) {
    this.eio = Number(query.EIO);
    this.socket = new WebSocket(engineUrl(server, { transport: 'websocket', ...query }, 'ws'), options);
    this.socket.on('message', (data, isBinary) => this.frames.push(isBinary ? data : data.toString()));
    this.socket.on('error', () => {});
    this.refused = new Promise((resolve) => this.socket.once('unexpected-response', (request, response) => {
      resolve(response.statusCode);
      request.destroy();
    }));
    this.closed = new Promise((resolve) => this.socket.on('close', (code, reason) => resolve({ code, reason: String(reason) })));
  }

  /** Open, and joined to the main namespace when `identity` is given. */
  static async open(server, eio, identity) {
    const socket = new EngineSocket(server, { EIO: eio });
    socket.handshake = JSON.parse((await socket.frames.first((f) => f[0] === '0', 'open packet')).slice(1));
    if (identity !== undefined) {
      if (eio === 4) socket.send(`40${identity}`);
      await socket.frame((f) => f.startsWith?.('40'), 'CONNECT');
      await socket.frame((f) => f.startsWith?.('42["welcome"'), 'welcome');
    }
    return socket;
  }

  /** The status of a handshake that must fail. */
  static status(server, query) {
    const socket = new EngineSocket(server, query);
    const opened = next(socket.socket, 'open').then(() => {
      socket.close();
      return 101;
    });
    opened.catch(() => {});
    return Promise.race([socket.refused, opened]);
  }

  send(...frames) {
    for (const frame of frames) this.socket.send(frame);
  }

  /** The first frame that matches. */
  frame(match, what = 'frame') {
    return this.frames.first(match, what);
  }

  /** The frames after the `count` first, without pings. */
  since(count) {
    return this.frames.items.slice(count).filter((frame) => frame !== '2');
  }

  end(ms) {
    return within(this.closed, 'close of the WebSocket', ms);
  }

  close() {
    this.socket.close();
  }
}
