// Apps, keys, origins, rules and limits are changed while clients are connected (docs/administration.md), and somebody keeps a log of it.
import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import WebSocket from 'ws';
import { MESSENGER } from '../accounts.mjs';
import { Backend, SECRET as HOOK_SECRET } from '../backend.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { SECRET, token } from '../jwt.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { next, until, within } from '../wait.mjs';

const PASSWORD = 'correct horse battery staple';
/** What the contract promises, and what a busy machine needs beside it. */
const SOON = 5_000;

let server, root, backend, open = [];
before(async () => {
  backend = await Backend.start();
  server = await Server.start({ config: `[hooks]\nallow_private = true\n${MESSENGER}` });
  root = await firstOperator();
});
after(async () => {
  await server?.stop();
  await backend?.stop();
});
afterEach(() => open.splice(0).forEach((client) => client.close()));
const keep = (client) => {
  open.push(client);
  return client;
};

/** What the page `/admin/` is to the server. */
class Page {
  constructor(cookie) {
    this.cookie = cookie;
  }

  /** Asks: `{status, headers, body}`. */
  async ask(method, path, { body, match, headers = {} } = {}) {
    const response = await fetch(`${server.url}/api/v1/admin/${path}`, {
      method,
      body: body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body),
      headers: {
        origin: server.url,
        'x-xpush-admin': '1',
        ...(this.cookie ? { cookie: this.cookie } : {}),
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        ...(match === undefined ? {} : { 'if-match': `"${match}"` }),
        ...headers,
      },
    });
    const text = await response.text();
    return { status: response.status, headers: response.headers, body: text ? JSON.parse(text) : null };
  }

  async ok(...request) {
    const answer = await this.ask(...request);
    assert.ok(answer.status < 300, `${request[0]} ${request[1]}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  async refused(code, ...request) {
    const { body } = await this.ask(...request);
    assert.equal(body.error?.code, code, `${request[0]} ${request[1]}: ${JSON.stringify(body)}`);
    return body;
  }

  /** Changes an app from whatever it is now. */
  async change(app, fields) {
    const { revision } = await this.ok('GET', `apps/${app}`);
    return this.ok('PATCH', `apps/${app}`, { match: revision, body: fields });
  }
}

const cookieOf = (answer) => answer.headers.getSetCookie()[0].split(';')[0];

async function signIn(user, password = PASSWORD) {
  const answer = await new Page().ask('POST', 'sign-in', { body: { user, password } });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return new Page(cookieOf(answer));
}

/** By the link that the server prints when there is no operator. */
async function firstOperator() {
  const link = await until(() => /setup\S*#(?:setup\/)?([\w-]{20,})/.exec(server.log), 'the link');
  const answer = await new Page().ask('POST', 'setup', { body: { token: link[1], user: 'root', password: PASSWORD } });
  assert.equal(answer.status, 200, JSON.stringify(answer.body));
  return new Page(cookieOf(answer));
}

/** An app of one's own: tests change it as they like. */
async function freshApp(settings = {}) {
  const app = `app-${Math.random().toString(36).slice(2, 10)}`;
  const rules = [{ channels: 'chat:*', history: 'durable', presence: true }, { channels: '*' }];
  const made = await root.ok('POST', 'apps', { body: { app, settings: { guests: true, rules, ...settings } } });
  return { app, key: made.key, revision: made.app.revision };
}

async function guest(app, options = {}) {
  // The app may have been made a moment ago.
  return until(async () => {
    try {
      return keep(await Client.open(server, { ...options, identity: { app, ...options.identity } }));
    } catch (error) {
      if (!['unknown_app', 'unauthenticated'].includes(error.data?.code)) throw error;
      return null;
    }
  }, 'connected');
}

test('two change the same rules: the second is told, and nothing is lost', async () => {
  const { app, revision } = await freshApp();
  await root.ok('POST', 'apps/xpush/users', { body: { user: 'second', password: PASSWORD, roles: ['admin'] } });
  const second = await signIn('second');
  const seen = await second.ok('GET', `apps/${app}`);
  assert.equal(seen.revision, revision);
  const mine = [{ channels: 'mine:*', history: 'recent' }, ...seen.settings.rules];
  const theirs = [...seen.settings.rules, { channels: '$presence', history: 'durable', subscribe: 'server' }];
  const first = await root.ok('PUT', `apps/${app}/rules?note=mine`, { match: revision, body: { rules: mine } });
  const { error, current } = await second.refused('conflict', 'PUT', `apps/${app}/rules`, { match: revision, body: { rules: theirs } });
  assert.match(error.message, /somebody else/);
  assert.deepEqual([current.revision, current.changed.by, current.changed.note], [first.revision, 'root', 'mine']);
  const merged = [...current.settings.rules, theirs.at(-1)];
  const both = await second.ok('PUT', `apps/${app}/rules`, { match: current.revision, body: { rules: merged } });
  assert.deepEqual(both.settings.rules.map((rule) => rule.channels), ['mine:*', 'chat:*', '*', '$presence']);
  const { versions } = await root.ok('GET', `apps/${app}/versions`);
  assert.deepEqual(versions.map((version) => version.changed.by), ['second', 'root', 'root']);
  const back = await root.ok('POST', `apps/${app}/versions/${revision}/restore`, { match: both.revision });
  assert.deepEqual(back.settings.rules.map((rule) => rule.channels), ['chat:*', '*']);
});

test('a rule is effective for those who are connected', async () => {
  const { app } = await freshApp();
  const ann = await guest(app);
  await ann.subscribe('chat:a');
  await ann.publish('chat:a', 1);
  await root.change(app, { rules: [{ channels: 'chat:*', history: 'durable', presence: true, publish: 'server' }] });
  await until(() => ann.publish('chat:a', 2).then(() => false, (error) => error.code === 'forbidden'), 'refused', SOON);
  await root.change(app, { rules: [{ channels: 'other:*' }] });
  const ended = await ann.push('unsubscribed');
  assert.deepEqual([ended.channel, ended.error.code], ['chat:a', 'forbidden']);
  await until(() => ann.subscribe('other:a').then(() => true, () => false), 'the new rule', SOON);
});

test('limits and guests are effective for those who are connected', async () => {
  const { app } = await freshApp();
  const ann = await guest(app);
  await ann.subscribe('a');
  await root.change(app, { limits: { events_per_second: 2, channels_per_connection: 1, payload: 20 } });
  await until(() => ann.subscribe(freshChannel('b')).then(() => false, (error) => error.code === 'too_many_channels'), 'one channel', SOON);
  const burst = async () => {
    const answers = await Promise.allSettled(Array.from({ length: 12 }, () => ann.call('ping')));
    return answers.some(({ reason }) => reason?.code === 'rate_limited');
  };
  await until(burst, 'limited', SOON);
  await root.change(app, { limits: { events_per_second: 0, payload: 20 } });
  await until(() => ann.publish('a', 'x'.repeat(50)).then(() => false, (error) => error.code === 'too_large'), 'too large', SOON);
  await ann.publish('a', 'short');
  const gone = next(ann.socket, 'disconnect', SOON);
  await root.change(app, { guests: false });
  await gone;
  assert.equal((await ann.push('closing')).error.code, 'unauthenticated');
});

test('an origin is let in, and out again with those who came from it', async () => {
  const { app } = await freshApp();
  const origin = 'https://shop.example';
  const url = `${server.url.replace('http', 'ws')}/ws?app=${app}`;
  const tried = () =>
    new Promise((resolve) => {
      const socket = keep(new WebSocket(url, { origin }));
      socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
      socket.on('error', () => resolve(0));
      socket.on('open', () => resolve(socket));
    });
  assert.equal(await tried(), 403);
  await root.change(app, { origins: [origin] });
  const socket = await until(async () => {
    const socket = await tried();
    return typeof socket === 'object' && socket;
  }, 'let in', SOON);
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.send(JSON.stringify({ id: 1, cmd: 'connect' }));
  await root.change(app, { origins: [] });
  assert.equal(await within(closed, 'closed', SOON), 4122);
  await until(async () => (await tried()) === 403, 'kept out', SOON);
});

test('a signing key is replaced without a break', async () => {
  const { app, key } = await freshApp({ guests: false });
  const sign = (secret, kid) => token({ sub: 'ann', app }, { secret, header: { kid } });
  const old = () => sign(key.secret, key.id);
  const ann = await guest(app, { identity: { token: old() } });
  await ann.subscribe('chat:a');
  let found = await root.ok('GET', `apps/${app}/signing-keys`);
  const made = await root.ok('POST', `apps/${app}/signing-keys`, { match: found.revision, body: { id: 'new' } });
  assert.ok(made.secret.length >= 32);
  await guest(app, { identity: { token: sign(made.secret, 'new') } });
  await guest(app, { identity: { token: old() } });
  await root.ok('DELETE', `apps/${app}/signing-keys/${key.id}`, { match: made.app.revision });
  await until(async () => {
    return Client.open(server, { identity: { app, token: old() } }).then(
      (client) => client.close(),
      (error) => error.data?.code === 'unauthenticated',
    );
  }, 'the old one is good no more', SOON);
  await ann.publish('chat:a', 'still here');
  found = await root.ok('GET', `apps/${app}/signing-keys`);
  assert.deepEqual(found.keys.map(({ id }) => id), ['new']);
});

test('an API key is rotated without a break, and revoked', async () => {
  const { app } = await freshApp();
  const { api_key, secret } = await root.ok('POST', `apps/${app}/api-keys`, { body: { name: 'orders', scopes: ['read', 'admin'] } });
  const stats = async (shown) => (await fetch(`${server.url}/api/v1/stats`, { headers: { authorization: `Bearer ${shown}` } })).status;
  await until(async () => (await stats(secret)) === 200, 'good', SOON);
  const rotated = await root.ok('POST', `apps/${app}/api-keys/${api_key.id}/rotate`, { body: { grace: 3600 } });
  assert.deepEqual([await stats(secret), await stats(rotated.secret)], [200, 200]);
  // With the scope `admin` it changes its own app, and is named in the log.
  const bearer = { authorization: `Bearer ${rotated.secret}` };
  const program = new Page();
  const own = await program.ok('GET', `apps/${app}`, { headers: bearer });
  await program.ok('PATCH', `apps/${app}`, { match: own.revision, body: { recovery: true }, headers: bearer });
  await program.refused('not_found', 'GET', 'apps/demo', { headers: bearer });
  await program.refused('not_found', 'DELETE', `apps/${app}`, { match: '*', headers: bearer });
  await root.ok('DELETE', `apps/${app}/api-keys/${api_key.id}`);
  await until(async () => (await stats(rotated.secret)) === 401, 'revoked', SOON);
  const { entries } = await root.ok('GET', `audit?app=${app}`);
  const told = entries.map(({ what, via }) => `${what} ${via}`);
  assert.deepEqual(told, ['api_key.revoke page', 'app.change key', 'api_key.rotate page', 'api_key.create page', 'app.create page']);
  assert.equal(entries[1].by, api_key.id);
});

test('the command line takes the same path', async () => {
  const { app } = await freshApp();
  await server.command('app', 'set', app, '--set', 'recovery=true');
  await server.command('app', 'key', 'create', app, '--scope', 'read');
  const { settings, changed } = await root.ok('GET', `apps/${app}`);
  assert.deepEqual([settings.recovery, changed.via], [true, 'cli']);
  const log = JSON.parse(await server.command('audit', '--app', app, '--json'));
  assert.deepEqual(log.map(({ what, via }) => `${what} ${via}`), ['api_key.create cli', 'app.change cli', 'app.create page']);
  assert.match(await server.command('audit', '--limit', '5'), /app\.change/);
  const versions = JSON.parse(await server.command('app', 'versions', app, '--json'));
  assert.deepEqual(versions.map(({ what }) => what), [['recovery'], []]);
  await server.command('app', 'restore', app, String(versions[1].revision));
  assert.equal((await root.ok('GET', `apps/${app}`)).settings.recovery, false);
  assert.match(await server.command('rule', 'test', 'chat:a', '--app', app), /rule 0 holds: chat:\*/);
  const tried = JSON.parse(await server.command('rule', 'test', '$x', '--app', app, '--json'));
  assert.equal(tried.rule, undefined);
});

test('what would hold is said, by the rules or by a draft', async () => {
  const { app, revision } = await freshApp();
  await root.ok('POST', `apps/${app}/users`, { body: { user: 'ann', roles: ['support'] } });
  const rules = [{ channels: 'help:*', subscribe: ['role:support'] }, { channels: '*', subscribe: 'users' }];
  const answer = await root.ok('POST', `apps/${app}/rules/test`, { body: { channel: 'help:1', user: 'ann', rules } });
  assert.deepEqual([answer.draft, answer.rule.index, answer.rule.shadowed[0].index], [true, 0, 1]);
  const subscribe = answer.user.may.find(({ action }) => action === 'subscribe');
  assert.deepEqual([subscribe.allowed, subscribe.reason], [true, 'the user has the role support in the app']);
  const stranger = await root.ok('POST', `apps/${app}/rules/test`, { body: { channel: 'help:1', guest: true, rules } });
  assert.ok(stranger.user.may.every(({ allowed }) => !allowed));
  assert.equal((await root.ok('GET', `apps/${app}`)).revision, revision, 'nothing was set');
  // What is said is what a client meets.
  await root.change(app, { rules });
  const client = await guest(app);
  await until(() => client.subscribe('help:1').then(() => false, (error) => error.code === 'forbidden'), 'forbidden', SOON);
  const { complaints } = await root.refused('bad_field', 'POST', `apps/${app}/check`, { body: { settings: { rules: [rules[1], rules[0]] } } });
  assert.equal(complaints[0].path, 'rules.1');
  assert.match(complaints[0].message, /never reached/);
});

test('files of the server are nobody\'s to name, and secrets are not told', async () => {
  const { app, revision } = await freshApp();
  const hook = { url: backend.url, events: ['message'] };
  const { complaints } = await root.refused('bad_field', 'PATCH', `apps/${app}`, { match: revision, body: { hooks: [{ ...hook, secret_file: '/etc/passwd' }] } });
  assert.match(JSON.stringify(complaints), /configuration file only/);
  const set = await root.ok('PATCH', `apps/${app}`, { match: revision, body: { hooks: [{ ...hook, secret: HOOK_SECRET }] } });
  const kept = await root.ok('PATCH', `apps/${app}`, { match: set.revision, body: { hooks: [{ ...hook, events: ['message', 'online'] }] } });
  assert.deepEqual(kept.settings.hooks[0].events, ['message', 'online']);
  const tried = await until(async () => {
    const { status, body } = await root.ask('POST', `apps/${app}/hooks/main/test`, {});
    return status === 200 && body;
  }, 'tried', SOON);
  assert.equal(tried.ok, true, 'the secret is still there');
  const { hooks } = await root.ok('GET', `apps/${app}/hooks`);
  assert.deepEqual([hooks[0].name, hooks[0].breaker, hooks[0].waiting], ['main', 'closed', 0]);
  const everything = JSON.stringify([await root.ok('GET', `audit?app=${app}`), await root.ok('GET', `apps/${app}/versions`), kept, hooks]);
  assert.ok(!everything.includes(HOOK_SECRET) && everything.includes('"…"'), everything);
  assert.ok(!(await server.command('audit', '--json')).includes(SECRET));
});

test('a channel is watched, read, written to, and cleaned', async () => {
  const { app } = await freshApp({ guests: true });
  const ann = await guest(app);
  await ann.subscribe('chat:a');
  const ticket = await root.ok('POST', `apps/${app}/channels/chat:a/tail`);
  const tail = keep(await PlainSocket.open(server, { token: ticket.token }));
  await tail.call('subscribe', ticket.subscribe);
  const { seq } = await ann.publish('chat:a', { hello: 1 });
  assert.equal((await tail.push('message')).seq, seq);
  for (const [command, fields] of [['publish', { channel: 'chat:a', data: 1 }], ['subscribe', { channel: 'chat:b' }]]) {
    await assert.rejects(tail.call(command, fields), (error) => error.code === 'forbidden', command);
  }
  const said = await root.ok('POST', `apps/${app}/channels/chat:a/messages`, { body: { data: 'from above' } });
  assert.equal((await ann.push('message', ({ data }) => data === 'from above')).from.user, 'server');
  await root.ok('DELETE', `apps/${app}/channels/chat:a/messages/${seq}`);
  const page = await root.ok('GET', `apps/${app}/channels/chat:a/messages?limit=10`);
  assert.equal(page.messages.find((message) => message.seq === seq).data, null);
  assert.ok(page.head >= said.seq);
  const shown = await root.ok('GET', `apps/${app}/channels/chat:a`);
  assert.deepEqual([shown.rule.index, shown.history, shown.presence], [0, 'durable', true]);
  assert.ok(shown.subscribers >= 2 && shown.head >= 2);
  const live = await root.ok('GET', `apps/${app}/channels`);
  assert.deepEqual(live.channels.map(({ channel, rule }) => [channel, rule]), [['chat:a', 0]]);
  const stats = await root.ok('GET', 'stats');
  assert.ok(stats.connections >= 2 && stats.delivered >= 2 && stats.published >= 2 && stats.connections_by_app[app] >= 1, JSON.stringify(stats));
  const { nodes } = await root.ok('GET', 'nodes');
  assert.deepEqual(nodes.map((node) => node.self), [true]);
});

test('a ban cuts off, a user is found, and is erased', async () => {
  const { app, key } = await freshApp({ guests: false });
  const signed = token({ sub: 'ann', app }, { secret: key.secret, header: { kid: key.id } });
  const ann = await guest(app, { identity: { token: signed } });
  await root.ok('POST', `apps/${app}/users`, { body: { user: 'ann', name: 'Ann Example' } });
  const gone = next(ann.socket, 'disconnect', SOON);
  await root.ok('PATCH', `apps/${app}/users/ann`, { body: { banned: true } });
  await gone;
  const { users } = await root.ok('GET', `apps/${app}/users?search=EXAMPLE`);
  assert.deepEqual(users.map(({ user, banned }) => [user, banned]), [['ann', true]]);
  const shown = await root.ok('GET', `apps/${app}/users/ann`);
  assert.deepEqual([shown.name, shown.logins, shown.devices], ['Ann Example', 0, []]);
  assert.equal((await root.ask('DELETE', `apps/${app}/users/ann`)).status, 202);
  await root.refused('not_found', 'GET', `apps/${app}/users/ann`);
  const { erasures } = await root.ok('GET', `apps/${app}/erasures`);
  assert.deepEqual(erasures.map(({ user }) => user), ['ann']);
});

test('an app of the file is live after its first change, and as in the file when that is taken back', async () => {
  const before = await root.ok('GET', 'apps/demo');
  assert.deepEqual([before.from, before.in_file, before.revision], ['file', true, 0]);
  const live = await root.change('demo', { recovery: true });
  assert.deepEqual([live.from, live.in_file, live.settings.guests], ['live', true, before.settings.guests]);
  await server.crash();
  const again = await root.ok('GET', 'apps/demo');
  assert.deepEqual([again.revision, again.settings.recovery], [live.revision, true], 'what is live wins over the file');
  const gone = await root.ok('DELETE', 'apps/demo', { match: live.revision });
  assert.equal(gone.reverted_to_file, true);
  const after = await root.ok('GET', 'apps/demo');
  assert.deepEqual([after.from, after.revision, after.settings], ['file', 0, before.settings]);
});

test('nobody else gets in, and no other page gets anything done', async () => {
  const nobody = new Page();
  await nobody.refused('unauthenticated', 'GET', 'apps');
  await nobody.refused('unauthenticated', 'GET', 'me');
  const user = token({ sub: 'ann', app: 'demo', roles: ['admin'] });
  const { status } = await nobody.ask('GET', 'apps', { headers: { authorization: `Bearer ${user}` } });
  assert.ok([401, 404].includes(status), String(status));
  const thief = (headers) => root.ask('POST', 'apps', { body: { app: 'stolen' }, headers });
  for (const origin of ['https://evil.example', 'http://localhost:3000', 'null', `${server.url}.evil.example`]) {
    const answer = await thief({ origin });
    assert.equal(answer.body.error.code, 'origin_refused', origin);
    assert.equal(answer.headers.get('access-control-allow-credentials'), null);
  }
  assert.equal((await thief({ 'sec-fetch-site': 'same-site' })).status, 403);
  assert.equal((await thief({ 'x-xpush-admin': '' })).body.error.code, 'forbidden');
  // A form needs no preflight; it has neither the header nor this content type.
  const form = await root.ask('POST', 'apps', { body: 'app=stolen', headers: { 'content-type': 'application/x-www-form-urlencoded', 'x-xpush-admin': '' } });
  assert.equal(form.status, 403);
  const preflight = await fetch(`${server.url}/api/v1/admin/apps`, {
    method: 'OPTIONS',
    headers: { origin: 'http://localhost:3000', 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-xpush-admin' },
  });
  assert.ok(!`${preflight.headers.get('access-control-allow-headers')}`.includes('x-xpush-admin'));
  await root.refused('not_found', 'GET', 'apps/stolen');
});

test('bad bodies are refused, and the server goes on', async () => {
  const { app, revision } = await freshApp();
  const send = (body) => root.ask('PATCH', `apps/${app}`, { match: revision, body });
  const code = async (body) => (await send(body)).body.error.code;
  assert.equal(await code(`{"origins":["${'x'.repeat(10 << 20)}"]}`), 'too_large');
  assert.equal(await code(`{"guests":${'['.repeat(100_000)}${']'.repeat(100_000)}}`), 'bad_json');
  assert.equal(await code('{"guests":true,"guests":false}'), 'bad_json');
  assert.equal(await code('{"rules":[{"channels":"a","channels":"b"}]}'), 'bad_json');
  for (const wrong of [{ guests: 'yes' }, { rules: {} }, { rules: [] }, { rules: [{}] }, { origins: 'x y' }, { limits: { events_per_second: -1 } }, { nonsense: 1 }, { hooks: [{ url: 'ftp://x' }] }]) {
    const { body } = await send(wrong);
    assert.equal(body.error.code, 'bad_field', JSON.stringify(wrong));
    assert.ok(body.complaints.length > 0, JSON.stringify(wrong));
  }
  assert.equal((await root.ok('GET', `apps/${app}`)).revision, revision);
  assert.ok(server.alive);
});

test('who guesses at a password waits', async () => {
  const guess = () => new Page().ask('POST', 'sign-in', { body: { user: 'nobody', password: 'not the password' } });
  const codes = [];
  for (let n = 0; n < 7; n++) codes.push((await guess()).body.error.code);
  assert.deepEqual(codes.slice(0, 5), Array(5).fill('bad_credentials'));
  const last = await guess();
  assert.deepEqual([last.status, codes.includes('rate_limited') || last.body.error.code === 'rate_limited'], [429, true]);
  assert.ok(Number(last.headers.get('retry-after')) > 0);
  assert.ok(!server.log.includes('not the password'));
});
