// A reader of `/sse` over fetch (WHATWG HTML, 9.2): EventSource would hide ids, status and head.
import assert from 'node:assert/strict';
import { freshChannel } from './clients.mjs';
import { Inbox } from './wait.mjs';

export class EventStream {
  events = new Inbox();
  #abort = new AbortController();

  static async open(server, channels, { query = {}, lastEventId, token } = {}) {
    const stream = new EventStream();
    const parameters = new URLSearchParams([...channels.map((channel) => ['channel', channel]), ...Object.entries(query)]);
    stream.response = await fetch(`${server.url}/sse?${parameters}`, {
      headers: {
        accept: 'text/event-stream',
        ...(lastEventId !== undefined && { 'last-event-id': lastEventId }),
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
      },
      signal: stream.#abort.signal,
    });
    if (stream.response.ok) stream.ended = stream.#read();
    return stream;
  }

  async #read() {
    let text = '';
    try {
      for await (const chunk of this.response.body.pipeThrough(new TextDecoderStream())) {
        text += chunk;
        for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) this.#take(text.slice(0, end));
      }
    } catch (error) {
      if (error.name !== 'AbortError') this.failure = error;
    }
  }

  #take(block) {
    const event = { data: [] };
    for (const line of block.split('\n')) {
      const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
      if (field === 'data') event.data.push(value);
      else if (field) event[field] = value;
    }
    if (event.event) this.events.push({ id: event.id, name: event.event, data: JSON.parse(event.data.join('\n')) });
  }

  async event(name, match = () => true) {
    return this.events.first((event) => event.name === name && match(event.data), `event "${name}"`);
  }

  messages(channel) {
    return this.events.items.filter(({ name, data }) => name === 'message' && data.channel === channel).map(({ data }) => data);
  }

  close() {
    this.#abort.abort();
  }
}

/** A stream of two channels is cut by a crash of the server, and goes on by `Last-Event-ID` alone: as the same user, without a hole or a double. */
export async function streamGoesOn(server, { query, token, connect }) {
  const channels = [freshChannel(), freshChannel()];
  const range = (from, to) => Array.from({ length: to - from + 1 }, (_, n) => from + n);
  const first = await EventStream.open(server, channels, { query, token });
  const { data: welcome } = await first.event('welcome');
  const writer = await connect();
  for (const n of range(1, 10)) await writer.publish(channels[n % 2], n);
  await first.event('message', ({ data }) => data === 10);
  await first.event('message', ({ data }) => data === 9);
  const { id } = first.events.items.findLast((event) => event.id);
  await server.crash();
  writer.close();
  const again = await connect();
  for (const n of range(11, 30)) await again.publish(channels[n % 2], n);
  const second = await EventStream.open(server, channels, { lastEventId: id });
  assert.equal(second.response.status, 200);
  assert.equal((await second.event('welcome')).data.user, welcome.user);
  await again.publish(channels[0], 'live');
  await second.event('message', ({ data }) => data === 'live');
  await second.event('message', ({ data }) => data === 29);
  assert.deepEqual(channels.map((channel) => second.messages(channel).map(({ data }) => data)), [
    [...range(11, 30).filter((n) => n % 2 === 0), 'live'],
    range(11, 30).filter((n) => n % 2 === 1),
  ]);
  assert.deepEqual(second.events.items.filter(({ name }) => name === 'gap'), []);
  second.close();
  again.close();
}
