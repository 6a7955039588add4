// Well-framed packets whose content is a trick: JSON, placeholders, attachments, msgpack, names, ids.
import assert from 'node:assert/strict';
import { Client, Refused, freshChannel, publishEnd } from '../clients.mjs';
import { OPCODE, RawWebSocket, frame, text } from './raw.mjs';
import { PlainSocket } from '../plain.mjs';
import { promise } from './promise.mjs';

const offend = promise('[limits]\nevents_per_second = 0\n');

const nested = (depth, inner = '1') => '['.repeat(depth) + inner + ']'.repeat(depth);
const holder = (num) => `{"_placeholder":true,"num":${num}}`;

/** Packets that end the connection. */
const FATAL = {
  'an event without a name': ['42[]'],
  'an event named true': ['42[true]'],
  'an event named null': ['42[null]'],
  'an event named by an object': ['42[{"toString":"x"}]', '42[{"toString":{"toString":1}},{}]'],
  'an event named by a list': ['42[["subscribe"],{}]'],
  'ack ids without end': [`42${'1'.repeat(400)}["ping",{}]`, `42${'0'.repeat(500_000)}["ping",{}]`, '42-1["ping",{}]', '421e3["ping",{}]'],
  'attachment counts without end': [`45${'9'.repeat(400)}-["publish",{}]`, '454294967296-["publish",{}]', '4517-["publish",{}]', '45-["publish",{}]', '45-1-["publish",{}]'],
  'a count of attachments and no placeholder': ['452-["publish",{"channel":"chat:a","data":1}]'],
  'a placeholder beyond the attachments': [`451-["publish",{"channel":"chat:a","data":${holder(1)}}]`, `451-["publish",{"channel":"chat:a","data":${holder(4294967296)}}]`],
  'one placeholder twice': [`451-["publish",{"channel":"chat:a","data":[${holder(0)},${holder(0)}]}]`],
  'a placeholder with a number that is none': [
    `451-["publish",{"channel":"chat:a","data":{"_placeholder":true,"num":-1}}]`,
    `451-["publish",{"channel":"chat:a","data":{"_placeholder":true,"num":"0"}}]`,
    `451-["publish",{"channel":"chat:a","data":{"_placeholder":true,"num":0.5}}]`,
    `451-["publish",{"channel":"chat:a","data":{"_placeholder":true}}]`,
  ],
  // Old clients take any mark that is true to them for a placeholder.
  'a placeholder whose mark is not true': [`451-["publish",{"channel":"chat:a","data":[{"_placeholder":"yes","num":0},${holder(0)}]}]`],
  'nesting of 33 levels': [`42["publish",{"channel":"chat:a","data":${nested(31)}}]`],
  'nesting without end': [`42["publish",{"channel":"chat:a","data":${'['.repeat(400_000)}`, `42${'{"a":'.repeat(150_000)}`],
  'JSON that is cut': ['42["publish",{"channel":"chat:a","data":"', '42["publish"', '42["publish",{"channel":"chat:a","data":tru'],
  'JSON with control characters': ['42["publish",{"channel":"chat:a","data":"\u0001"}]', '42["publish",{"channel":"chat:a","data":"\u001f"}]'],
  'numbers that are none': ['42["publish",{"channel":"chat:a","data":01}]', '42["publish",{"channel":"chat:a","data":+1}]', '42["publish",{"channel":"chat:a","data":NaN}]', '42["publish",{"channel":"chat:a","data":1e}]'],
  'namespaces that are none': [`42/${'x'.repeat(100_000)},["ping"]`, '42/nowhere,["ping",{}]', '41/nowhere'],
  'a second CONNECT': ['40'],
  'packets of the server': ['44{"message":"x"}', '40{"sid":"x"}'],
};

for (const [what, packets] of Object.entries(FATAL)) {
  offend(what, {}, async (server) => {
    for (const packet of packets) {
      const raw = await RawWebSocket.engine(server);
      await raw.write(text(packet));
      assert.ok((await raw.closeCode()) >= 1002, packet.slice(0, 100));
    }
  });
}

/** Commands that are answered with a refusal, after which the connection goes on. */
const REFUSED = {
  'reserved event names': [
    ...['welcome', 'signal', 'presence', 'rejected', 'closing', 'moved', 'connect', 'connect_error', 'disconnect', 'disconnecting', 'newListener', 'removeListener', 'error', 'ping', 'pong', 'reconnect', 'reconnecting', 'reconnect_attempt', 'reconnect_error', 'reconnect_failed', 'connect_timeout', 'connecting', 'connection', '_event'].map((event) => [
      'publish',
      `{"channel":"chat:a","data":1,"event":"${event}"}`,
      'bad_event',
    ]),
    ['signal', '{"channel":"chat:a","event":"connection","data":1}', 'bad_event'],
    ['publish', String.raw`{"channel":"chat:a","data":1,"event":"dis\u0063onnect"}`, 'bad_event'],
    ['publish', String.raw`{"channel":"chat:a","data":1,"event":"a\u0000b"}`, 'bad_event'],
    ['publish', String.raw`{"channel":"chat:a","data":1,"event":"a\u0085b"}`, 'bad_event'],
  ],
  'commands with the names of built-ins': ['__proto__', 'constructor', 'toString', 'hasOwnProperty', '', ' ', 'Subscribe', 'subscribe ', 'connect'].map((name) => [name, '{"channel":"chat:a"}', 'unknown_command']),
  'fields that are no object': ['null', '[]', '"x"', '1', 'true', '[["channel","chat:a"]]'].map((object) => ['subscribe', object, 'bad_request']),
  'names with glob characters, spaces and controls': ['*', 'chat:*', 'chat:?', 'chat:[a]', 'chat:{a}', 'chat:a b', 'chat:\\u00a0', 'chat:\\u2028', 'chat:\\u0000', 'chat:\\\\', "chat:'", 'x'.repeat(129)].map((name) => ['subscribe', `{"channel":"${name}"}`, 'bad_channel']),
  'positions that are none': ['{}', '{"epoch":1,"seq":1}', '{"epoch":"x"}', '{"seq":1}', '{"epoch":"x","seq":-1}', '{"epoch":"x","seq":1.5}', '{"epoch":"x","seq":"1"}', '{"epoch":"x","seq":1e400}', '[]', '7'].map((since) => ['subscribe', `{"channel":"chat:a","since":${since}}`, 'bad_field']),
  'limits that are none': ['0', '-1', '101', '1e9', '"5"', '5.5', '[]', '{}', '99999999999999999999'].map((limit) => ['history', `{"channel":"chat:a","limit":${limit}}`, 'bad_field']),
};

for (const [what, commands] of Object.entries(REFUSED)) {
  offend(what, {}, async (server) => {
    const raw = await RawWebSocket.engine(server);
    for (const [n, [command, object, code]] of commands.entries()) {
      await raw.write(text(`42${n}["${command}",${object}]`));
      const answer = JSON.parse((await raw.text((f) => f.startsWith(`43${n}[`))).slice(2 + String(n).length));
      assert.equal(answer[0].error?.code, code, `${command} ${object}`);
    }
    await raw.write(text('42900["presence",{"channel":"chat:a"}]'));
    await raw.text((f) => f.startsWith('43900[{"ok"'));
    raw.close();
  });
}

offend('what is deep, large or odd but allowed arrives unchanged', { counted: false }, async (server) => {
  const channel = freshChannel();
  const [plain, reader] = [await PlainSocket.open(server), await Client.open(server)];
  await reader.subscribe(channel);
  const odd = [nested(29), '1e308', '-0', '9'.repeat(400), String.raw`"\ud800"`, String.raw`"\u0000"`, '{"__proto__":{"x":1},"constructor":1}', '{"a":1,"a":2}', '"\u007f\u0080\ufffe"'];
  for (const data of odd) plain.send(`{"cmd":"publish","channel":"${channel}","data":${data}}`);
  await publishEnd(reader, channel).then(() => plain.call('ping'));
  await reader.push('message', ({ event }) => event === 'end');
  await reader.pushes.first(() => reader.messages(channel).length === odd.length + 1, 'all odd data');
  const received = reader.messages(channel).filter(({ event }) => event !== 'end').map(({ data }) => JSON.stringify(data));
  assert.deepEqual(received, odd.map((data) => JSON.stringify(JSON.parse(data))));
  plain.close();
  reader.close();
});

offend('a placeholder in plain JSON stands for nothing', { counted: false }, async (server) => {
  const channel = freshChannel();
  const [sender, ...readers] = [await PlainSocket.open(server), await Client.open(server, { major: 1 }), await Client.open(server, { major: 4 })];
  for (const reader of readers) await reader.subscribe(channel);
  const tricks = [{ _placeholder: true, num: 0 }, { _placeholder: true, num: 9e9 }, [{ _placeholder: true }]];
  for (const data of tricks) await sender.call('publish', { channel, data }).catch((error) => assert.ok(error instanceof Refused));
  for (const reader of readers) {
    await publishEnd(reader, channel);
    await reader.messagesUntilEnd(channel);
    assert.equal(reader.socket.connected, true);
    reader.close();
  }
  sender.close();
});

offend('attachments that never come', { counted: false }, async (server) => {
  const waiting = await Promise.all(Array.from({ length: 50 }, () => RawWebSocket.engine(server)));
  for (const raw of waiting) {
    await raw.write(text(`4516-["publish",{"channel":"chat:a","data":[${Array.from({ length: 16 }, (_, n) => holder(n))}]}]`));
    for (let n = 0; n < 15; n++) await raw.write(frame(OPCODE.binary, 'x'));
  }
  waiting.forEach((raw) => raw.close());
});

offend('attachments outside of data', {}, async (server) => {
  const raw = await RawWebSocket.engine(server);
  const packets = [
    `451-1["publish",{"channel":${holder(0)},"data":1}]`,
    `451-2["publish",{"channel":"chat:a","data":1,"extra":${holder(0)}}]`,
    `451-3["subscribe",{"channel":"chat:a","since":${holder(0)}}]`,
    `451-4["publish",{"channel":"chat:a","data":1},${holder(0)}]`,
  ];
  for (const [n, packet] of packets.entries()) {
    await raw.write(text(packet));
    await raw.write(frame(OPCODE.binary, 'x'));
    const answer = await raw.text((f) => f.startsWith(`43${n + 1}[`));
    assert.match(answer, /"error"/, packet);
  }
  raw.close();
});

const msgpackString = (value) => Buffer.concat([Buffer.from([0xd9, value.length]), Buffer.from(value)]);
const map = (...entries) => Buffer.concat([Buffer.from([0x80 | entries.length]), ...entries.flatMap(([key, value]) => [msgpackString(key), value])]);
const list = (...items) => Buffer.concat([Buffer.from([0x90 | items.length]), ...items]);
const packet = (data, type = 2) => map(['type', Buffer.from([type])], ['nsp', msgpackString('/')], ['data', data]);
const publish = (data) => packet(list(msgpackString('publish'), map(['channel', msgpackString('chat:a')], ['data', data])));

const MSGPACK = {
  'nothing': Buffer.alloc(0),
  'a lone byte that is never used': Buffer.from([0xc1]),
  'text instead of a map': msgpackString('hello'),
  'a packet cut short': publish(Buffer.from([1])).subarray(0, 20),
  'a list of 2^32 - 1': publish(Buffer.from([0xdd, 0xff, 0xff, 0xff, 0xff])),
  'a map of 2^32 - 1': publish(Buffer.from([0xdf, 0xff, 0xff, 0xff, 0xff])),
  'a string of 2^32 - 1': publish(Buffer.from([0xdb, 0xff, 0xff, 0xff, 0xff])),
  'binary data of 2^32 - 1': publish(Buffer.from([0xc6, 0xff, 0xff, 0xff, 0xff])),
  'an extension of 2^32 - 1': publish(Buffer.from([0xc9, 0xff, 0xff, 0xff, 0xff, 1])),
  'nesting of 33 levels': publish(Buffer.concat([Buffer.alloc(31, 0x91), Buffer.from([1])])),
  'nesting without end': publish(Buffer.alloc(900_000, 0x91)),
  'text that is not UTF-8': publish(Buffer.from([0xa2, 0xff, 0xfe])),
  'text cut within a character': publish(Buffer.from([0xa3, 0xf0, 0x9f, 0x99])),
  'bytes after the end': Buffer.concat([publish(Buffer.from([1])), Buffer.from([1])]),
  'an unknown type': packet(list(msgpackString('ping')), 9),
  'an event that is no list': packet(map()),
  'an event without a name': packet(list()),
  'an event named true': packet(list(Buffer.from([0xc3]))),
  'keys that are no text': map(['type', Buffer.from([2])], ['nsp', msgpackString('/')], ['data', Buffer.from([0x81, 1, 1])]),
};

for (const [what, bytes] of Object.entries(MSGPACK)) {
  offend(`msgpack: ${what}`, {}, async (server) => {
    const raw = await RawWebSocket.open(server, '/socket.io/?EIO=4&transport=websocket');
    await raw.write(frame(OPCODE.binary, packet(map(), 0)));
    await raw.frames.first(({ opcode, data }) => opcode === OPCODE.binary && data.includes('welcome'), 'welcome');
    await raw.write(frame(OPCODE.binary, bytes));
    assert.ok((await raw.closeCode()) >= 1002);
  });
}

offend('msgpack: numbers that JSON does not have', { counted: false }, async (server) => {
  const raw = await RawWebSocket.open(server, '/socket.io/?EIO=4&transport=websocket');
  await raw.write(frame(OPCODE.binary, packet(map(), 0)));
  for (const number of [[0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], [0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0], [0xca, 0xff, 0x80, 0, 0], [0xcf, 255, 255, 255, 255, 255, 255, 255, 255], [0xd6, 0xff, 0, 0, 0, 0]]) {
    await raw.write(frame(OPCODE.binary, publish(Buffer.from(number))));
  }
  await new Promise((resolve) => raw.socket.end(resolve));
  raw.close();
});

offend('XPUSH 0.1: everything that crashed or fooled it', {}, async (server) => {
  const raw = await RawWebSocket.engine(server, 3);
  await raw.write(text('40/channel?A=demo&C=chat:old&U=eve&S=x,'));
  await raw.text((f) => f.startsWith('40/channel'));
  const tricks = ['null', '[]', '"x"', '{"NM":"connection","DT":{}}', '{"NM":{"toString":1},"DT":{}}', '{"NM":"_event","DT":{"event":"DISCONNECT"}}', '{"NM":"x","DT":null,"SS":"nobody","S":"x"}', '{"NM":"x","DT":{},"SS":{"a":1},"S":7}', '{"NM":"disconnect","DT":{}}'];
  for (const [n, params] of tricks.entries()) {
    await raw.write(text(`42/channel,${n}["send",${params}]`));
    await raw.text((f) => f.startsWith(`43/channel,${n}[`));
  }
  await raw.write(text('42/channel,["send",null]'));
  await raw.write(text('42/channel,["usage"]'));
  await raw.write(text('42/channel,99["send",{"NM":"fine","DT":{}}]'));
  await raw.text((f) => f.startsWith('43/channel,99[{"status":"ok"'));
  raw.close();
});
