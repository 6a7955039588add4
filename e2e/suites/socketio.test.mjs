// Socket.IO protocol 5 (on Engine.IO 4) and 4 (on Engine.IO 3), packet by packet: what the documents and their compliance suite ask for.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { freshChannel } from '../clients.mjs';
import { EngineSocket, Polling } from '../engine.mjs';
import { Server } from '../server.mjs';

let server, impatient, sockets = [];
before(async () => {
  [server, impatient] = await Promise.all([
    Server.start(),
    Server.start({ config: '[limits]\nhandshake_timeout = "300ms"\n' }),
  ]);
});
after(() => Promise.all([server?.stop(), impatient?.stop()]));
afterEach(() => {
  sockets.forEach((socket) => socket.close());
  sockets = [];
});
const open = async (eio, identity, at = server) => {
  const socket = await EngineSocket.open(at, eio, identity);
  sockets.push(socket);
  return socket;
};
const json = (packet) => JSON.parse(packet.slice(packet.search(/[[{"]/)));

for (const [protocol, EIO] of [[5, 4], [4, 3]]) {
  describe(`Socket.IO protocol ${protocol}`, () => {
    describe('disconnect', () => {
      test('from the main namespace: the connection stays, events are no longer taken', async () => {
        const socket = await open(EIO, '');
        socket.send('41');
        if (EIO === 4) {
          socket.send('40');
          const connects = () => socket.frames.items.filter((f) => f.startsWith('40{"sid":'));
          await socket.frame(() => connects().length === 2, 'second CONNECT');
        } else {
          socket.send('2still');
          await socket.frame((f) => f === '3still');
        }
        assert.equal(socket.socket.readyState, 1);
      });
    });

    describe('message', () => {
      test('an event with an ack is answered with its id', async () => {
        const socket = await open(EIO, '');
        for (const id of [0, 1, 456, 999_999_999_999_999]) {
          socket.send(`42${id}["presence",{"channel":"chat:nobody"}]`);
          const answer = await socket.frame((f) => f.startsWith(`43${id}[`), `ack ${id}`);
          assert.deepEqual(json(answer), [{ ok: { channel: 'chat:nobody', count: 0, users: [] } }]);
        }
      });

      test('JSON may have white space, escapes and any order of fields', async () => {
        const socket = await open(EIO, '');
        const channel = freshChannel();
        socket.send(`421 [ "subscribe" , { "x" : null , "channel" : "${channel}" } ] `);
        assert.equal(json(await socket.frame((f) => f.startsWith('431[')))[0].ok.channel, channel);
        socket.send(String.raw`422["\u0070ublish",{"data":{"\u0061":"\ud83d\ude42\/"},"channel":"${channel}"}]`);
        await socket.frame((f) => f.startsWith('432[{"ok"'));
        const message = await socket.frame((f) => f.startsWith('42["message"'));
        assert.deepEqual(json(message)[1].data, { a: '🙂/' });
      });

      test('an event with attachments is relayed with attachments, and acked', async () => {
        const socket = await open(EIO, '');
        const channel = freshChannel();
        const framed = (...bytes) => Buffer.from(EIO === 4 ? bytes : [4, ...bytes]);
        socket.send(`420["subscribe",{"channel":"${channel}"}]`);
        await socket.frame((f) => f.startsWith('430['));
        socket.send(
          `452-789["publish",{"channel":"${channel}","data":[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]}]`,
          framed(1, 2, 3),
          framed(4, 5, 6),
        );
        const ack = await socket.frame((f) => /^43789\[/.test(f));
        assert.equal(json(ack)[0].ok.seq, 1);
        await socket.frames.first(() => socket.frames.items.filter((f) => Buffer.isBuffer(f)).length === 2, 'attachments');
        const at = socket.frames.items.findIndex((f) => String(f).startsWith('45'));
        const [head, first, second] = socket.since(at);
        assert.match(head, /^452-\["message",\{/);
        assert.deepEqual(json(head.slice(4))[1].data, [{ _placeholder: true, num: 0 }, { _placeholder: true, num: 1 }]);
        assert.deepEqual([first, second], [framed(1, 2, 3), framed(4, 5, 6)]);
      });

      test('attachments are relayed in the order of their numbers, whatever the order of the placeholders', async () => {
        const socket = await open(EIO, '');
        const channel = freshChannel();
        const framed = (...bytes) => Buffer.from(EIO === 4 ? bytes : [4, ...bytes]);
        socket.send(
          `420["subscribe",{"channel":"${channel}"}]`,
          `452-["publish",{"channel":"${channel}","data":{"b":{"num":1,"_placeholder":true},"a":{"_placeholder":true,"num":0}}}]`,
          framed(10),
          framed(11),
        );
        await socket.frames.first(() => socket.frames.items.filter((f) => Buffer.isBuffer(f)).length === 2, 'attachments');
        const at = socket.frames.items.findIndex((f) => String(f).startsWith('45'));
        const [head, ...attachments] = socket.since(at);
        const { data } = json(head.slice(4))[1];
        assert.deepEqual(attachments[data.a.num], framed(10));
        assert.deepEqual(attachments[data.b.num], framed(11));
      });

      for (const [what, packet] of [
        ['unknown packet type', '4abc'],
        ['unknown packet type 9', '49'],
        ['payload that is no array', '42{}'],
        ['empty payload', '42'],
        ['event name that is no string', '42[1]'],
        ['invalid ack id', '42abc["presence",{}]'],
        ['ack id of too many digits', `42${'9'.repeat(40)}["presence",{}]`],
        ['binary event without a count', '45["publish",{}]'],
        ['binary event whose count is no number', '45x-["publish",{}]'],
        ['broken JSON', '42["presence",{]'],
        ['trailing text', '42["presence",{}]x'],
      ]) {
        test(`closes the connection upon ${what}`, async () => {
          const socket = await open(EIO, '');
          socket.send(packet);
          await socket.end();
        });
      }

      test('closes the connection upon text where an attachment is due, and upon an attachment that is not due', async () => {
        const waiting = await open(EIO, '');
        waiting.send('451-["publish",{"channel":"chat:a","data":{"_placeholder":true,"num":0}}]', '42["presence",{"channel":"chat:a"}]');
        await waiting.end();
        const surprised = await open(EIO, '');
        surprised.send(Buffer.from(EIO === 4 ? [1, 2, 3] : [4, 1, 2, 3]));
        await surprised.end();
      });
    });
  });
}

describe('Socket.IO protocol 5: connect', () => {
  test('to the main namespace, without and with a payload', async () => {
    for (const [payload, name] of [['', undefined], ['{"name":"Ann"}', 'Ann']]) {
      const socket = await open(4);
      const before = socket.frames.items.length;
      socket.send(`40${payload}`);
      const welcome = await socket.frame((f) => f.startsWith('42["welcome"'));
      const [connect] = socket.since(before);
      assert.deepEqual(Object.keys(json(connect)), ['sid']);
      assert.notEqual(json(connect).sid, socket.handshake.sid, 'the session id is not the public one');
      assert.equal(json(welcome)[1].name, name);
    }
  });

  test('to an unknown namespace is refused, and the connection stays', async () => {
    const socket = await open(4, '');
    socket.send('40/random,');
    const refusal = await socket.frame((f) => f.startsWith('44/random,'));
    const error = JSON.parse(refusal.slice('44/random,'.length));
    assert.equal(typeof error.message, 'string');
    assert.equal(error.data.code, 'unknown_namespace');
    socket.send('421["presence",{"channel":"chat:nobody"}]');
    await socket.frame((f) => f.startsWith('431['));
  });

  test('with an identity that is wrong is refused by CONNECT_ERROR', async () => {
    for (const [payload, code] of [['{"app":"nobody"}', 'unknown_app'], ['{"guest":"short"}', 'bad_field'], ['{"name":7}', 'bad_field']]) {
      const socket = await open(4);
      socket.send(`40${payload}`);
      const error = json(await socket.frame((f) => f.startsWith('44')));
      assert.equal(error.data.code, code, payload);
    }
  });

  test('an invalid handshake closes the connection', async () => {
    for (const packet of ['4abc', '40[]', '40{"name":', '42["presence",{}]', '43[]', '44"x"']) {
      const socket = await open(4);
      socket.send(packet);
      await socket.end();
    }
  });

  test('a connection that says nothing is closed', async () => {
    const socket = await open(4, undefined, impatient);
    await socket.end(3_000);
    const polling = await Polling.open(impatient, 4);
    const answers = [];
    for (let status = 200; status === 200; ) {
      const response = await polling.request('GET');
      status = response.status;
      answers.push(await response.text());
      if (answers.at(-1) === '2') await polling.post('3');
    }
    assert.ok(answers.length >= 1);
  });

  test('what is sent behind CONNECT without waiting is handled', async () => {
    const channel = freshChannel();
    const socket = await open(4);
    socket.send('40', `421["subscribe",{"channel":"${channel}"}]`, `422["publish",{"channel":"${channel}","data":1}]`);
    await socket.frame((f) => f.startsWith('42["message"'));
    const kinds = socket.since(1).map((f) => /^4(0|2\["\w+|3\d)/.exec(f)[0]);
    assert.deepEqual(kinds.toSorted(), ['40', '42["message', '42["welcome', '431', '432'].toSorted());
    assert.equal(kinds[0], '40');
    assert.ok(kinds.indexOf('431') < kinds.indexOf('42["message'));
  });
});

describe('Socket.IO protocol 4: connect', () => {
  test('to the main namespace happens by itself', async () => {
    const socket = await open(3, '');
    assert.deepEqual(socket.since(1)[0], '40');
    assert.match(socket.since(1)[1], /^42\["welcome",\{/);
  });

  test('to an unknown namespace is refused with a text, and the connection stays', async () => {
    const socket = await open(3, '');
    socket.send('40/random');
    const refusal = await socket.frame((f) => f.startsWith('44/random,'));
    assert.equal(typeof JSON.parse(refusal.slice('44/random,'.length)), 'string');
    socket.send('421["presence",{"channel":"chat:nobody"}]');
    await socket.frame((f) => f.startsWith('431['));
  });

  test('to the namespace of XPUSH 0.1 takes the query of the packet', async () => {
    const socket = await open(3, '');
    const channel = freshChannel();
    socket.send(`40/channel?A=demo&C=${encodeURIComponent(channel)}&U=ann&S=any,`);
    await socket.frame((f) => f.startsWith('40/channel'));
    socket.send('42/channel,5["send",{"NM":"hello","DT":{"x":1}}]');
    await socket.frame((f) => f.startsWith('43/channel,5['));
    const event = await socket.frame((f) => f.startsWith('42/channel,["hello"'));
    assert.equal(json(event.slice('42/channel,'.length))[1].x, 1);
    socket.send('41/channel', '421["presence",{"channel":"chat:nobody"}]');
    await socket.frame((f) => f.startsWith('431['));
  });
});
