// The start page in a real browser.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { launch, watched } from '../browser.mjs';
import { Client } from '../clients.mjs';
import { picture } from '../pictures.mjs';
import { PYTHON } from '../python.mjs';
import { Server } from '../server.mjs';
import { Inbox, until } from '../wait.mjs';

const E2E = join(import.meta.dirname, '..');
const LOBBY = 'chat:lobby';
const AXE = readFileSync(join(E2E, 'node_modules/axe-core/axe.min.js'), 'utf8');
const WIDTHS = { 1280: { width: 1280, height: 900 }, 375: { width: 375, height: 812 } };
const THEMES = ['light', 'dark'];

let server, browser, contexts = [];
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});
afterEach(async () => {
  await Promise.all(contexts.map((context) => context.close()));
  contexts = [];
  await until(async () => (await lobby()).count === 0, 'empty again');
});

/** Who is in the lobby, asked from outside. */
async function lobby() {
  const client = await Client.open(server);
  const answer = await client.call('presence', { channel: LOBBY });
  client.close();
  return answer;
}

const shown = (page, id) => page.getByTestId(id);
const text = (page, id) => shown(page, id).innerText();

/** A window of a browser of its own, on the start page and connected. */
async function visit(options = {}) {
  const context = await browser.newContext({ viewport: WIDTHS[1280], ...options });
  context.setDefaultTimeout(10_000);
  contexts.push(context);
  return arrive(await watched(context));
}

async function arrive(page) {
  await page.goto(server.url);
  await until(() => shown(page, 'conn-state').getAttribute('data-status').then((status) => status === 'connected'), 'connected');
  return page;
}

const online = (page, count) => until(async () => (await text(page, 'online-count')) === `Online : ${count}`, `showing "Online : ${count}"`);

async function say(page, words) {
  await shown(page, 'chat-input').fill(words);
  await shown(page, 'chat-send').click();
}

const line = (page, words) => shown(page, 'chat-message').filter({ hasText: words });

test('two browsers chat with each other and count each other', async () => {
  const [ann, bob] = [await visit(), await visit()];
  await Promise.all([online(ann, 2), online(bob, 2)]);
  await shown(ann, 'name-input').fill('Ann');
  await shown(ann, 'name-input').press('Enter');
  await say(ann, 'Hello, 세계 🙂');
  await line(bob, 'Hello, 세계 🙂').waitFor();
  await say(bob, '<img src=x onerror=alert(1)>');
  await line(ann, '<img src=x onerror=alert(1)>').waitFor();
  assert.equal(await line(ann, 'Hello').getAttribute('data-own'), 'true');
  assert.equal(await line(bob, 'Hello').getAttribute('data-own'), 'false');
  assert.match(await line(bob, 'Hello').innerText(), /Ann/);
  await until(async () => (await line(ann, 'Hello').getAttribute('data-status')) === 'sent', 'acknowledged');
  await until(async () => (await line(ann, 'Hello').getAttribute('data-read')) === 'true', 'read');
  for (const page of [ann, bob]) {
    assert.equal(await shown(page, 'chat-message').count(), 2, 'each message once');
    await until(async () => /^\d+(\.\d+)? ms$/.test(await text(page, 'latency')), 'a round trip');
    assert.deepEqual(page.complaints, []);
  }
  await contexts[1].close();
  await online(ann, 1);
});

test('a duplicated window and a reload are the same visitor', async () => {
  const page = await visit();
  await online(page, 1);
  const [copy] = await Promise.all([contexts[0].waitForEvent('page'), page.evaluate(() => void window.open(location.href))]);
  await until(() => shown(copy, 'conn-state').getAttribute('data-status').then((status) => status === 'connected'), 'connected');
  await online(copy, 1);
  await page.reload();
  await online(page, 1);
  assert.equal((await lobby()).count, 1);
  await visit();
  await Promise.all([online(page, 2), online(copy, 2)]);
});

test('history is there for who comes later', async () => {
  const first = await visit();
  await say(first, 'written before');
  await until(async () => (await line(first, 'written before').getAttribute('data-status')) === 'sent', 'acknowledged');
  const later = await visit();
  await line(later, 'written before').waitFor();
});

test('an edit and a deletion reach the other window', async () => {
  const [ann, bob] = [await visit(), await visit()];
  await say(ann, 'Helo there');
  await line(bob, 'Helo there').waitFor();
  await line(ann, 'Helo there').hover();
  await line(ann, 'Helo there').getByTestId('chat-edit').click();
  await until(async () => (await shown(ann, 'chat-input').inputValue()) === 'Helo there', 'in the field');
  await say(ann, 'Hello there');
  for (const page of [ann, bob]) {
    await line(page, 'Hello there').waitFor();
    assert.match(await line(page, 'Hello there').innerText(), /edited/);
  }
  await line(ann, 'Hello there').getByTestId('chat-delete').click();
  for (const page of [ann, bob]) {
    await line(page, 'Message deleted').last().waitFor();
    await until(async () => (await line(page, 'Hello there').count()) === 0, 'gone');
  }
  assert.equal(await bob.getByTestId('chat-edit').count(), 0, 'others\' messages offer no changes');
});

test('who types is shown to the other window, until the message comes', async () => {
  const [ann, bob] = [await visit(), await visit()];
  await online(ann, 2);
  await shown(ann, 'name-input').fill('Ann');
  await shown(ann, 'name-input').press('Enter');
  await online(bob, 2);
  await until(async () => {
    await shown(ann, 'chat-input').press('x');
    return bob.getByText('Ann is typing').isVisible();
  }, 'typing');
  await shown(ann, 'chat-send').click();
  await bob.getByText('Ann is typing').waitFor({ state: 'detached' });
});

test('the cut network gets back everything that it missed', async () => {
  const page = await visit();
  await shown(page, 'cut-switch').click();
  await until(() => shown(page, 'conn-state').getAttribute('data-status').then((status) => status === 'paused'), 'cut', 10_000);
  await shown(page, 'cut-result').waitFor({ timeout: 30_000 });
  const [, missed, recovered] = /^(\d+) missed, (\d+) recovered$/.exec(await text(page, 'cut-result'));
  assert.ok(Number(missed) > 0);
  assert.equal(missed, recovered);
  assert.equal(await shown(page, 'conn-state').getAttribute('data-status'), 'connected');
});

test('the page finds a restarted server again', async () => {
  const page = await visit();
  await online(page, 1);
  await say(page, 'before the restart');
  await until(async () => (await line(page, 'before the restart').getAttribute('data-status')) === 'sent', 'acknowledged');
  await server.end('SIGKILL');
  await until(() => shown(page, 'conn-state').getAttribute('data-status').then((status) => status !== 'connected'), 'disconnected');
  await server.launch();
  await until(() => shown(page, 'conn-state').getAttribute('data-status').then((status) => status === 'connected'), 'connected again', 15_000);
  await online(page, 1);
  await say(page, 'after the restart');
  await until(async () => (await line(page, 'after the restart').getAttribute('data-status')) === 'sent', 'acknowledged');
  assert.equal(await line(page, 'before the restart').count(), 1, 'the chat outlives the process');
});

test('the theme follows the system until it is chosen, and the choice is remembered', async () => {
  const page = await visit({ colorScheme: 'dark' });
  const scheme = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await scheme();
  await shown(page, 'theme-switch').click();
  const light = await scheme();
  assert.notEqual(light, dark);
  await arrive(page);
  assert.equal(await scheme(), light);
  await shown(page, 'theme-switch').click();
  assert.equal(await scheme(), dark);
});

describe('the snippets work as printed', () => {
  let folder;
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'xpush-snippet-'));
    mkdirSync(join(folder, 'node_modules'));
    symlinkSync(join(E2E, 'node_modules/sio4'), join(folder, 'node_modules/socket.io-client'));
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  /** The snippet of a tab, by its copy button. */
  async function copied(page, tab) {
    await shown(page, `tab-${tab}`).click();
    const snippet = page.getByTestId('snippet').filter({ visible: true });
    await page.getByTestId('snippet-copy').filter({ visible: true }).click();
    const words = await until(() => page.evaluate(() => navigator.clipboard.readText()), 'in the clipboard');
    assert.equal(words.trim(), (await snippet.innerText()).trim());
    return words;
  }

  /** Runs a snippet while `watch` looks at what it prints. The shell's curl dies with its process group. */
  async function running(command, file, watch) {
    const output = new Inbox();
    const program = spawn(command, [file], { cwd: folder, detached: true, env: { ...process.env, PYTHONUNBUFFERED: '1' } });
    for (const stream of [program.stdout, program.stderr]) stream.setEncoding('utf8').on('data', (words) => output.push(words));
    try {
      await once(program, 'spawn');
      await watch((words) => output.first(() => output.items.join('').includes(words), `"${words}" in the snippet's output`));
    } finally {
      if (program.pid) process.kill(-program.pid, 'SIGKILL');
    }
  }

  for (const { tab, file, name, command } of [
    { tab: 'javascript', file: 'chat.mjs', name: 'Node', command: process.execPath },
    { tab: 'python', file: 'chat.py', name: 'Python', command: PYTHON },
    { tab: 'curl', file: 'chat.sh', command: 'sh' },
  ]) {
    test(tab, async () => {
      const page = await visit({ permissions: ['clipboard-read', 'clipboard-write'] });
      writeFileSync(join(folder, file), await copied(page, tab));
      await running(command, file, async (prints) => {
        if (name) {
          await line(page, `Hello from ${name}`).waitFor();
          await online(page, 2);
        } else {
          await prints('welcome');
        }
        await say(page, `Hello to ${tab}`);
        await prints(`Hello to ${tab}`);
      });
    });
  }
});

describe('looks', () => {
  // An empty lobby, so that each picture shows the same conversation.
  beforeEach(async () => {
    await server.stop();
    server = await Server.start();
  });

  for (const [width, viewport] of Object.entries(WIDTHS)) {
    for (const colorScheme of THEMES) {
      test(`${width} px, ${colorScheme}: accessible, nothing sticks out, no complaint`, async () => {
        const page = await visit({ viewport, colorScheme, reducedMotion: 'reduce' });
        const other = await Client.open(server, { identity: { name: 'Grace' } });
        await other.subscribe(LOBBY, { presence: true });
        await online(page, 2);
        await other.publish(LOBBY, { text: 'Good morning! Is anybody here?' });
        await line(page, 'Good morning').last().waitFor();
        await shown(page, 'name-input').fill('Ada');
        await shown(page, 'name-input').press('Enter');
        await say(page, 'I am, on the start page.');
        await line(page, 'I am, on').last().waitFor();
        await page.evaluate(() => document.fonts.ready);

        if (process.env.XPUSH_SCREENSHOTS === '1') await afterACut(page, `start-${width}-${colorScheme}`);

        const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
        assert.ok(overflow <= 0, `${overflow} px stick out`);
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => globalThis.axe.run());
        const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical');
        assert.deepEqual(grave.map(({ id, nodes }) => [id, nodes.map(({ target }) => target.join(' '))]), []);
        assert.deepEqual(page.complaints, []);
        other.close();
      });
    }
  }

  /** A picture of the page after a cut, with everything recovered. */
  async function afterACut(page, name) {
    await shown(page, 'cut-switch').click();
    await shown(page, 'cut-result').waitFor({ timeout: 30_000 });
    await until(async () => (await shown(page, 'cut-switch').getAttribute('aria-checked')) === 'false', 'over');
    await until(async () => /^\d/.test(await text(page, 'latency')), 'measured');
    await page.evaluate(() => scrollTo(0, 0));
    await picture(page, name, { fullPage: true });
  }

  test('the page allows itself nothing that it does not need', async () => {
    const response = await fetch(server.url);
    const policy = response.headers.get('content-security-policy') ?? '';
    assert.match(policy, /default-src 'none'/);
    assert.doesNotMatch(policy, /unsafe-inline|unsafe-eval|\*/);
    assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
    assert.equal((await fetch(`${server.url}/assets/missing.js`)).status, 404);
    const etag = response.headers.get('etag');
    assert.ok(etag);
    assert.equal((await fetch(server.url, { headers: { 'if-none-match': etag } })).status, 304);
  });
});
