// Writes vectors.json: what the JavaScript implementations make of packets. In a folder with
//
//   npm install parser3@npm:socket.io-parser@3.4.5 parser4@npm:socket.io-parser@4.2.7 \
//     socket.io-msgpack-parser@3.0.2 notepack2@npm:notepack.io@2.3.0 notepack3@npm:notepack.io@3.0.1
//
// run `node <this file> > <here>/vectors.json`. Engine.IO 3 goes with parser 3 (protocol 4), Engine.IO 4 with parser 4 (protocol 5).

import { createRequire } from "node:module";
const require = createRequire(process.cwd() + "/");
const [parser3, parser4, msgpackParser, notepack2, notepack3] = [
  "parser3", "parser4", "socket.io-msgpack-parser", "notepack2", "notepack3",
].map(require);

const hex = (data) => Buffer.from(data).toString("hex");

// --- packets as text

const packets = () => [
  { type: 0, nsp: "/" },
  { type: 0, nsp: "/admin" },
  { type: 1, nsp: "/" },
  { type: 1, nsp: "/admin" },
  { type: 2, nsp: "/", data: ["hello"] },
  { type: 2, nsp: "/", data: ["hello", 1, null, true, "a\"b\\c\n\u0000\u2028한🙂\ud83d", { a: [] }], id: 0 },
  { type: 2, nsp: "/admin", data: ["tellme"], id: 456 },
  { type: 2, nsp: "/a/b", data: ["e", -0, 1e21, 1e-7, 0.1, 2 ** 53] },
  { type: 3, nsp: "/", data: [], id: 12 },
  { type: 3, nsp: "/admin", data: ["ok", { a: 1 }], id: 999999999999999 },
  { type: 5, nsp: "/", data: ["hello", Buffer.from([1, 2, 3])] },
  { type: 5, nsp: "/admin", data: ["hello", [Buffer.alloc(0), { b: Buffer.from("xyz") }], 1], id: 23 },
  { type: 6, nsp: "/", data: [Buffer.from([255]), Buffer.from([0])], id: 7 },
];
const errors = {
  3: [{ type: 4, nsp: "/admin", data: "Not authorized" }],
  4: [
    { type: 0, nsp: "/", data: { token: "123" } },
    { type: 0, nsp: "/admin", data: { sid: "x" } },
    { type: 4, nsp: "/admin", data: { message: "Not authorized", data: { code: 1 } } },
  ],
};

function encodeText(version, packet) {
  if (version === 4) {
    // This encoder looks for binary parts by itself.
    const type = { 5: 2, 6: 3 }[packet.type] ?? packet.type;
    return new parser4.Encoder().encode({ ...packet, type });
  }
  let frames;
  new parser3.Encoder().encode(packet, (encoded) => (frames = encoded));
  return frames;
}

const text = [3, 4].flatMap((version) =>
  [...packets(), ...errors[version]].map((packet) => {
    const { type, nsp, id } = packet;
    const [frame, ...attachments] = encodeText(version, packet);
    const data = frame.slice(frame.search(/[[{"]|$/));
    return { version, frame, attachments: attachments.map(hex), type, nsp, id, data };
  }),
);

// --- texts, good and bad

const P0 = '{"_placeholder":true,"num":0}';
const P1 = '{"_placeholder":true,"num":1}';
const texts = [
  ...["", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "-", " ", "/", "é"],
  ...["0{}", "0[]", "0null", "0 {}", '0"a"', "01", "0/", "0/,", "0/a", "0/a,", "0/a,{}", "0/a{}", "0/a?b=c,", "0/a?b=c", "0{", "0{}x"],
  ...["1{}", "1[]", "1null", "1/a", "1/a,", "1/a,{}", "11"],
  ...['2["a"]', '2["a"', '2["a",]', '2["a"]x', '2[ "a" ]', '2["a"] ', '2"a"', '2{"0":"a"}', "2null", "2[]", "2[null]", "2[true]", "2[1]"],
  ...['2[{"toString":"x"}]', '2[["a"]]', '2["connect"]', "2x", '2["\u0001"]', '2["\\x"]', '2["\\ud83d"]', '2[""]', "2['a']"],
  ...['21["a"]', '2007["a"]', '21.5["a"]', '2-1["a"]', '21-["a"]', '21e3["a"]', '2+1["a"]', '20x1["a"]', '2999999999999999["a"]'],
  ...['2/a,["b"]', '2/a,1["b"]', '2/a["b"]', '2a,["b"]', '2/a,', '2/a,1', '2,["b"]', '2/a,,["b"]'],
  ...["3[]", "31[]", "31", "31{}", '31"a"', "31null", "31[1", "3/a,1[null]"],
  ...['4"a"', '4{"message":"a"}', "4[]", "41", "4true", "4/a,{}"],
  ...['5["a"]', '5-["a"]', '50-["a"]', `51["a",${P0}]`, `51-["a",${P0}]`, `51-2-["a",${P0}]`, `51.0-["a",${P0}]`, `5-1-["a",${P0}]`],
  ...[`5 1-["a",${P0}]`, `5a-["a",${P0}]`, `51-/a,["a",${P0}]`, `51-/a,7["a",${P0}]`, `51-7["a",${P0}]`, `51-[${P0}]`, "51-", "51", "5"],
  ...[`510-["a",${Array.from({ length: 10 }, (_, num) => JSON.stringify({ _placeholder: true, num }))}]`, `511-["a",${P0}]`],
  ...[`51-["a",${P1}]`, `51-["a",{"_placeholder":true}]`, `51-["a",{"_placeholder":true,"num":"0"}]`, `51-["a",{"_placeholder":true,"num":-1}]`],
  ...[`51-["a",{"num":0,"_placeholder":true}]`, `51-["a",{"_placeholder":true,"num":0.5}]`, `51-["a",{"_placeholder":true,"num":"splice"}]`],
  ...[`61-[${P0}]`, `61-7[${P0}]`, `62-7[${P0},${P1}]`, `62-7[${P1},${P0}]`, `61-7{"a":${P0}}`, `61-7[[{"a":${P0}}]]`],
  ...[`52-["a",${P0},${P0}]`, `52-["a",${P0}]`, '51-["a"]', `51-["a",${P0},{"_placeholder":false}]`, `51-["a",{"_placeholder":true,"num":0,"x":1}]`],
];

function decodes(Decoder, text) {
  let decoded = false;
  const decoder = new Decoder();
  decoder.on("decoded", (packet) => {
    // parser 3 does not throw for an unknown type, but makes an ERROR of it.
    decoded = !(packet.type === 4 && String(packet.data).startsWith("parser error"));
  });
  try {
    decoder.add(text);
    const count = Number(/^[56](\d+)-/.exec(text)?.[1] ?? 0);
    for (let sent = 0; sent < count && !decoded; sent++) decoder.add(Buffer.from([sent]));
  } catch {
    return false;
  }
  return decoded;
}

const verdicts = texts.map((text) => [text, decodes(parser3.Decoder, text), decodes(parser4.Decoder, text)]);

// --- values in msgpack

const date = (time) => new Date(time);
const sized = (length) => "x".repeat(length);
const numbers = [
  ...[0, 1, 127, 128, 255, 256, 65535, 65536, 2 ** 32 - 1, 2 ** 32, 2 ** 53 - 1, 2 ** 53],
  ...[-1, -32, -33, -128, -129, -32768, -32769, -(2 ** 31), -(2 ** 31) - 1, -(2 ** 53) + 1],
  ...[0.5, -0.1, 1.1, 1e-7, 1.5e-300, 5e-324, Math.PI, NaN, Infinity, -Infinity, -0],
];
const values = [
  ...numbers,
  ...[null, undefined, true, false],
  ...["", "a", "é한🙂", "a\"b\\c\n\u0000\u007f\u2028", sized(31), sized(32), sized(255), sized(256)],
  ...[[], {}, [[]], [{}], { a: {} }, { a: [1, { b: null }], "": "x" }, Array(15).fill(1), Array(16).fill(1)],
  Object.fromEntries(Array.from({ length: 15 }, (_, i) => ["k" + i, i])),
  Object.fromEntries(Array.from({ length: 16 }, (_, i) => ["k" + i, [i]])),
  ...[[undefined, 1], { a: undefined }, { a: undefined, b: 1 }, { a: 1, b: undefined }, { a: [undefined], b: { c: undefined } }],
  ...[date(0), date(1), date(-1), date(1500000000123), date(-62198755200001), date(253402300800000), date(8.64e15), date(-8.64e15)],
  ...[{ at: date(4294967296000), b: 1 }, [date(17179869184000), date(17179869183999), date(951827696789)]],
  ...[Buffer.from("abc"), [Buffer.alloc(0), { a: Buffer.alloc(255, 1), b: Buffer.alloc(256, 2) }]],
  ...[new Uint8Array([1, 2, 3]).buffer, { a: new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]) }, new ArrayBuffer(0), new ArrayBuffer(1), new ArrayBuffer(300)],
];

// The canonical form, by the JSON parser's own means (in an array, where JSON.stringify(undefined) is null), and that in msgpack again.
function canonical(value) {
  const [frame, ...buffers] = encodeText(4, { type: 2, nsp: "/", data: ["", value] });
  const bytes = (data) => (ArrayBuffer.isView(data) ? Buffer.from(data.buffer, data.byteOffset, data.byteLength) : data);
  const decoder = new parser4.Decoder();
  let decoded;
  decoder.on("decoded", (packet) => (decoded = packet.data[1]));
  [frame, ...buffers.map((data) => Buffer.from(bytes(data)))].forEach((part) => decoder.add(part));
  return {
    json: frame.slice(frame.indexOf('["",') + 4, -1),
    attachments: buffers.map((data) => hex(bytes(data))),
    written: hex(notepack3.encode(decoded)),
  };
}

const msgpack = values.map((value) => ({
  ...canonical(value),
  notepack2: hex(notepack2.encode(value)),
  notepack3: hex(notepack3.encode(value)),
}));

// --- packets in msgpack

const msgpackPackets = [
  { type: 0, nsp: "/", data: undefined },
  { type: 0, nsp: "/admin", data: { token: "123" } },
  { type: 1, nsp: "/" },
  { type: 2, nsp: "/", data: ["hello", { a: undefined, b: 1 }], options: { compress: true } },
  { type: 2, nsp: "/admin", data: ["hello", Buffer.from([1, 2, 3])], id: 3, options: { compress: true } },
  { type: 2, nsp: "/", data: ["typed", new Uint8Array([1, 2])], id: undefined },
  { type: 3, nsp: "/", data: [], id: 0 },
  { type: 4, nsp: "/", data: { message: "no" } },
].map((packet) => ({
  type: packet.type,
  nsp: packet.nsp,
  id: packet.id,
  data: packet.data ? canonical(packet.data).json : "",
  attachments: canonical(packet.data).attachments,
  frame: hex(new msgpackParser.Encoder().encode(packet)[0]),
}));

// --- one vector a line, for readable differences

const section = (name, rows) => `"${name}": [\n${rows.map((row) => JSON.stringify(row)).join(",\n")}\n]`;
console.log(`{\n${[
  section("text", text),
  section("verdicts", verdicts),
  section("msgpack", msgpack),
  section("msgpack_packets", msgpackPackets),
].join(",\n")}\n}`);
