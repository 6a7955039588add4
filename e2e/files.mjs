// Files over HTTP: uploads in one piece or in many, and downloads with what the headers say.
import { request } from 'node:http';
import { deflateSync, crc32 } from 'node:zlib';

/** Uploads into a channel; `{status, body}`, whatever it is. */
export async function upload(server, { channel, token, guest, name, type = 'application/octet-stream', body, user }) {
  const url = new URL(`/api/v1/channels/${encodeURIComponent(channel)}/files`, server.url);
  if (name !== undefined) url.searchParams.set('name', name);
  if (user !== undefined) url.searchParams.set('user', user);
  const headers = authorization(token, guest);
  if (!(body instanceof FormData)) headers['content-type'] = type;
  const response = await fetch(url, { method: 'POST', headers, body, duplex: 'half' });
  return { status: response.status, body: await response.json() };
}

/** Asks for something of a file: `{status, headers, bytes}`. */
export async function download(server, path, { token, guest, headers = {}, method = 'GET' } = {}) {
  const response = await fetch(new URL(path, server.url), { method, headers: { ...authorization(token, guest), ...headers } });
  return { status: response.status, headers: response.headers, bytes: Buffer.from(await response.arrayBuffer()) };
}

export function authorization(token, guest) {
  if (token) return { authorization: `Bearer ${token}` };
  return guest ? { authorization: `Guest ${guest}` } : {};
}

/** An upload of which the client sends as much as it likes: the request, to be written to and ended, or destroyed. */
export function begin(server, { channel, token, length }) {
  const path = `/api/v1/channels/${encodeURIComponent(channel)}/files?name=half`;
  const headers = { ...authorization(token), 'content-type': 'text/plain', ...(length && { 'content-length': length }) };
  const asked = request(`${server.url}${path}`, { method: 'POST', headers });
  asked.on('error', () => undefined);
  return asked;
}

/** A PNG of one colour; `declared` is what it says of its size, when that is not what it has. */
export function png(width, height, { declared = [width, height], text } = {}) {
  const chunk = (type, data) => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(data.length);
    const sum = Buffer.alloc(4);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([head, body, sum]);
  };
  const header = Buffer.alloc(13);
  header.writeUInt32BE(declared[0], 0);
  header.writeUInt32BE(declared[1], 4);
  header.set([8, 2, 0, 0, 0], 8);
  const row = Buffer.alloc(1 + width * 3, 120);
  row[0] = 0;
  const pixels = deflateSync(Buffer.concat(Array(height).fill(row)));
  const words = text ? [chunk('tEXt', Buffer.from(`Comment\0${text}`))] : [];
  return Buffer.concat([Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]), chunk('IHDR', header), ...words, chunk('IDAT', pixels), chunk('IEND', Buffer.alloc(0))]);
}
