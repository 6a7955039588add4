// An app's back end: takes hooks, checks their signatures as docs/hooks.md says, and answers what it is told to.
import { createHmac, timingSafeEqual } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Server } from './server.mjs';

export const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';

/** Whether a request was signed with `secret`, within five minutes. */
export function verify(headers, body, secret = SECRET) {
  const { 'webhook-id': id, 'webhook-timestamp': at, 'webhook-signature': signatures } = headers;
  if (Math.abs(Date.now() / 1000 - Number(at)) > 300) return false;
  const key = secret.startsWith('whsec_') ? Buffer.from(secret.slice(6), 'base64') : secret;
  const expected = createHmac('sha256', key).update(`${id}.${at}.`).update(body).digest();
  return signatures.split(' ').some((one) => {
    const given = Buffer.from(one.slice(3), 'base64');
    return one.startsWith('v1,') && given.length === expected.length && timingSafeEqual(given, expected);
  });
}

export class Backend {
  /** Each event, as often as it came. */
  events = [];
  /** Each question. */
  asks = [];
  forged = 0;
  /** What a question is answered: `{status, body}`, or nothing for ever. */
  answer = () => ({ body: { allow: true } });
  /** The status for events. */
  takes = () => 204;
  #server = createServer((request, response) => this.#take(request, response));

  static async start(port = 0) {
    const backend = new Backend();
    backend.#server.listen(port, '127.0.0.1');
    await once(backend.#server, 'listening');
    backend.port = backend.#server.address().port;
    backend.url = `http://127.0.0.1:${backend.port}/xpush`;
    return backend;
  }

  /** A back end, and a server that has the configuration which `config` makes of it. */
  static async beside(config) {
    const backend = await Backend.start();
    return { backend, server: await Server.start({ config: config(backend) }) };
  }

  of(type) {
    return this.events.filter((event) => event.type === type);
  }

  async #take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = Buffer.concat(chunks);
    if (!verify(request.headers, body)) {
      this.forged += 1;
      return response.writeHead(401).end();
    }
    const { events, ask } = JSON.parse(body);
    if (events) {
      const status = this.takes(events);
      this.events.push(...events.map((event) => ({ ...event, status })));
      return response.writeHead(status).end();
    }
    this.asks.push(ask);
    const answered = await this.answer(ask, response);
    if (!answered) return;
    const { status = 200, headers = {}, body: answer = {} } = answered;
    response.writeHead(status, { 'content-type': 'application/json', ...headers });
    response.end(typeof answer === 'string' ? answer : JSON.stringify(answer));
  }

  async stop() {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}
