// A reader of `/sse` over fetch (WHATWG HTML, 9.2): EventSource would hide ids, status and head.
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
