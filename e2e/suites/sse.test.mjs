// Server-sent events: `/sse`, with resume by Last-Event-ID.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, freshChannel } from '../clients.mjs';
import { Server } from '../server.mjs';
import { EventStream } from '../sse.mjs';

let server, publisher;
before(async () => {
  server = await Server.start();
  publisher = await Client.open(server, { identity: { name: 'Publisher' } });
});
after(async () => {
  publisher?.close();
  await server?.stop();
});

test('is a stream of events: welcome first, then messages as objects', async () => {
  const channel = freshChannel();
  const stream = await EventStream.open(server, [channel], { query: { name: 'Reader' } });
  assert.equal(stream.response.status, 200);
  assert.match(stream.response.headers.get('content-type'), /^text\/event-stream/);
  assert.match(stream.response.headers.get('cache-control'), /no-(cache|store)/);
  const welcome = await stream.event('welcome');
  assert.deepEqual([welcome.data.app, welcome.data.name, welcome.data.guest], ['demo', 'Reader', true]);

  const ok = await publisher.publish(channel, { text: 'line\nbreak and 세계 🙂' }, { event: 'greeting' });
  const { id, data } = await stream.event('message');
  assert.ok(id);
  assert.deepEqual(
    [data.channel, data.seq, data.event, data.data, data.from.name, data.at],
    [channel, ok.seq, 'greeting', { text: 'line\nbreak and 세계 🙂' }, 'Publisher', ok.at],
  );
  stream.close();
});

for (const how of ['header', 'query']) {
  test(`goes on where it was cut, by ${how}, for each of its channels`, async () => {
    const channels = [freshChannel(), freshChannel(), freshChannel()];
    const first = await EventStream.open(server, channels);
    await first.event('welcome');
    for (const channel of channels) await publisher.publish(channel, 'seen');
    await first.event('message', (message) => message.channel === channels[2]);
    const { id } = first.events.items.findLast((event) => event.id);
    first.close();

    for (let n = 0; n < 37; n++) await publisher.publish(channels[n % 2], n);
    const second = await EventStream.open(server, channels, how === 'header' ? { lastEventId: id } : { query: { last_event_id: id } });
    await publisher.publish(channels[2], 'live');
    await second.event('message', (message) => message.data === 'live');
    await second.event('message', (message) => message.data === 36);
    await second.event('message', (message) => message.data === 35);
    const even = Array.from({ length: 19 }, (_, n) => 2 * n);
    const odd = Array.from({ length: 18 }, (_, n) => 2 * n + 1);
    assert.deepEqual(channels.map((channel) => second.messages(channel).map(({ data }) => data)), [even, odd, ['live']]);
    second.close();
  });
}

test('every id is a position: the stream can be cut anywhere', async () => {
  const channels = [freshChannel(), freshChannel()];
  const first = await EventStream.open(server, channels);
  await first.event('welcome');
  for (let n = 0; n < 10; n++) await publisher.publish(channels[n % 2], n);
  await first.event('message', (message) => message.data === 9);
  await first.event('message', (message) => message.data === 8);
  const messages = first.events.items.filter(({ name }) => name === 'message');
  for (const [index, { id }] of messages.entries()) {
    const rest = messages.slice(index + 1).map(({ data }) => data.data);
    const second = await EventStream.open(server, channels, { lastEventId: id });
    await second.event('welcome');
    if (rest.length > 0) await second.events.first(() => second.events.items.filter(({ name }) => name === 'message').length >= rest.length);
    const seen = channels.flatMap((channel) => second.messages(channel).map(({ data }) => data));
    assert.deepEqual(seen.sort(), rest.sort(), `after ${id}`);
    second.close();
  }
  first.close();
});

test('what cannot be streamed is refused before the stream begins', async () => {
  const refusals = [
    [[], {}, 400],
    [['two words'], {}, 400],
    [Array.from({ length: 17 }, () => freshChannel()), {}, 400],
    [['chat:a'], { query: { app: 'nobody' } }, 404],
    [['unruled'], {}, 403],
    [['chat:a'], { query: { guest: 'short' } }, 400],
  ];
  for (const [channels, options, status] of refusals) {
    const stream = await EventStream.open(server, channels, options);
    assert.equal(stream.response.status, status, JSON.stringify([channels.length, options]));
    const { error } = await stream.response.json();
    assert.deepEqual(Object.keys(error), ['code', 'message', 'retry']);
  }
});

test('an id that the server did not give is no reason to fail', async () => {
  const channel = freshChannel();
  for (const lastEventId of ['nonsense', '0', '::', 'x'.repeat(4_000)]) {
    const stream = await EventStream.open(server, [channel], { lastEventId });
    if (stream.response.status === 400) continue;
    await stream.event('welcome');
    stream.close();
  }
});
