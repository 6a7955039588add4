// Engine.IO 4 and 3, point by point: what the protocol's documents and their compliance suite ask for.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { Client, freshChannel, publishEnd } from '../clients.mjs';
import { EngineSocket, Polling, engineUrl } from '../engine.mjs';
import { Server } from '../server.mjs';
import { until, within } from '../wait.mjs';

const INTERVAL = 300;
const TIMEOUT = 200;

let server, quick;
before(async () => {
  [server, quick] = await Promise.all([
    Server.start(),
    Server.start({ config: `[heartbeat]\ninterval = "${INTERVAL}ms"\ntimeout = "${TIMEOUT}ms"\n` }),
  ]);
});
after(() => Promise.all([server?.stop(), quick?.stop()]));

let sockets = [];
afterEach(() => {
  sockets.forEach((socket) => socket.close());
  sockets = [];
});
const webSocket = async (...args) => {
  const socket = await EngineSocket.open(...args);
  sockets.push(socket);
  return socket;
};
const probe = (at, polling) => {
  const socket = new EngineSocket(at, { EIO: polling.eio, sid: polling.sid });
  sockets.push(socket);
  return within(new Promise((resolve) => socket.socket.once('open', () => resolve(socket))), 'open WebSocket');
};

/** A refusal: status, and the body that Engine.IO gives it. */
async function assertRefused(response, status = 400) {
  const answer = await response;
  assert.equal(answer.status, status);
  const body = await answer.json();
  assert.ok('code' in body && typeof body.message === 'string', JSON.stringify(body));
}

const PING = '42["presence",{"channel":"chat:nobody"}]';
const ackOf = (id) => (packet) => packet.startsWith(`43${id}[`);
const asking = (id) => PING.replace('42', `42${id}`);

for (const EIO of [4, 3]) {
  describe(`Engine.IO ${EIO}`, () => {
    const get = (query) => fetch(engineUrl(server, query));

    describe('handshake', () => {
      test('polling opens a session', async () => {
        const { response, open } = await Polling.open(quick, EIO);
        assert.equal(response.status, 200);
        assert.match(response.headers.get('content-type'), /^text\/plain; charset=utf-8$/i);
        const { sid, ...rest } = open;
        assert.match(sid, /^[\w-]{16,}$/);
        assert.deepEqual(rest, { upgrades: ['websocket'], pingInterval: INTERVAL, pingTimeout: TIMEOUT, ...(EIO === 4 && { maxPayload: 1_000_000 }) });
      });

      test('WebSocket opens a session', async () => {
        const { handshake } = await webSocket(quick, EIO);
        const { sid, ...rest } = handshake;
        assert.match(sid, /^[\w-]{16,}$/);
        assert.deepEqual(rest, { upgrades: [], pingInterval: INTERVAL, pingTimeout: TIMEOUT, ...(EIO === 4 && { maxPayload: 1_000_000 }) });
      });

      test('an invalid EIO is refused', async () => {
        for (const bad of [{}, { EIO: 'abc' }, { EIO: '5' }, { EIO: '2' }, { EIO: '' }, { EIO: `0${EIO}` }]) {
          await assertRefused(get({ ...bad, transport: 'polling' }));
          assert.equal(await EngineSocket.status(server, bad), 400, JSON.stringify(bad));
        }
      });

      test('an invalid transport is refused', async () => {
        await assertRefused(get({ EIO }));
        for (const transport of ['abc', '', 'Polling', 'webtransport', 'constructor', '__proto__']) {
          await assertRefused(get({ EIO, transport }));
          assert.equal(await EngineSocket.status(server, { EIO, transport }), 400, transport);
        }
        await assertRefused(get({ EIO, transport: 'websocket' }));
      });

      test('an invalid method is refused', async () => {
        for (const method of ['POST', 'PUT', 'DELETE']) {
          await assertRefused(fetch(engineUrl(server, { EIO, transport: 'polling' }), { method }));
        }
      });

      test('an unknown session is refused', async () => {
        for (const sid of ['unknown', '0', '../../etc/passwd', 'x'.repeat(5_000)]) {
          await assertRefused(get({ EIO, transport: 'polling', sid }));
          await assertRefused(fetch(engineUrl(server, { EIO, transport: 'polling', sid }), { method: 'POST', body: '2' }));
          assert.equal(await EngineSocket.status(server, { EIO, sid }), 400);
        }
      });

      test('a session on WebSocket is not reached by polling, nor by a second WebSocket', async () => {
        const { handshake } = await webSocket(server, EIO);
        await assertRefused(get({ EIO, transport: 'polling', sid: handshake.sid }));
        await assertRefused(fetch(engineUrl(server, { EIO, transport: 'polling', sid: handshake.sid }), { method: 'POST', body: '2' }));
        const second = new EngineSocket(server, { EIO, sid: handshake.sid });
        await Promise.race([second.end(), second.refused]);
      });
    });

    describe('messages', () => {
      test('polling: one packet a payload', async () => {
        const polling = await (await Polling.open(server, EIO)).connect();
        const response = await polling.post(asking(1));
        assert.equal(response.status, 200);
        assert.equal(await response.text(), 'ok');
        await polling.until(ackOf(1));
      });

      test('polling: several packets a payload, answered in order', async () => {
        const polling = await (await Polling.open(server, EIO)).connect();
        assert.equal((await polling.post(asking(1), asking(2), asking(3))).status, 200);
        const acks = [];
        await polling.until((packet) => {
          if (packet.startsWith('43')) acks.push(packet[2]);
          return acks.length === 3;
        });
        assert.deepEqual(acks, ['1', '2', '3']);
      });

      test('polling: text and binary packets in one payload', async () => {
        const channel = freshChannel();
        const polling = await (await Polling.open(server, EIO, EIO === 3 ? { b64: 1 } : {})).connect();
        const event = `451-["publish",{"channel":"${channel}","data":{"_placeholder":true,"num":0}}]`;
        const binary = EIO === 4 ? 'bAQIDBA==' : 'b4AQIDBA==';
        assert.equal((await polling.post(`42["subscribe",{"channel":"${channel}"}]`, event, binary)).status, 200);
        const received = [];
        await polling.until((packet) => {
          if (packet.startsWith('45') || received.length > 0) received.push(packet);
          return received.length === 2;
        });
        assert.match(received[0], /^451-\["message",.*"data":\{"_placeholder":true,"num":0\}/);
        assert.equal(received[1], binary);
      });

      test('polling: an invalid packet closes the session', async () => {
        const bodies = {
          4: ['abc', '', '9', '4abc', '\x1e', '2\x1e', '4\x1e\x1e4', 'b!!!'],
          3: ['abc', '', ':', '0:', '1:', '2:2', '1:9', '4:4abc', '3:42', '-1:2', '1e1:2', '99999999999999999999:2', '3:b4!'],
        };
        for (const body of bodies[EIO]) {
          const polling = await Polling.open(server, EIO);
          const response = await polling.request('POST', { body, headers: { 'content-type': 'text/plain;charset=UTF-8' } });
          assert.equal(response.status, 400, JSON.stringify(body));
          await response.text();
          // Where the packet was well-formed and only its content was not, two last polls say why, and goodbye.
          const farewell = [];
          for (let poll; (poll = await polling.request('GET')).status === 200; ) farewell.push(await poll.text());
          assert.ok(farewell.length <= 2, farewell.join('\n'));
        }
      });

      test('polling: a second poll closes the session', async () => {
        const polling = await (await Polling.open(server, EIO)).connect();
        await polling.post(asking(1));
        await polling.until(ackOf(1));
        const first = polling.request('GET');
        // The order of two requests on two connections is the network's; only that exactly one of them is refused is sure.
        const second = polling.request('GET', { query: { t: 'burst' } });
        const answers = await within(Promise.all([first, second]), 'answers to both polls');
        const [good, bad] = answers.toSorted((a, b) => a.status - b.status);
        assert.equal(good.status, 200);
        assert.ok((await good.text()).endsWith('1'));
        assert.equal(bad.status, 400);
        await assertRefused(polling.request('GET'));
      });

      test('WebSocket: text and binary packets', async () => {
        const channel = freshChannel();
        const socket = await webSocket(server, EIO, '');
        socket.send(asking(1));
        await socket.frame((frame) => ackOf(1)(String(frame)));
        const bytes = Buffer.from([1, 2, 3, 4]);
        const framed = EIO === 4 ? bytes : Buffer.concat([Buffer.from([4]), bytes]);
        socket.send(`42["subscribe",{"channel":"${channel}"}]`, `451-["publish",{"channel":"${channel}","data":{"_placeholder":true,"num":0}}]`, framed);
        assert.deepEqual(await socket.frame((frame) => Buffer.isBuffer(frame)), framed);
      });

      test('WebSocket: an invalid packet closes the session', async () => {
        for (const frame of ['abc', '', '9', '4abc', Buffer.alloc(0)]) {
          const socket = await webSocket(server, EIO);
          socket.send(frame);
          await socket.end();
        }
      });
    });

    describe('close', () => {
      test('polling: a close packet ends the hanging poll and the session', async () => {
        // The two requests have a connection each: when the POST overtakes the poll, there is no session to poll any more.
        let ended;
        for (let attempt = 0; attempt < 20 && !ended; attempt += 1) {
          const polling = await (await Polling.open(server, EIO)).connect();
          await polling.post(asking(1));
          await polling.until(ackOf(1));
          const hanging = polling.poll().catch((error) => assert.match(error.message, /Session ID unknown/));
          assert.equal((await polling.post('1')).status, 200);
          ended = await hanging;
          await assertRefused(polling.request('GET'));
        }
        assert.deepEqual(ended, ['6']);
      });

      test('WebSocket: a close packet ends the connection', async () => {
        const socket = await webSocket(server, EIO);
        socket.send('1');
        await socket.end();
      });
    });

    describe('upgrade', () => {
      /** A session whose polls were drained, so that the next one hangs. */
      const idle = async () => {
        const polling = await (await Polling.open(server, EIO)).connect();
        await polling.post(asking(0));
        await polling.until(ackOf(0));
        return polling;
      };

      test('the probe is answered, the hanging poll ends with a noop, messages then use the WebSocket', async () => {
        const polling = await idle();
        const hanging = polling.poll();
        const socket = await probe(server, polling);
        socket.send('2probe');
        assert.equal(await socket.frame(() => true), '3probe');
        assert.deepEqual(await hanging, ['6']);
        socket.send('5', asking(1));
        await socket.frame(ackOf(1));
      });

      test('nothing is lost, doubled or out of order while it goes on', async () => {
        const polling = await idle();
        const channel = freshChannel();
        await polling.post(`421["subscribe",{"channel":"${channel}"}]`);
        await polling.until(ackOf(1));
        const publisher = await Client.open(server);
        let n = 0;
        const publish = () => publisher.publish(channel, n++);
        const came = [];
        const note = (packet) => {
          const [, data] = /^42\["message",.*"data":(\d+)/.exec(packet) ?? [];
          if (data) came.push(Number(data));
        };
        await publish();
        const socket = await probe(server, polling);
        await publish();
        socket.send('2probe');
        await publish();
        await socket.frame((frame) => frame === '3probe');
        await publish();
        for (let packets; !packets?.includes('6'); packets.forEach(note)) packets = await polling.poll();
        await publish();
        socket.send('5');
        await publish();
        await publishEnd(publisher, channel);
        await socket.frame((frame) => frame.includes('"event":"end"'));
        socket.frames.items.forEach(note);
        assert.deepEqual(came, [0, 1, 2, 3, 4, 5]);
        publisher.close();
      });

      test('afterwards polls are refused, and the session lives on', async () => {
        const polling = await idle();
        const socket = await probe(server, polling);
        socket.send('2probe', '5', asking(1));
        await socket.frame(ackOf(1));
        await assertRefused(polling.request('GET'));
        await assertRefused(polling.post('2'));
        socket.send(asking(2));
        await socket.frame(ackOf(2));
      });

      test('afterwards a second WebSocket is refused, and the session lives on', async () => {
        const polling = await idle();
        const socket = await probe(server, polling);
        socket.send('2probe', '5', asking(1));
        await socket.frame(ackOf(1));
        const second = new EngineSocket(server, { EIO, sid: polling.sid });
        await Promise.race([second.end(), second.refused]);
        socket.send(asking(2));
        await socket.frame(ackOf(2));
      });

      test('an abandoned probe leaves the session on polling', async () => {
        const polling = await idle();
        const socket = await probe(server, polling);
        socket.send('2probe');
        await socket.frame((frame) => frame === '3probe');
        socket.socket.terminate();
        await polling.post(asking(1));
        await polling.until(ackOf(1));
        const again = await probe(server, polling);
        again.send('2probe');
        await again.frame((frame) => frame === '3probe');
        again.send('5', asking(2));
        await again.frame(ackOf(2));
      });

      test('what is no probe closes the probing WebSocket only', async () => {
        const polling = await idle();
        for (const frame of ['abc', '2', asking(9), '2other', '1']) {
          const socket = await probe(server, polling);
          socket.send(frame);
          await socket.end();
        }
        await polling.post(asking(1));
        await polling.until(ackOf(1));
      });
    });
  });
}

describe('Engine.IO 4 heartbeat', () => {
  test('polling: the server pings, the client pongs', async () => {
    const polling = await (await Polling.open(quick, 4)).connect();
    let pings = 0;
    await polling.until((packet) => packet === '2' && ++pings === 3);
    assert.equal((await polling.post('3')).status, 200);
  });

  test('polling: a session without pongs is closed', async () => {
    const polling = await Polling.open(quick, 4);
    await until(async () => {
      const response = await polling.request('GET');
      await response.text();
      return response.status === 400;
    }, 'closed by the heartbeat', 4 * (INTERVAL + TIMEOUT));
  });

  test('WebSocket: the server pings every interval', async () => {
    const socket = await webSocket(quick, 4, '');
    const times = [];
    for (let n = 1; n <= 3; n++) {
      await socket.frames.first(() => socket.frames.items.filter((frame) => frame === '2').length >= n, `ping ${n}`);
      times.push(performance.now());
      socket.send('3');
    }
    assert.equal(socket.socket.readyState, 1);
    const gap = (times[2] - times[0]) / 2;
    assert.ok(gap > INTERVAL * 0.7 && gap < (INTERVAL + TIMEOUT) * 1.5, `${gap} ms between pings`);
  });

  test('WebSocket: a client that talks is pinged as often', async () => {
    const socket = await webSocket(quick, 4, '');
    const chatter = setInterval(() => socket.send(PING), INTERVAL / 10);
    const times = [];
    for (let n = 1; n <= 4; n++) {
      await socket.frames.first(() => socket.frames.items.filter((frame) => frame === '2').length >= n, `ping ${n}`);
      times.push(performance.now());
      socket.send('3');
    }
    clearInterval(chatter);
    const longest = Math.max(...times.slice(1).map((time, n) => time - times[n]));
    assert.ok(longest < INTERVAL + TIMEOUT * 0.8, `${longest} ms without a ping; the client gives up after ${INTERVAL + TIMEOUT}`);
  });

  test('WebSocket: a connection without pongs is closed', async () => {
    const start = performance.now();
    const socket = await webSocket(quick, 4, '');
    await socket.end(4 * (INTERVAL + TIMEOUT));
    assert.ok(performance.now() - start > INTERVAL, 'not before the first ping');
  });
});

describe('Engine.IO 3 heartbeat', () => {
  test('polling: the client pings, the server pongs', async () => {
    const polling = await (await Polling.open(quick, 3)).connect();
    for (let n = 0; n < 4; n++) {
      await polling.post('2');
      await polling.until((packet) => packet === '3');
    }
  });

  test('WebSocket: the pong carries what the ping carried', async () => {
    const socket = await webSocket(quick, 3, '');
    for (const data of ['', 'data', '🙂']) {
      socket.send(`2${data}`);
      await socket.frame((frame) => frame === `3${data}`, `pong "${data}"`);
    }
  });

  test('a connection without pings is closed', async () => {
    const socket = await webSocket(quick, 3);
    const polling = await Polling.open(quick, 3);
    await socket.end(4 * (INTERVAL + TIMEOUT));
    await until(async () => {
      const response = await polling.request('GET');
      await response.text();
      return response.status === 400;
    }, 'closed by the heartbeat', 4 * (INTERVAL + TIMEOUT));
  });
});

describe('long polling bodies', () => {
  test('a poll never answers with more than maxPayload', async () => {
    const channel = freshChannel();
    const polling = await (await Polling.open(server, 4)).connect();
    await polling.post(`421["subscribe",{"channel":"${channel}"}]`);
    await polling.until(ackOf(1));
    const publisher = await Client.open(server);
    for (let n = 0; n < 3; n++) await publisher.publish(channel, 'x'.repeat(450_000));
    publisher.close();
    let messages = 0;
    while (messages < 3) {
      const response = await polling.request('GET');
      const body = await response.text();
      assert.ok(Buffer.byteLength(body) <= 1_000_000, `${body.length} bytes`);
      messages += body.split('42["message"').length - 1;
    }
  });

  test('Engine.IO 3 counts UTF-16 units of text', async () => {
    const channel = freshChannel();
    const polling = await (await Polling.open(server, 3)).connect();
    const text = 'é세🙂';
    const posted = await polling.post(`42["subscribe",{"channel":"${channel}"}]`, `42["publish",{"channel":"${channel}","data":"${text}"}]`);
    assert.equal(posted.status, 200);
    const message = await polling.until((packet) => packet.startsWith('42["message"'));
    assert.equal(JSON.parse(message.slice(2))[1].data, text);
  });

  test('Engine.IO 3 binary bodies go both ways', async () => {
    const channel = freshChannel();
    const polling = await (await Polling.open(server, 3)).connect();
    await polling.post(`421["subscribe",{"channel":"${channel}"}]`);
    await polling.until(ackOf(1));
    const bytes = Buffer.from([0, 1, 254, 255]);
    const body = Buffer.concat([
      binaryPacket(0, Buffer.from(`451-["publish",{"channel":"${channel}","data":{"_placeholder":true,"num":0}}]`)),
      binaryPacket(1, Buffer.concat([Buffer.from([4]), bytes])),
    ]);
    const posted = await polling.request('POST', { body, headers: { 'content-type': 'application/octet-stream' } });
    assert.equal(posted.status, 200);
    const packets = [];
    while (packets.length < 2) {
      const response = await polling.request('GET');
      const answer = Buffer.from(await response.arrayBuffer());
      if (response.headers.get('content-type').startsWith('application/octet-stream')) packets.push(...readBinaryPackets(answer));
    }
    assert.match(packets[0].toString(), /^451-\["message",/);
    assert.deepEqual(packets[1], Buffer.concat([Buffer.from([4]), bytes]));
  });

  test('Engine.IO 3 with b64=1 gets base64 instead', async () => {
    const channel = freshChannel();
    const polling = await (await Polling.open(server, 3, { b64: 1 })).connect();
    await polling.post(`42["subscribe",{"channel":"${channel}"}]`, `451-["publish",{"channel":"${channel}","data":{"_placeholder":true,"num":0}}]`, 'b4AAH+/w==');
    assert.equal(await polling.until((packet) => packet.startsWith('b')), 'b4AAH+/w==');
  });
});

describe('JSONP, Engine.IO 3', () => {
  const url = (query) => engineUrl(server, { EIO: 3, transport: 'polling', j: 2, b64: 1, ...query });
  const packets = async (response) => {
    assert.match(response.headers.get('content-type'), /^text\/javascript/);
    const [, argument] = /^___eio\[2\]\((.*)\);?$/s.exec(await response.text());
    return JSON.parse(argument);
  };

  test('polls are scripts, posts are forms', async () => {
    const { sid } = JSON.parse(/\{.*?\}/.exec(await packets(await fetch(url())))[0]);
    const command = asking(1).replace('}', ',"x":"a\\nb"}');
    // The client doubles the slash of each \n, for the sake of old forms.
    const body = new URLSearchParams({ d: `${command.length}:${command}`.replaceAll('\\n', '\\\\n') });
    const posted = await fetch(url({ sid }), { method: 'POST', body });
    assert.equal(posted.status, 200);
    let seen = '';
    while (!seen.includes('431[')) seen += await packets(await fetch(url({ sid })));
  });

  test('a callback that is no number is refused', async () => {
    for (const j of ['alert(1)', '', '-1', '1;x']) await assertRefused(fetch(url({ j })));
  });
});

/** Engine.IO 3: kind, decimal digits of the length, 0xff, data. */
function binaryPacket(kind, data) {
  return Buffer.concat([Buffer.from([kind, ...String(data.length)].map(Number)), Buffer.from([0xff]), data]);
}

function readBinaryPackets(body) {
  const packets = [];
  for (let at = 0; at < body.length; ) {
    const end = body.indexOf(0xff, at);
    const length = Number([...body.subarray(at + 1, end)].join(''));
    packets.push(body.subarray(end + 1, end + 1 + length));
    at = end + 1 + length;
  }
  return packets;
}
