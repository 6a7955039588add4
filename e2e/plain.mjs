// A client of `/ws`: one JSON object a text frame (docs/protocol.md).
import WebSocket from 'ws';
import { Refused } from './clients.mjs';
import { Inbox, next, within } from './wait.mjs';

export class PlainSocket {
  pushes = new Inbox();
  answers = new Inbox();
  #id = 0;

  constructor(server, query = {}, options = {}) {
    this.socket = new WebSocket(`${server.url.replace('http', 'ws')}/ws?${new URLSearchParams(query)}`, options);
    this.socket.on('message', (data, isBinary) => {
      if (isBinary) throw new Error('binary frame on /ws');
      const object = JSON.parse(data);
      if (object.push) this.pushes.push(object);
      else this.answers.push(object);
    });
    this.closed = new Promise((resolve) => this.socket.on('close', (code, reason) => resolve({ code, reason: String(reason) })));
    this.socket.on('error', () => {});
  }

  /** A WebSocket that has said nothing yet: its first command may be `connect`. */
  static async raw(server, query, options) {
    const plain = new PlainSocket(server, query, options);
    await next(plain.socket, 'open');
    return plain;
  }

  /** A client that is who its query says: any first command but `connect` settles that. */
  static async open(server, query) {
    const plain = await PlainSocket.raw(server, query);
    await plain.call('ping');
    return plain;
  }

  send(object) {
    this.socket.send(typeof object === 'string' ? object : JSON.stringify(object));
  }

  async answer(id) {
    return this.answers.first((answer) => answer.id === id, `answer ${id}`);
  }

  async call(cmd, fields = {}) {
    const id = ++this.#id;
    this.send({ id, cmd, ...fields });
    const answer = await this.answer(id);
    if (answer.ok === undefined) throw new Refused(cmd, answer.error);
    return answer.ok;
  }

  push(name, match = () => true) {
    return this.pushes.first((push) => push.push === name && match(push), `push "${name}"`);
  }

  messages(channel) {
    return this.pushes.items.filter((push) => push.push === 'message' && push.channel === channel);
  }

  end() {
    return within(this.closed, 'close of the WebSocket');
  }

  close() {
    this.socket.close();
  }
}
