// Tokens that must not let anybody in, over every way to show one.
import assert from 'node:assert/strict';
import { MESSENGER } from '../accounts.mjs';
import { Client } from '../clients.mjs';
import { now, publicKey, SECRET, token, tokenOf } from '../jwt.mjs';
import { PlainSocket } from '../plain.mjs';
import { EventStream } from '../sse.mjs';
import { within } from '../wait.mjs';
import { promise } from './promise.mjs';

const offend = promise(`default_app = "demo"
${MESSENGER}
[apps.other]
guests = false
[[apps.other.keys]]
id = "other"
algorithm = "HS256"
secret = "the other app's secret, which is as long as any"
[[apps.other.rules]]
channels = "*"
`);

const ann = { sub: 'ann' };
const unsigned = (claims) => token(claims, { algorithm: 'none' });
const good = token(ann);
const [head, claims, mac] = good.split('.');
const swapped = (part, at) => `${part.slice(0, at)}${part[at] === 'A' ? 'B' : 'A'}${part.slice(at + 1)}`;

const BAD = {
  'alg none': unsigned(ann),
  'alg nOnE': `${Buffer.from('{"alg":"nOnE"}').toString('base64url')}.${claims}.`,
  'alg none with a signature': `${unsigned(ann)}${mac}`,
  'no signature': `${head}.${claims}.`,
  'two parts': `${head}.${claims}`,
  'four parts': `${good}.${mac}`,
  'a changed signature': `${head}.${claims}.${swapped(mac, 5)}`,
  'changed claims': `${head}.${Buffer.from(JSON.stringify({ ...ann, roles: ['server'], exp: now() + 60 })).toString('base64url')}.${mac}`,
  'another secret': token(ann, { secret: 'not the secret, but just as long as it is' }),
  'the RS256 public key as an HS256 secret': token(ann, { secret: publicKey('RS256'), header: { kid: 'RS256' } }),
  'the same without kid': token(ann, { secret: publicKey('RS256') }),
  'the EdDSA public key as an HS256 secret': token(ann, { secret: publicKey('EdDSA'), header: { kid: 'EdDSA' } }),
  'another algorithm of the same family': token(ann, { algorithm: 'HS384' }),
  'ES256 signed as DER': token(ann, { algorithm: 'ES256 as DER' }),
  'a kid of another key': token(ann, { header: { kid: 'RS256' } }),
  'a kid that nobody knows': token(ann, { header: { kid: 'unknown' } }),
  'a kid that is a path': token(ann, { header: { kid: '../../../../dev/null' }, secret: '' }),
  'a kid that is SQL': token(ann, { header: { kid: "' UNION SELECT 'secret' --" }, secret: 'secret' }),
  'a jku': token(ann, { header: { jku: 'http://127.0.0.1:9/jwks.json' } }),
  'a jwk of its own': token(ann, { header: { jwk: { kty: 'oct', k: Buffer.from(SECRET).toString('base64url') } } }),
  'an x5u': token(ann, { header: { x5u: 'http://127.0.0.1:9/cert.pem' } }),
  'a crit extension': token(ann, { header: { crit: ['b64'], b64: true } }),
  'no exp': token({ ...ann, exp: undefined }),
  'exp as text': token({ ...ann, exp: `${now() + 60}` }),
  'exp null': token({ ...ann, exp: null }),
  'a negative exp': token({ ...ann, exp: -1 }),
  'nbf in the future': token({ ...ann, nbf: now() + 60 }),
  'iat in the future': token({ ...ann, iat: now() + 60 }),
  'no sub': token({}),
  'an empty sub': token({ sub: '' }),
  'a sub that is a number': token({ sub: 7 }),
  'a sub of 129 bytes': token({ sub: 'x'.repeat(129) }),
  'a sub with a control character': token({ sub: 'ann\u0000' }),
  'a claim that comes twice': tokenOf(`{"sub":"bob","sub":"ann","exp":${now() + 60}}`),
  'claims that are no object': tokenOf('["ann"]'),
  'claims that are no JSON': tokenOf('{"sub":"ann"'),
  'another app\'s key': token({ ...ann, app: 'demo' }, { secret: "the other app's secret, which is as long as any", header: { kid: 'other' } }),
  'another audience': token({ ...ann, aud: 'somebody else' }),
  'another app': token({ ...ann, app: 'other' }),
  'info of 5 KB': token({ ...ann, info: { text: 'x'.repeat(5_000) } }),
  'channels that are no object': token({ ...ann, channels: ['*'] }),
  nonsense: 'nonsense',
  dots: '..',
};

/** Larger than a request's headers may be: refused before anybody reads it, where it does not travel in a message. */
const LARGE = token({ ...ann, filler: 'x'.repeat(12_800) });
const EXPIRED = token({ ...ann, exp: now() - 10 });

/** Each way to show a token: the code that it is refused with; fails when it is let in. */
const WAYS = {
  'Socket.IO 4': (server, bad) => refusedBySocketIo(server, bad, { major: 4 }),
  'Socket.IO 4, polling': (server, bad) => refusedBySocketIo(server, bad, { major: 4, transport: 'polling' }),
  'Engine.IO 3': async (server, bad, expected) => {
    // Protocol 4 is told the text alone, which begins with no code.
    const text = await refusedBySocketIo(server, bad, { major: 2 });
    assert.equal(typeof text, 'string');
    assert.ok(text.length > 0);
    return expected;
  },
  '/ws, connect': async (server, bad) => {
    const plain = await PlainSocket.raw(server);
    plain.send({ id: 1, cmd: 'connect', token: bad });
    const { error } = await plain.push('closing');
    const { code, reason } = await plain.end();
    assert.deepEqual([reason, code], [error.code, error.code === 'token_expired' ? 4126 : 4120]);
    return error.code;
  },
  '/ws, query': async (server, bad) => {
    const plain = await PlainSocket.raw(server, { token: bad });
    plain.send({ id: 1, cmd: 'subscribe', channel: 'chat:a' });
    const { reason } = await plain.end();
    assert.ok(!plain.answers.items.some(({ ok }) => ok), 'the command was obeyed');
    return reason;
  },
  '/sse, header': (server, bad) => refusedBySse(server, { token: bad }),
  '/sse, query': (server, bad) => refusedBySse(server, { query: { token: bad } }),
};

for (const [how, refused] of Object.entries(WAYS)) {
  for (const [what, bad] of Object.entries(BAD)) {
    offend(`${how}: ${what}`, {}, async (server) => assert.equal(await refused(server, bad, 'unauthenticated'), 'unauthenticated'));
  }
  offend(`${how}: an expired one`, {}, async (server) => assert.equal(await refused(server, EXPIRED, 'token_expired'), 'token_expired'));
}

for (const how of ['Socket.IO 4', '/ws, connect']) {
  offend(`${how}: one of 17 KB`, {}, async (server) => assert.equal(await WAYS[how](server, LARGE, 'unauthenticated'), 'unauthenticated'));
}

offend('a token, good or bad, is not logged', { counted: false }, async (server) => {
  for (const shown of [good, `${head}.${claims}.${swapped(mac, 9)}`]) {
    const plain = await PlainSocket.raw(server, { token: shown });
    plain.send({ id: 1, cmd: 'ping' });
    await Promise.race([plain.answer(1).catch(() => {}), plain.closed]);
    plain.close();
    const stream = await EventStream.open(server, ['chat:a'], { query: { token: shown } });
    stream.close();
    assert.ok(!server.log.includes(shown.split('.')[2]), 'a signature stands in the log');
    assert.ok(!server.log.includes(claims), 'claims stand in the log');
  }
});

async function refusedBySocketIo(server, bad, { major, transport }) {
  const client = new Client(server, { major, transport, identity: { token: bad } });
  try {
    const error = await within(
      new Promise((resolve, reject) => {
        client.socket.once(major >= 3 ? 'connect_error' : 'error', resolve);
        client.socket.once('connect', () => reject(new Error('let in')));
      }),
      'refusal',
    );
    return major >= 3 ? error.data?.code : error;
  } finally {
    client.close();
  }
}

async function refusedBySse(server, options) {
  const stream = await EventStream.open(server, ['chat:a'], options);
  try {
    assert.equal(stream.response.status, 401);
    const { error } = await stream.response.json();
    assert.deepEqual(Object.keys(error), ['code', 'message', 'retry']);
    assert.equal(error.retry, 'no');
    return error.code;
  } finally {
    stream.close();
  }
}
