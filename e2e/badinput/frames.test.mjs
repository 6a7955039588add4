// WebSocket frames that break RFC 6455, or the server's limits.
import assert from 'node:assert/strict';
import { OPCODE, RawWebSocket, frame, text } from './raw.mjs';
import { promise } from './promise.mjs';

const offend = promise('[limits]\nevents_per_second = 0\n');

const LIMIT = 1_000_000;
const PATHS = { 'Socket.IO': '/socket.io/?EIO=4&transport=websocket', '/ws': '/ws' };

const bytes = (...values) => Buffer.from(values);
const PROTOCOL_ERRORS = {
  'reserved bit 1': [[text('40', { rsv: 4 })], 1002],
  'reserved bit 2': [[text('40', { rsv: 2 })], 1002],
  'reserved bit 3': [[text('40', { rsv: 1 })], 1002],
  'an unmasked frame': [[text('40', { masked: false })], 1002],
  ...Object.fromEntries([3, 4, 5, 6, 7, 11, 12, 13, 14, 15].map((opcode) => [`opcode ${opcode}`, [[frame(opcode, 'x')], 1002]])),
  'a declared length of one byte too many': [[text('', { length: LIMIT + 1 })], 1009],
  'a declared length of 2^32': [[text('', { length: 2n ** 32n })], 1009],
  'a declared length of 2^62': [[text('', { length: 2n ** 62n })], 1009],
  'a declared length of 2^63 - 1': [[text('', { length: 2n ** 63n - 1n })], 1009],
  'a declared length of 2^63': [[text('', { length: 2n ** 63n })], 1002],
  'a declared length of 2^64 - 1': [[frame(OPCODE.binary, '', { length: 2n ** 64n - 1n })], 1002],
  'a fragmented ping': [[frame(OPCODE.ping, 'x', { fin: false })], 1002],
  'a ping of 126 bytes': [[frame(OPCODE.ping, 'x'.repeat(126))], 1002],
  'a continuation of nothing': [[frame(OPCODE.continuation, 'x')], 1002],
  'a new message within a fragmented one': [[text('4', { fin: false }), text('0')], 1002],
  'text that is not UTF-8': [[text(bytes(0x34, 0xff, 0xfe))], 1007],
  'text cut within a character': [[text(Buffer.concat([Buffer.from('42["a'), bytes(0xf0, 0x9f, 0x99)]))], 1007],
  'text with a surrogate': [[text(Buffer.concat([Buffer.from('42["'), bytes(0xed, 0xa0, 0x80)]))], 1007],
  'text that is overlong UTF-8': [[text(Buffer.concat([Buffer.from('42["'), bytes(0xc0, 0xaf)]))], 1007],
  'a close of one byte': [[frame(OPCODE.close, 'x')], 1002],
  'a close with code 999': [[frame(OPCODE.close, bytes(0x03, 0xe7))], 1002],
  'a close with code 1005': [[frame(OPCODE.close, bytes(0x03, 0xed))], 1002],
  'a close whose reason is not UTF-8': [[frame(OPCODE.close, bytes(0x03, 0xe8, 0xff))], 1007],
};

for (const [name, path] of Object.entries(PATHS)) {
  for (const [what, [frames, code]] of Object.entries(PROTOCOL_ERRORS)) {
    offend(`${name}: ${what}`, {}, async (server) => {
      const raw = await RawWebSocket.open(server, path);
      for (const part of frames) await raw.write(part);
      assert.equal(await raw.closeCode(), code);
    });
  }

  offend(`${name}: fragments that add up beyond the limit`, {}, async (server) => {
    const raw = await RawWebSocket.open(server, path);
    await raw.write(text('4', { fin: false }));
    const part = frame(OPCODE.continuation, 'x'.repeat(10_000), { fin: false });
    for (let sent = 0; sent < 100 * LIMIT && (await raw.write(part)); sent += 10_000) await new Promise(setImmediate);
    assert.equal(await raw.closeCode(), 1009);
  });

  offend(`${name}: empty fragments without end`, { counted: false }, async (server) => {
    const raw = await RawWebSocket.open(server, path);
    await raw.write(text('4', { fin: false }));
    const many = Buffer.concat(Array.from({ length: 10_000 }, () => frame(OPCODE.continuation, '', { fin: false })));
    for (let n = 0; n < 20 && (await raw.write(many)); n++) await new Promise(setImmediate);
    raw.close();
  });

  offend(`${name}: frames that come byte by byte are taken`, { counted: false }, async (server) => {
    const raw = await RawWebSocket.open(server, path);
    const command = name === '/ws' ? ['{"id":1,"cmd":"ping"}'] : ['40', '421["ping",{}]'];
    for (const byte of Buffer.concat(command.map((packet) => text(packet)))) await raw.write(bytes(byte));
    await raw.text((answer) => answer.includes('"at":'));
    raw.close();
  });

  offend(`${name}: a character split between fragments is taken`, { counted: false }, async (server) => {
    const raw = await RawWebSocket.open(server, path);
    const [head, tail] = name === '/ws' ? ['{"id":1,"cmd":"ping","x":"', '"}'] : ['421["ping",{"x":"', '"}]'];
    if (name !== '/ws') await raw.write(text('40'));
    await raw.write(text(Buffer.concat([Buffer.from(head), bytes(0xf0, 0x9f)]), { fin: false }));
    await raw.write(frame(OPCODE.ping, 'between'));
    await raw.write(frame(OPCODE.continuation, bytes(0x99), { fin: false }));
    await raw.write(frame(OPCODE.continuation, Buffer.concat([bytes(0x82), Buffer.from(tail)])));
    await raw.text((answer) => answer.includes('"at":'));
    assert.ok(raw.frames.items.some(({ opcode, data }) => opcode === OPCODE.pong && data.toString() === 'between'));
    raw.close();
  });

  offend(`${name}: a flood of pings whose pongs nobody reads`, { counted: false }, async (server) => {
    const raw = await RawWebSocket.open(server, path);
    raw.socket.pause();
    const many = Buffer.concat(Array.from({ length: 1_000 }, () => frame(OPCODE.ping, 'x'.repeat(125))));
    for (let n = 0; n < 200; n++) {
      const full = !raw.socket.write(many);
      if (full) await Promise.race([new Promise((resolve) => raw.socket.once('drain', resolve)), raw.closed, new Promise((resolve) => setTimeout(resolve, 50))]);
      if (raw.socket.destroyed || raw.socket.writableLength > 4e6) break;
    }
    raw.close();
  });
}

offend('/ws: a binary frame', {}, async (server) => {
  const raw = await RawWebSocket.open(server, '/ws');
  await raw.write(frame(OPCODE.binary, '{"id":1,"cmd":"ping"}'));
  assert.ok((await raw.closeCode()) >= 1002);
});
