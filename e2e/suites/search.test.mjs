// Messages are found by their words, by those who may read them: over sockets and over HTTP, after edits, deletions and crashes.
import assert from 'node:assert/strict';
import { after, afterEach, before, describe, test } from 'node:test';
import { ask, MESSENGER, register } from '../accounts.mjs';
import { Client, freshChannel } from '../clients.mjs';
import { PlainSocket } from '../plain.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

let server, key, open = [];
before(async () => {
  server = await Server.start({ config: MESSENGER });
  key = /xk_demo\.[\w.-]+/.exec(await server.command('app', 'key', 'create', 'demo', '--scope', 'read'))[0];
});
after(() => server?.stop());
afterEach(() => open.splice(0).forEach((client) => client.close()));

const connect = async (account, options) => {
  const client = await Client.open(server, { identity: { token: account.token }, ...options });
  open.push(client);
  return client;
};
const texts = ({ hits }) => hits.map(({ excerpt }) => excerpt.join(''));
/** Searches until as many are found: the index is a moment behind. */
const found = (client, query, count, fields = {}) =>
  until(async () => {
    const page = await client.call('search', { query, ...fields });
    return page.hits.length === count ? page : undefined;
  }, `"${query}" is found ${count} times`);

/** Two people in a room, and one who is not. */
async function room() {
  const [ann, bob, eve] = [await register(server, 'Ann'), await register(server, 'Bob'), await register(server, 'Eve')];
  const [a, b, e] = [await connect(ann), await connect(bob), await connect(eve)];
  const channel = freshChannel('room');
  await a.call('members', { channel, add: [ann.user, bob.user] });
  await a.subscribe(channel);
  await b.subscribe(channel);
  return { ann, bob, eve, a, b, e, channel };
}

describe('search', () => {
  test('members find what was said in their room, and a stranger finds nothing', async () => {
    const { ann, bob, eve, a, b, e, channel } = await room();
    const { seq } = await a.publish(channel, { text: 'Grüße aus Köln', kind: 'postcard' });
    const page = await found(b, 'grusse koln', 1);
    const [{ message, excerpt }] = page.hits;
    assert.deepEqual([message.channel, message.seq, message.from.user, message.data.text], [channel, seq, ann.user, 'Grüße aus Köln']);
    assert.deepEqual(excerpt, ['', 'Grüße', ' aus ', 'Köln', ' postcard']);
    assert.deepEqual((await e.call('search', { query: 'grüße' })).hits, []);
    await assert.rejects(e.call('search', { query: 'grüße', channel }), { code: 'forbidden' });
    await assert.rejects(e.call('search', { query: `grüße in:${channel}` }), { code: 'not_found' });
    const rest = (token, query) => ask(server, 'GET', `search?query=${encodeURIComponent(query)}`, { token });
    assert.deepEqual(await rest(bob.token, 'köl'), await b.call('search', { query: 'köl' }));
    assert.deepEqual((await rest(eve.token, 'köln')).hits, []);
    assert.deepEqual(texts(await rest(key, `köln in:${channel}`)), ['Grüße aus Köln postcard']);
    await assert.rejects(rest(undefined, 'köln'), { status: 401 });
    await a.call('members', { channel, remove: [bob.user] });
    await until(async () => (await b.call('search', { query: 'köln' })).hits.length === 0, 'who is out finds nothing');
  });

  test('edits replace words, deletions take them away', async () => {
    const { a, b, channel } = await room();
    const [first, second] = [await a.publish(channel, 'the wrong word'), await a.publish(channel, 'another word')];
    await found(b, 'word', 2, { channel });
    await a.call('edit', { channel, seq: first.seq, data: 'the right expression' });
    assert.deepEqual((await b.call('search', { query: 'wrong', channel })).hits, []);
    assert.equal((await found(b, 'expr', 1)).hits[0].message.edited.seq, 3);
    await a.call('delete', { channel, seq: second.seq });
    assert.deepEqual((await b.call('search', { query: 'another', channel })).hits, []);
  });

  test('Korean, Japanese and Chinese are found inside of words, on every transport', async () => {
    const { ann, a, channel } = await room();
    for (const text of ['내일 대학교에서 만나자', '昨日東京タワーへ行った', '我在北京大学读书']) await a.publish(channel, { text });
    const plain = await PlainSocket.open(server, { token: ann.token });
    const polling = await connect(ann, { transport: 'polling' });
    try {
      for (const client of [a, plain, polling]) {
        for (const [query, text] of [['학교', '내일 대학교에서 만나자'], ['タワー', '昨日東京タワーへ行った'], ['北京', '我在北京大学读书']]) {
          assert.deepEqual(texts(await found(client, query, 1)), [text]);
        }
      }
    } finally {
      plain.close();
    }
  });

  test('thousands are found page by page, the newest first; and again after a crash', async () => {
    const { a, channel } = await room();
    const says = Array.from({ length: 3_000 }, (_, n) => a.publish(channel, `bulk message ${n}`));
    await Promise.all(says);
    const all = async () => {
      const seqs = [];
      let before;
      do {
        const page = await a.call('search', { query: '"bulk message"', channel, limit: 100, ...(before && { before }) });
        seqs.push(...page.hits.map(({ message }) => message.seq));
        before = page.before;
      } while (before);
      return seqs;
    };
    const newest = Array.from({ length: 3_000 }, (_, n) => 3_000 - n);
    await until(async () => (await all()).length === 3_000, 'all are indexed', 30_000);
    assert.deepEqual(await all(), newest);
    const last = a.publish(channel, 'said right before the end');
    await last;
    await server.crash();
    await until(async () => {
      const { hits } = await ask(server, 'GET', `search?query=${encodeURIComponent(`right in:${channel}`)}`, { token: key });
      return hits.length === 1;
    }, 'what was acknowledged is found after a crash', 30_000);
  });

  test('what is no query is told so, and hostile ones find nothing', async () => {
    const { a, channel } = await room();
    await a.publish(channel, 'harmless');
    for (const query of ['', '   ', '"', '***', 'x'.repeat(10_000), 'after:yesterday', 7, 'a '.repeat(17)]) {
      await assert.rejects(a.call('search', { query, channel }), { code: 'bad_field' }, String(query));
    }
    for (const fields of [{ limit: 0 }, { limit: 101 }, { before: 'x' }, { before: 7 }]) {
      await assert.rejects(a.call('search', { query: 'x', ...fields }), { code: 'bad_field' }, JSON.stringify(fields));
    }
    for (const query of ['NEAR(a b)', "x' OR 1=1 --", 'a AND', 'words:a', '{x} : y', 'a" OR "b', '^a', 'a*', '\u0000a', 'NOT x', '; DROP TABLE words']) {
      assert.deepEqual((await a.call('search', { query, channel })).hits, [], query);
    }
    await assert.rejects(a.call('search', { query: 'x', channel: 'live:a' }), { code: 'no_search' });
    assert.ok(!/panicked|ERROR/.test(server.log), server.log);
  });
});
