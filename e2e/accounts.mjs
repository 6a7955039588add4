// The HTTP API under /api/v1 (docs/accounts.md), and the app that the suites of accounts and members use.
import { keysOf } from './jwt.mjs';

/** A messenger's back end, out of configuration alone. */
export const MESSENGER = `
[limits]
events_per_second = 0

[apps.demo]
guests = true
accounts = "open"
${keysOf('demo')}
[[apps.demo.rules]]
channels = "room:*"
members = true
search = true
history = "durable"
presence = true
notify = true
create = "users"
invite = ["role:owner", "role:moderator"]

[[apps.demo.rules]]
channels = "chat:*"
search = true
history = "durable"
presence = true

[[apps.demo.rules]]
channels = "staff:*"
subscribe = "role:staff"
history = "durable"

[[apps.demo.rules]]
channels = "private:*"
subscribe = "token"
history = "durable"
presence = true

[[apps.demo.rules]]
channels = "@*"
history = "durable"
publish = "users"

[[apps.demo.rules]]
channels = "live:*"

[[apps.demo.rules]]
channels = "$presence"
history = "durable"
subscribe = "server"
see_presence = "users"
`;

export const PASSWORD = 'correct horse battery staple';

/** An answer that is no success. */
export class HttpRefused extends Error {
  constructor(status, error) {
    super(`${status}: ${error?.code}: ${error?.message}`);
    Object.assign(this, error, { status });
  }
}

/** Asks the API: the answer's object, or an `HttpRefused`. */
export async function ask(server, method, path, { token, ...body } = {}) {
  const response = await fetch(`${server.url}/api/v1/${path}`, {
    method,
    headers: { 'content-type': 'application/json', connection: 'close', ...(token && { authorization: `Bearer ${token}` }) },
    ...(method !== 'GET' && { body: JSON.stringify(body) }),
  });
  const object = await response.json();
  if (!response.ok) throw new HttpRefused(response.status, object.error);
  return object;
}

let users = 0;

/** Registers somebody nobody else is: `{user, name, token, refresh_token, expires_at}`. */
export async function register(server, name = 'Somebody', device) {
  const user = `${name.toLowerCase()}-${process.pid}-${++users}`;
  const { access_token, ...rest } = await ask(server, 'POST', 'auth/register', { user, name, password: PASSWORD, ...(device && { device }) });
  return { ...rest, token: access_token };
}

export async function login(server, user, device, password = PASSWORD) {
  const { access_token, ...rest } = await ask(server, 'POST', 'auth/login', { user, password, ...(device && { device }) });
  return { ...rest, token: access_token };
}
