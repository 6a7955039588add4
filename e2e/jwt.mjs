// JSON Web Tokens (RFC 7519) by hand, the good ones and those that no library would make.
import { createHmac, generateKeyPairSync, sign as signature } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const encode = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

export const SECRET = 'an HS256 secret that only this test and its server know';
const PAIRS = {
  RS256: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  EdDSA: generateKeyPairSync('ed25519'),
};

/** The public key as PEM, as the server is told it. */
export const publicKey = (algorithm) => PAIRS[algorithm].publicKey.export({ type: 'spki', format: 'pem' });

const folder = mkdtempSync(join(tmpdir(), 'xpush-keys-'));
process.once('exit', () => rmSync(folder, { recursive: true }));
for (const algorithm of Object.keys(PAIRS)) writeFileSync(join(folder, `${algorithm}.pem`), publicKey(algorithm));

const SIGNERS = {
  HS256: (input, secret = SECRET) => createHmac('sha256', secret).update(input).digest(),
  HS384: (input, secret = SECRET) => createHmac('sha384', secret).update(input).digest(),
  RS256: (input) => signature('sha256', input, PAIRS.RS256.privateKey),
  ES256: (input) => signature('sha256', input, { key: PAIRS.ES256.privateKey, dsaEncoding: 'ieee-p1363' }),
  // What OpenSSL makes, and RFC 7518 (3.4) does not allow.
  'ES256 as DER': (input) => signature('sha256', input, PAIRS.ES256.privateKey),
  EdDSA: (input) => signature(null, input, PAIRS.EdDSA.privateKey),
  none: () => Buffer.alloc(0),
};

export const now = () => Math.floor(Date.now() / 1_000);

/** Good for an hour, unless `claims` say otherwise. */
export function token(claims = {}, { algorithm = 'HS256', header = {}, secret } = {}) {
  const [alg] = algorithm.split(' ');
  return signed(`${encode({ alg, typ: 'JWT', ...header })}.${encode({ iat: now(), exp: now() + 3_600, ...claims })}`, algorithm, secret);
}

/** Claims in exactly this text. */
export function tokenOf(text) {
  return signed(`${encode({ alg: 'HS256' })}.${encode(text)}`, 'HS256');
}

function signed(input, algorithm, secret) {
  return `${input}.${SIGNERS[algorithm](input, secret).toString('base64url')}`;
}

/** The configuration of an app's keys: one of each algorithm. */
export function keysOf(app) {
  const pems = Object.keys(PAIRS).map(
    (algorithm) => `[[apps.${app}.keys]]\nid = "${algorithm}"\nalgorithm = "${algorithm}"\npublic_key_file = "${join(folder, algorithm)}.pem"\n`,
  );
  return [`[[apps.${app}.keys]]\nid = "HS256"\nalgorithm = "HS256"\nsecret = "${SECRET}"\n`, ...pems].join('');
}
