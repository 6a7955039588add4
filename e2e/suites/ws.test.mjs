// Plain WebSocket: `/ws`, one JSON object a text frame.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { Client, freshChannel } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';

let server, open = [];
before(async () => (server = await Server.start({ config: '[limits]\nevents_per_second = 0\n' })));
after(() => server?.stop());
afterEach(() => {
  open.forEach((client) => client.close());
  open = [];
});
const keep = (plain) => {
  open.push(plain);
  return plain;
};
const connect = async (query) => keep(await PlainSocket.open(server, query));
const unannounced = async (query) => keep(await PlainSocket.raw(server, query));

test('is welcomed as the query says', async () => {
  const plain = await connect({ name: 'Ann', app: 'demo' });
  const welcome = await plain.push('welcome');
  assert.deepEqual([welcome.app, welcome.name, welcome.guest], ['demo', 'Ann', true]);
});

test('is who a first command "connect" says', async () => {
  const plain = await unannounced();
  const ok = await plain.call('connect', { name: 'Bob', guest: 'a-secret-of-sixteen-or-more' });
  assert.deepEqual([ok.app, ok.name, ok.guest], ['demo', 'Bob', true]);
  const again = await connect({ guest: 'a-secret-of-sixteen-or-more' });
  assert.equal((await again.push('welcome')).user, ok.user);
  await assert.rejects(plain.call('connect', { name: 'Carol' }), { code: 'bad_order' });
});

test('every command answers by its number', async () => {
  const [ann, bob] = [await connect({ name: 'Ann' }), await connect({ name: 'Bob' })];
  const channel = freshChannel();
  const { epoch } = await ann.call('subscribe', { channel, presence: true });
  assert.equal((await bob.call('subscribe', { channel, presence: true })).presence.count, 2);
  await ann.push('presence', (push) => push.joined?.[0].name === 'Bob');
  const ok = await bob.call('publish', { channel, event: 'greeting', data: { text: '세계 🙂' }, message_id: 'mine' });
  assert.deepEqual([ok.channel, ok.id, ok.seq, ok.epoch], [channel, 'mine', 1, epoch]);
  const message = await ann.push('message');
  assert.deepEqual([message.event, message.data, message.from.name, message.seq, message.id], ['greeting', { text: '세계 🙂' }, 'Bob', 1, 'mine']);
  assert.equal((await bob.call('publish', { channel, event: 'greeting', data: 0, message_id: 'mine' })).seq, 1);
  await bob.call('signal', { channel, event: 'typing', data: [1] });
  assert.deepEqual((await ann.push('signal')).data, [1]);
  assert.equal((await ann.call('history', { channel })).messages.length, 1);
  assert.equal((await ann.call('presence', { channel })).count, 2);
  assert.deepEqual(await ann.call('unsubscribe', { channel }), { channel });
  assert.ok((await ann.call('ping')).at > 0);
});

test('200 messages arrive in order, exactly once, and resume fills the gap', async () => {
  const [ann, bob] = [await connect(), await connect()];
  const channel = freshChannel();
  const { epoch } = await bob.call('subscribe', { channel });
  for (let n = 1; n <= 200; n++) ann.send({ cmd: 'publish', channel, data: n });
  await bob.push('message', (message) => message.data === 200);
  const expected = Array.from({ length: 200 }, (_, n) => n + 1);
  assert.deepEqual(bob.messages(channel).map(({ seq, data }) => [seq, data]), expected.map((n) => [n, n]));

  const back = await connect();
  const answer = await back.call('subscribe', { channel, since: { epoch, seq: 163 } });
  assert.deepEqual([answer.recovered, answer.missed], [true, 37]);
  await back.push('message', (message) => message.data === 200);
  assert.deepEqual(back.messages(channel).map(({ seq }) => seq), expected.slice(163));
});

test('a command without id is answered only if it fails', async () => {
  const plain = await connect();
  plain.send({ cmd: 'subscribe', channel: freshChannel() });
  plain.send({ cmd: 'no_such_command' });
  const rejected = await plain.push('rejected');
  assert.deepEqual([rejected.cmd, rejected.error.code, rejected.error.retry], ['no_such_command', 'unknown_command', 'no']);
  const before = plain.answers.items.length;
  await plain.call('ping');
  assert.equal(plain.answers.items.length, before + 1);
});

test('wrong fields are refused by their code, and the connection goes on', async () => {
  const plain = await connect();
  const channel = freshChannel();
  const wrong = [
    ['subscribe', {}, 'bad_field'],
    ['subscribe', { channel: 7 }, 'bad_field'],
    ['subscribe', { channel: 'two words' }, 'bad_channel'],
    ['subscribe', { channel: '' }, 'bad_channel'],
    ['subscribe', { channel: `chat:${'x'.repeat(124)}` }, 'bad_channel'],
    ['subscribe', { channel: 'chat:*' }, 'bad_channel'],
    ['subscribe', { channel: 'unruled' }, 'forbidden'],
    ['subscribe', { channel, since: 5 }, 'bad_field'],
    ['subscribe', { channel, presence: 'yes' }, 'bad_field'],
    ['publish', { channel }, 'bad_field'],
    ['publish', { data: 1 }, 'bad_field'],
    ['publish', { channel, data: 1, event: 5 }, 'bad_field'],
    ['publish', { channel, data: 1, event: '' }, 'bad_event'],
    ['publish', { channel, data: 1, event: 'x'.repeat(65) }, 'bad_event'],
    ['publish', { channel, data: 1, message_id: '' }, 'bad_field'],
    ['publish', { channel, data: 1, message_id: 'x'.repeat(65) }, 'bad_field'],
    ['publish', { channel, data: 1, echo: 0 }, 'bad_field'],
    ['signal', { channel, event: 7 }, 'bad_field'],
    ['history', { channel, limit: 1000 }, 'bad_field'],
    ['unsubscribe', { channel: null }, 'bad_field'],
  ];
  for (const [cmd, fields, code] of wrong) {
    await assert.rejects(plain.call(cmd, fields), (e) => e.code === code && e.retry === 'no', `${cmd} ${JSON.stringify(fields)} → ${code}`);
  }
  assert.ok((await plain.call('ping')).at > 0);
});

test('ids are whole numbers up to 2^53 - 1', async () => {
  const plain = await connect();
  for (const id of [0, 7, Number.MAX_SAFE_INTEGER]) {
    plain.send({ id, cmd: 'ping' });
    assert.ok((await plain.answer(id)).ok.at > 0);
  }
});

test('what is no command is rejected with its reason', async () => {
  for (const [text, code] of [
    ['not json', 'bad_json'],
    ['', 'bad_json'],
    ['[1]', 'bad_request'],
    ['"ping"', 'bad_request'],
    ['{"id":-1,"cmd":"ping"}', 'bad_field'],
    ['{"id":1.5,"cmd":"ping"}', 'bad_field'],
    ['{"id":9007199254740992,"cmd":"ping"}', 'bad_field'],
    ['{"id":"1","cmd":"ping"}', 'bad_field'],
    ['{}', 'bad_field'],
    ['{"cmd":7}', 'bad_field'],
  ]) {
    const plain = await connect();
    plain.send(text);
    assert.equal((await plain.push('rejected')).error.code, code, text);
    assert.ok((await plain.call('ping')).at > 0);
  }
});

test('an id is answered even when the command is missing', async () => {
  const plain = await connect();
  plain.send({ id: 77 });
  assert.equal((await plain.answer(77)).error.code, 'bad_field');
});

test('an unknown app or a bad identity closes with the number of the error', async () => {
  for (const [query, code, reason] of [
    [{ app: 'nobody' }, 4123, 'unknown_app'],
    [{ guest: 'too-short' }, 4103, 'bad_field'],
    [{ name: 'x'.repeat(65) }, 4103, 'bad_field'],
  ]) {
    for (const plain of [await unannounced(query), await unannounced()]) {
      if (plain === open.at(-1)) plain.send({ id: 1, cmd: 'connect', ...query });
      else plain.send({ id: 1, cmd: 'ping' });
      assert.deepEqual(await plain.end(), { code, reason }, JSON.stringify(query));
      assert.equal((await plain.push('closing')).error.code, reason);
    }
  }
});

test('binary data from Socket.IO arrive beside their placeholders, as base64', async () => {
  const channel = freshChannel();
  const [plain, sender] = [await connect(), keep(await Client.open(server))];
  await plain.call('subscribe', { channel });
  await sender.publish(channel, { list: [1, Buffer.from([0, 255])] });
  const { data, attachments } = await plain.push('message');
  assert.deepEqual([data, attachments], [{ list: [1, { _placeholder: true, num: 0 }] }, ['AP8=']]);
});

test('a close is answered by a close', async () => {
  const plain = await connect();
  await plain.push('welcome');
  plain.socket.close(1000, 'bye');
  assert.equal((await plain.end()).code, 1000);
});
