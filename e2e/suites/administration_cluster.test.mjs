// Apps are changed at one server while clients are at others (docs/administration.md), by several operators at once, and while ZooKeeper, Redis and the database go and come back.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import WebSocket from 'ws';
import { Operator, PASSWORD } from '../admin.mjs';
import { CHANNEL_SERVERS, Cluster, PATIENCE_MS } from '../cluster.mjs';
import { Client } from '../clients.mjs';
import { token } from '../jwt.mjs';
import { blocksOf } from '../snippets.mjs';
import { until } from '../wait.mjs';

/** What the contract promises. */
const PROMISED_MS = 2_000;
/** What a busy machine needs beside it. */
const SOON = 3 * PROMISED_MS;

const RULES = [{ channels: 'chat:*', history: 'durable' }, { channels: '*' }];

let cluster, ada, grace, open = [];
before(
  async () => {
    cluster = await Cluster.start('');
    // Each server of a new installation prints a link; the last one is good.
    const at = { url: cluster.urlOf('s1') };
    const links = ['s1', 's2'].map((name) => /setup#([\w-]+)/.exec(cluster.logOf(name))?.[1]).filter(Boolean);
    const made = links.map((link) => Operator.cookie(at, '/setup', { token: link, user: 'ada', password: PASSWORD }).catch(() => undefined));
    const cookie = (await Promise.all(made)).find(Boolean);
    ada = new Operator(at, cookie);
    await ada.call('POST', '/apps/xpush/users', { user: 'grace', password: PASSWORD, roles: ['admin'] });
    const other = { url: cluster.urlOf('s2') };
    grace = await until(() => Operator.signIn(other, 'grace').catch(() => undefined), 'an operator at the other server');
  },
  { timeout: 2 * PATIENCE_MS },
);
after(() => cluster?.stop());
afterEach(() => open.splice(0).forEach((client) => client.close()));

/** An app that ada has made at s1, and every server knows. */
async function freshApp(settings = {}) {
  const app = `app-${Math.random().toString(36).slice(2, 10)}`;
  const made = await ada.call('POST', '/apps', { app, settings: { guests: true, rules: RULES, ...settings } });
  await Promise.all(CHANNEL_SERVERS.map((name) => until(() => clientAt(name, { app }).then((client) => client.close() ?? true, (error) => error.data?.code === 'unauthenticated'), `the app at ${name}`, SOON)));
  return { app, key: made.key };
}

async function clientAt(name, identity) {
  const client = await Client.open({ url: cluster.urlOf(name) }, { identity });
  open.push(client);
  return client;
}

async function change(operator, app, fields) {
  const { revision } = await operator.call('GET', `/apps/${app}`);
  return operator.call('PATCH', `/apps/${app}`, fields, revision);
}

/** How long it takes until something holds that has been asked for just now, in ms. */
async function effective(probe, what) {
  const since = performance.now();
  await until(probe, what, SOON);
  return Math.round(performance.now() - since);
}

const refusedBy = (code) => (error) => {
  if ((error.code ?? error.data?.code) !== code) throw error;
  return true;
};

test('what is changed at one server is in effect at the others within two seconds', async (t) => {
  const { app, key } = await freshApp();
  const clients = await Promise.all(CHANNEL_SERVERS.map((name) => clientAt(name, { app })));
  const everywhere = async (probe) => (await Promise.all(clients.map(probe))).every(Boolean);
  const took = {};

  await Promise.all(clients.map((client) => client.publish('news:1', 1)));
  await change(ada, app, { rules: [{ channels: 'news:*', publish: 'server' }, ...RULES] });
  took.rule = await effective(() => everywhere((client) => client.publish('news:1', 2).then(() => false, refusedBy('forbidden'))), 'refused by the new rule');

  await change(grace, app, { limits: { payload: 20 } });
  took.limit = await effective(() => everywhere((client) => client.publish('chat:1', 'x'.repeat(50)).then(() => false, refusedBy('too_large'))), 'too large by the new limit');

  const origin = 'https://shop.example';
  const tried = (name) =>
    new Promise((resolve) => {
      const socket = new WebSocket(`${cluster.urlOf(name).replace('http', 'ws')}/ws?app=${app}`, { origin });
      socket.on('unexpected-response', (_, response) => resolve(response.statusCode));
      socket.on('error', () => resolve(0));
      socket.on('open', () => {
        socket.close();
        resolve(101);
      });
    });
  assert.deepEqual(await Promise.all(CHANNEL_SERVERS.map(tried)), [403, 403, 403]);
  await change(ada, app, { origins: [origin] });
  took.origin = await effective(async () => (await Promise.all(CHANNEL_SERVERS.map(tried))).every((status) => status === 101), 'let in from the new origin');

  const admitted = (secret, kid) => async () => {
    const signed = token({ sub: 'ann', app }, { secret, header: { kid } });
    const tried = CHANNEL_SERVERS.map((name) => clientAt(name, { token: signed }).then(() => true, (error) => !refusedBy('unauthenticated')(error)));
    return (await Promise.all(tried)).every(Boolean);
  };
  const { revision } = await grace.call('GET', `/apps/${app}`);
  const added = await grace.call('POST', `/apps/${app}/signing-keys`, { id: 'new' }, revision);
  took['key, added'] = await effective(admitted(added.secret, 'new'), 'admitted by the new key');
  await ada.call('DELETE', `/apps/${app}/signing-keys/${key.id}`, undefined, added.app.revision);
  const refused = async () => {
    const signed = token({ sub: 'ann', app }, { secret: key.secret, header: { kid: key.id } });
    const tried = CHANNEL_SERVERS.map((name) => clientAt(name, { token: signed }).then(() => false, refusedBy('unauthenticated')));
    return (await Promise.all(tried)).every(Boolean);
  };
  took['key, removed'] = await effective(refused, 'refused with the old key');
  for (const [what, ms] of Object.entries(took)) t.diagnostic(`${what}: ${ms} ms`);
});

/** Two who have read the same revision each add a rule, at two servers at the same moment; then the second one keeps both. */
async function meet(app) {
  const [mine, theirs] = await Promise.all([ada, grace].map((operator) => operator.call('GET', `/apps/${app}`)));
  assert.equal(mine.revision, theirs.revision);
  const names = ['ada', 'grace'].map((name) => `${name}-${Math.random().toString(36).slice(2, 8)}:*`);
  const rules = (name) => [{ channels: name }, ...mine.settings.rules];
  const answers = await Promise.all([ada, grace].map((operator, index) => operator.ask('PUT', `/apps/${app}/rules`, { rules: rules(names[index]) }, mine.revision)));
  assert.deepEqual(answers.map(({ status }) => status).toSorted(), [200, 409], JSON.stringify(answers));
  const second = answers.findIndex(({ status }) => status === 409);
  const { error, current } = answers[second].body;
  assert.equal(error.code, 'conflict');
  // The second is told what the first has made of it, and nothing of its own is half done.
  assert.equal(current.revision, answers[1 - second].body.revision);
  assert.deepEqual(current.settings.rules.map(({ channels }) => channels), [names[1 - second], ...mine.settings.rules.map(({ channels }) => channels)]);
  const operator = [ada, grace][second];
  const both = await operator.call('PUT', `/apps/${app}/rules`, { rules: [{ channels: names[second] }, ...current.settings.rules] }, current.revision);
  const everywhere = await Promise.all([ada, grace].map((one) => until(async () => (await one.call('GET', `/apps/${app}`)).revision === both.revision, 'the same at both servers', SOON)));
  assert.ok(everywhere.every(Boolean));
  const { entries } = await ada.call('GET', `/audit?app=${app}&what=rules.change&limit=3`);
  assert.deepEqual(entries.map(({ outcome }) => outcome).toSorted(), ['done', 'done', 'refused']);
  return both.settings.rules.map(({ channels }) => channels);
}

test('two operators change the same rules at two servers: the second is told, and nothing is lost', async () => {
  const { app } = await freshApp();
  const rules = await meet(app);
  assert.equal(rules.length, RULES.length + 2);
});

for (const service of ['redis', 'zookeeper', 'mongo']) {
  test(`${service} goes and comes back in between: what was changed holds, and the second of two is still told`, { timeout: 2 * PATIENCE_MS }, async (t) => {
    const { app } = await freshApp();
    const before = await meet(app);
    const stale = await grace.call('GET', `/apps/${app}`);
    await cluster.restart(service);
    await until(async () => (await Promise.all(CHANNEL_SERVERS.map((name) => fetch(`${cluster.urlOf(name)}/readyz`)))).every(({ ok }) => ok), 'ready again', PATIENCE_MS);
    const kept = await until(() => ada.call('GET', `/apps/${app}`).catch(() => undefined), 'asked again', PATIENCE_MS);
    assert.deepEqual(kept.settings.rules.map(({ channels }) => channels), before);

    const clients = await Promise.all(CHANNEL_SERVERS.map((name) => clientAt(name, { app })));
    const closed = [{ channels: 'closed:*', publish: 'server' }, ...kept.settings.rules];
    await ada.call('PUT', `/apps/${app}/rules`, { rules: closed }, kept.revision);
    const late = await grace.ask('PUT', `/apps/${app}/rules`, { rules: stale.settings.rules }, stale.revision);
    assert.equal(late.status, 409, JSON.stringify(late.body));
    assert.equal(late.body.current.settings.rules[0].channels, 'closed:*');
    const ms = await effective(async () => {
      const tried = clients.map((client) => client.publish('closed:1', 1).then(() => false, refusedBy('forbidden')));
      return (await Promise.all(tried)).every(Boolean);
    }, 'in effect everywhere');
    t.diagnostic(`in effect everywhere after ${ms} ms`);
    assert.equal((await meet(app)).length, closed.length + 2);
  });
}

test('the HTTP API tells of all servers wherever one asks: at either session server, or behind nginx', async () => {
  const { app } = await freshApp();
  const [key] = /xk_[\w-]+\.[\w.-]+/.exec(await cluster.command('app', 'key', 'create', app, '--scope', 'admin'));
  const clients = await Promise.all(CHANNEL_SERVERS.map((name) => clientAt(name, { app })));
  for (const [index, client] of clients.entries()) {
    for (const channel of ['live:all', `live:${CHANNEL_SERVERS[index]}`]) await client.subscribe(channel);
  }
  const ask = async (url, path) => {
    const answer = await fetch(`${url}/api/v1${path}`, { headers: { authorization: `Bearer ${key}` } });
    return answer.ok ? answer.json() : Promise.reject(new Error(`${path}: ${answer.status} ${await answer.text()}`));
  };
  const followed = [['live:all', 3], ...CHANNEL_SERVERS.map((name) => [`live:${name}`, 1])];
  // Behind nginx last: by then either server knows the key.
  for (const url of [...['s1', 's2'].map((name) => cluster.urlOf(name)), cluster.url]) {
    const live = await until(() => ask(url, '/channels?prefix=live:').catch(() => undefined), `the key is known at ${url}`, SOON);
    assert.deepEqual([live.channels.map(({ channel, subscribers }) => [channel, subscribers]), live.missing], [followed, []], url);
    const stats = await ask(url, '/stats');
    assert.deepEqual([stats.connections, stats.users, stats.missing], [3, 3, []], url);
    assert.deepEqual(stats.nodes.map(({ name }) => name), CHANNEL_SERVERS, JSON.stringify(stats));
  }
});

test('the commands of docs/cluster.md do what it says', { timeout: 2 * PATIENCE_MS }, async () => {
  const blocks = blocksOf(readFileSync(join(import.meta.dirname, '../../docs/cluster.md'), 'utf8')).filter(({ language }) => language === 'sh');
  const commands = blocks.flatMap(({ text }) => text.split('\n').map((line) => line.replace(/#.*/, '').replaceAll('push-2', 'n2').trim().split(/\s+/)));
  assert.ok(commands.length >= 6 && commands.every(([program]) => program === 'xpush'), JSON.stringify(commands));
  const run = async (...words) => {
    assert.ok(commands.some((command) => command.slice(1).join(' ') === words.join(' ')), `${words.join(' ')} is not among ${JSON.stringify(commands)}`);
    return cluster.command(...words);
  };
  for (const name of CHANNEL_SERVERS) assert.match(await run('nodes'), new RegExp(`^${name}\\b`, 'm'));
  await run('drain', 'n2');
  await cluster.settled(['n1', 'n3']);
  assert.match(await run('nodes'), /^n2\b.*draining/m);
  await run('undrain', 'n2');
  await cluster.settled(CHANNEL_SERVERS);
  assert.match(await run('rebalance', '--dry-run'), /SHARE NOW/);
  assert.match(await run('rebalance'), /within 30 s/);
  const { entries } = await ada.call('GET', '/audit?what=server.');
  assert.deepEqual(entries.map(({ what, target, via }) => [what, target, via]), [['server.rebalance', undefined, 'cli'], ['server.undrain', 'n2', 'cli'], ['server.drain', 'n2', 'cli']]);

  await assert.rejects(run('epoch', 'new'), /stop them first/);
  await Promise.all(['s1', 's2', ...CHANNEL_SERVERS].map((name) => cluster.end(name, 'SIGTERM')));
  assert.match(await until(() => run('epoch', 'new').catch((error) => !/stop them first/.test(error.message) && Promise.reject(error)), 'all have left', PATIENCE_MS), /a new epoch has begun/);
});
