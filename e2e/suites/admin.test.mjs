// The page at /admin/ in a real browser, from the first set-up on: each test goes on where the one before has ended.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { PASSWORD, complaints, firstOperator, setUpToken } from '../admin.mjs';
import { launch, watched } from '../browser.mjs';
import { Client } from '../clients.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const E2E = join(import.meta.dirname, '..');
const APP = 'shop';

let server, browser, folder, page;
const programs = [];
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  folder = mkdtempSync(join(tmpdir(), 'xpush-admin-'));
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(join(E2E, 'node_modules/sio4'), join(folder, 'node_modules/socket.io-client'));
  page = await visitor();
});
after(async () => {
  for (const program of programs) program.kill('SIGKILL');
  await browser?.close();
  await server?.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** A browser of its own. */
async function visitor() {
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, permissions: ['clipboard-read', 'clipboard-write'], reducedMotion: 'reduce' });
  context.setDefaultTimeout(15_000);
  return watched(context);
}

const shown = (id, on = page) => on.getByTestId(id);

async function show(place, on = page) {
  await on.goto(`${server.url}/admin/#/${place}`);
  await on.locator('#content h1').waitFor();
}

async function signIn(on, password = PASSWORD, at = server) {
  await on.goto(`${at.url}/admin/`);
  await shown('sign-in-user', on).fill('ada');
  await shown('sign-in-password', on).fill(password);
  await shown('sign-in', on).click();
}

test('the link that the server printed makes the first operator, once', async () => {
  const token = await setUpToken(server);
  await page.goto(`${server.url}/setup#${token}`);
  await shown('setup-user').fill('ada');
  await shown('setup-name').fill('Ada Admin');
  await shown('setup-password').fill('short');
  assert.equal(await shown('setup').isDisabled(), true);
  await shown('setup-password').fill(PASSWORD);
  await shown('setup').click();
  await page.getByRole('heading', { name: 'New app' }).waitFor();
  assert.ok(!page.url().includes(token), 'the link is not kept in the address');

  const other = await visitor();
  await other.goto(`${server.url}/setup#${token}`);
  await shown('setup-used', other).click();
  await shown('sign-in', other).waitFor();
  await other.context().close();
});

test('an app is made; its key is shown once', async () => {
  await shown('app-name').fill(APP);
  await shown('app-create').click();
  await shown('app-secret').waitFor();
  assert.ok((await shown('app-secret').innerText()).length >= 32);
  await shown('go-connect').click();
  await page.getByRole('heading', { name: APP, exact: true }).waitFor();
  await page.reload();
  await page.getByRole('heading', { name: APP, exact: true }).waitFor();
  assert.equal(await shown('app-secret').count(), 0);
});

test('a rule is written, tried before it is saved, and saved', async () => {
  await show(`apps/${APP}/rules`);
  await shown('tester-channel').fill('board:1');
  await until(async () => (await shown('tester-verdict').innerText()).includes('cannot be used'), 'refused by the rules of before');
  await shown('rule-add').click();
  await shown('rule-channels').fill('board:*');
  await until(async () => /Rule 1, board:\*/.test(await shown('tester-verdict').innerText()), 'covered by the draft');
  assert.match(await shown('tester-verdict').innerText(), /publish\s+(anyone|everybody)/i);
  await shown('who-publish').getByRole('button', { name: 'Anyone' }).click();
  await shown('who-publish').getByRole('button', { name: 'Server' }).click();
  await until(async () => /publish\s+[^\n]*(server|back end)/i.test(await shown('tester-verdict').innerText()), 'written by the server only');
  await shown('who-publish').getByRole('button', { name: 'Server' }).click();
  await shown('who-publish').getByRole('button', { name: 'Anyone' }).click();
  await shown('save').click();
  await shown('save-bar').waitFor({ state: 'detached' });
  await page.reload();
  await until(async () => (await shown('rule').first().innerText()).includes('board:*'), 'there after a reload');

  // What it says holds, without a restart.
  await until(async () => {
    const client = await Client.open(server, { identity: { app: APP } });
    return client.publish('board:1', 1).then(() => true, () => false).finally(() => client.close());
  }, 'usable by a client');
});

test('what the server refuses is shown where it is, and nothing is lost', async () => {
  await show(`apps/${APP}/rules/0`);
  await shown('rule-channels').fill('board:?');
  await shown('save').click();
  await shown('save-failure').waitFor();
  assert.equal(await shown('rule-channels').inputValue(), 'board:?');
  await shown('discard').click();
  await shown('save-bar').waitFor({ state: 'detached' });
  assert.equal(await shown('rule-channels').inputValue(), 'board:*');
});

test('the snippet is a client, and the live tail shows what it says', async () => {
  await show(`apps/${APP}/connect`);
  await shown('snippet-copy').nth(1).click();
  const snippet = await until(() => page.evaluate(() => navigator.clipboard.readText()), 'in the clipboard');
  const channel = /const channel = "(.+)"/.exec(snippet)[1];

  await show(`apps/${APP}/channels/${encodeURIComponent(channel)}`);
  await until(async () => (await shown('tail-state').getAttribute('data-listening')) === 'true', 'listening');
  writeFileSync(join(folder, 'client.mjs'), snippet);
  programs.push(spawn(process.execPath, ['client.mjs'], { cwd: folder, stdio: 'ignore' }));
  await shown('tail-line').filter({ hasText: 'Hello from my client' }).waitFor();
  await until(async () => (await shown('channel').allInnerTexts()).some((words) => words.includes(channel)), 'among the channels that are followed');

  await shown('publish-data').fill('{"text": "Hello from the operator"}');
  await shown('publish').click();
  await shown('tail-line').filter({ hasText: 'Hello from the operator' }).waitFor();
  assert.equal(await shown('tail-line').count(), 2, 'each message once');

  await shown('tab-history').click();
  const line = shown('message').filter({ hasText: 'Hello from the operator' });
  await line.getByRole('button').click();
  await shown('menu-delete').click();
  await line.waitFor({ state: 'detached' });
  await shown('message').filter({ hasText: 'deleted' }).waitFor();
});

test('an API key is made, shown once, used, and revoked', async () => {
  await show(`apps/${APP}/keys`);
  await shown('api-key-new').click();
  await shown('api-key-name').fill('orders');
  await shown('api-key-make').click();
  const key = (await shown('secret-text').innerText()).trim();
  const publish = () =>
    fetch(`${server.url}/api/v1/messages`, { method: 'POST', headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' }, body: '{"channel": "board:1", "data": 2}' });
  assert.equal((await publish()).status, 200);
  await page.getByRole('button', { name: 'I have it' }).click();
  assert.ok(!(await page.content()).includes(key));
  await shown('api-key').filter({ hasText: 'orders' }).getByRole('button').click();
  await shown('menu-revoke').click();
  await shown('confirm-yes').click();
  await shown('api-key').filter({ hasText: 'revoked' }).waitFor();
  await until(async () => (await publish()).status === 401, 'revoked');
});

test('a user is made, renamed, banned', async () => {
  await show(`apps/${APP}/users`);
  await shown('user-new').click();
  await shown('user-id').fill('bob');
  await shown('user-make').click();
  await shown('user-name').fill('Bob');
  await shown('user-save').click();
  await until(async () => (await shown('user').allInnerTexts()).some((words) => words.includes('Bob')), 'renamed');
  await shown('user-banned').click();
  await shown('user').filter({ hasText: 'banned' }).waitFor();
  await page.reload();
  await until(async () => (await shown('user-banned').getAttribute('aria-checked')) === 'true', 'banned after a reload');
});

test('the audit log tells what was done', async () => {
  await show('audit');
  await shown('entry').first().waitFor();
  const done = await shown('entry').evaluateAll((entries) => entries.map((entry) => entry.dataset.what));
  for (const what of ['set_up', 'app.create', 'api_key.create', 'api_key.revoke', 'message.publish', 'message.delete', 'channel.tail', 'user.create', 'user.ban']) {
    assert.ok(done.includes(what), `${what} among ${done}`);
  }
  assert.ok(done.includes('rules.change') || done.includes('app.change'), `the rule among ${done}`);
  assert.ok((await shown('entry').first().innerText()).includes('ada'));
});

test('two operators change the same rule: the second is told, and nothing is lost', async () => {
  const other = await visitor();
  await signIn(other);
  await other.locator('#content h1').waitFor();
  for (const on of [page, other]) {
    await show(`apps/${APP}/rules/0`, on);
    await shown('rule-channels', on).waitFor();
  }
  const presence = (on) => shown('rule-presence', on);
  const moderators = (on) => shown('who-moderate', on).getByRole('button', { name: 'Users' });

  // The first one takes presence away.
  await presence(page).click();
  await shown('save').click();
  await shown('save-bar').waitFor({ state: 'detached' });

  // The second one, who has not seen that, lets users moderate, and keeps both.
  await moderators(other).click();
  await shown('save', other).click();
  await shown('conflict', other).waitFor();
  const told = await shown('conflict', other).innerText();
  assert.match(told, /board:\*: presence/);
  assert.match(told, /board:\*: moderate/);
  await shown('keep-mine', other).click();
  await shown('save-bar', other).waitFor({ state: 'detached' });
  assert.equal(await presence(other).getAttribute('aria-checked'), 'false', 'what the first one has done');
  assert.equal(await moderators(other).getAttribute('aria-pressed'), 'true', 'what the second one has done');

  // Now the first one is behind, and takes what the second one has done.
  await presence(page).click();
  await shown('save').click();
  await shown('take-theirs').click();
  await shown('save-bar').waitFor({ state: 'detached' });
  assert.equal(await presence(page).getAttribute('aria-checked'), 'false');
  assert.equal(await moderators(page).getAttribute('aria-pressed'), 'true');
  assert.deepEqual(complaints(other).filter((one) => !one.includes('409')), []);
  await other.context().close();
});

test('whoever leaves with unsaved changes is asked', async () => {
  await show(`apps/${APP}/settings`);
  await shown('guests').click();
  await show('overview');
  await shown('save-bar').waitFor();
  const asked = page.waitForEvent('dialog');
  const leaving = page.evaluate(() => void setTimeout(() => location.reload()));
  const dialog = await asked;
  assert.equal(dialog.type(), 'beforeunload');
  await dialog.dismiss();
  await leaving;
  await shown('discard').click();
  await shown('save-bar').waitFor({ state: 'detached' });
});

test('by keyboard alone', async () => {
  const keys = await visitor();
  await keys.goto(`${server.url}/admin/`);
  const press = async (...names) => {
    for (const name of names) await keys.keyboard.press(name);
  };
  const focused = () => keys.evaluate(() => document.activeElement?.getAttribute('data-testid') ?? document.activeElement?.getAttribute('aria-label') ?? document.activeElement?.textContent);

  await until(async () => (await focused()) === 'sign-in-user', 'in the first field');
  await keys.keyboard.type('ada');
  await press('Tab');
  await keys.keyboard.type(PASSWORD);
  await press('Enter');
  await keys.locator('#content h1').waitFor();

  await press('Control+k');
  await shown('palette', keys).waitFor();
  await keys.keyboard.type(`rules ${APP}`);
  await keys.getByRole('option').filter({ hasText: 'Rules' }).waitFor();
  await press('Enter');
  await keys.getByRole('heading', { name: 'Rules', exact: true }).waitFor();
  await shown('rule', keys).first().waitFor();

  const names = () => shown('rule', keys).locator('code').allInnerTexts();
  const [first, second, ...rest] = await names();
  await until(async () => {
    await press('Tab');
    return (await focused())?.startsWith(`Move ${first}`);
  }, 'on the first grip');
  await press('ArrowDown');
  await until(async () => (await names())[0] === second, 'moved down');
  await until(async () => (await focused())?.startsWith(`Move ${first}, 2`), 'still on it');
  await press('ArrowUp');
  await until(async () => (await names())[0] === first, 'moved up again');
  assert.deepEqual(await names(), [first, second, ...rest]);
  await shown('save-bar', keys).waitFor({ state: 'detached' });

  // What has the focus shows it.
  const outline = await keys.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
  assert.equal(outline, 'solid');

  await keys.getByTestId('app-menu').focus();
  await press('ArrowDown');
  await keys.getByRole('menu').waitFor();
  await press('End', 'Enter');
  await keys.getByRole('heading', { name: 'New app' }).waitFor();
  assert.deepEqual(complaints(keys), []);
  await keys.context().close();
});

test('who does not know the password stays outside, and so does who has signed out', async () => {
  const other = await visitor();
  await signIn(other, 'wrong wrong wrong');
  await shown('entrance-failure', other).waitFor();
  await signIn(other);
  await other.locator('#content h1').waitFor();
  await shown('operator-menu', other).click();
  await shown('menu-sign-out', other).click();
  await shown('sign-in', other).waitFor();
  await other.reload();
  await shown('sign-in', other).waitFor();
  await other.context().close();
});

test('two servers on one host, each on a port of its own, keep their sign-ins apart', async (t) => {
  const second = await Server.start();
  t.after(() => second.stop());
  await firstOperator(second);
  const here = await visitor();
  const there = await watched(here.context());
  await signIn(here);
  await here.locator('#content h1').waitFor();
  await signIn(there, PASSWORD, second);
  await there.locator('#content h1').waitFor();
  for (const one of [here, there]) {
    await one.reload();
    await one.locator('#content h1').waitFor();
  }
  await shown('operator-menu', there).click();
  await shown('menu-sign-out', there).click();
  await shown('sign-in', there).waitFor();
  await here.reload();
  await here.locator('#content h1').waitFor();
  await here.context().close();
});

test('who guesses is told how long to wait', async () => {
  const other = await visitor();
  await other.goto(`${server.url}/admin/`);
  await shown('sign-in-user', other).fill('mallory');
  await until(async () => {
    await shown('sign-in-password', other).fill('a guess of some length');
    await shown('sign-in', other).click();
    await until(async () => (await shown('sign-in', other).getAttribute('aria-busy')) !== 'true', 'answered');
    return /Try again in \d+ s/.test(await shown('entrance-failure', other).innerText());
  }, 'told to wait');
  await other.context().close();
});

test('a password is changed by who knows the one before, and every other sign-in ends', async () => {
  const [here, there] = [await visitor(), await visitor()];
  for (const one of [here, there]) {
    await signIn(one);
    await one.locator('#content h1').waitFor();
  }
  const change = async (current, next) => {
    await shown('password-current', here).fill(current);
    await shown('password-new', here).fill(next);
    await here.getByRole('button', { name: 'Change it' }).click();
  };
  await shown('operator-menu', here).click();
  await shown('menu-password', here).click();
  await change('wrong wrong wrong', 'another horse, another battery');
  await here.getByRole('dialog').getByRole('alert').getByText(/./).first().waitFor();
  assert.equal(await shown('sign-in', here).count(), 0, 'a wrong password is no end');
  await change(PASSWORD, 'another horse, another battery');
  await here.getByRole('dialog').waitFor({ state: 'detached' });
  await here.reload();
  await here.locator('#content h1').waitFor();
  await there.reload();
  await shown('sign-in', there).waitFor();
  await signIn(there);
  await shown('entrance-failure', there).waitFor();
  // As it was.
  await shown('operator-menu', here).click();
  await shown('menu-password', here).click();
  await change('another horse, another battery', PASSWORD);
  await here.getByRole('dialog').waitFor({ state: 'detached' });
  for (const one of [here, there]) await one.context().close();
  // This window's sign-in has ended, too.
  await signIn(page);
  await page.locator('#content h1').waitFor();
});

test('who goes to another view hears of it, and what was begun is there after another sign-in', async () => {
  const other = await visitor();
  await signIn(other);
  await show('audit', other);
  await other.locator('nav a', { hasText: 'Servers' }).press('Enter');
  await other.getByRole('heading', { name: 'Servers' }).waitFor();
  await until(() => other.evaluate(() => document.activeElement?.tagName === 'H1' && document.activeElement.textContent), 'on the heading');
  await show(`apps/${APP}/rules`, other);
  await shown('rule-add', other).click();
  await shown('save-bar', other).waitFor();
  await other.context().clearCookies();
  await other.evaluate(() => (location.hash = '#/audit'));
  await shown('sign-in', other).waitFor();
  await shown('sign-in-user', other).fill('ada');
  await shown('sign-in-password', other).fill(PASSWORD);
  await shown('sign-in', other).click();
  await shown('save-bar', other).waitFor();
  await other.context().close();
});

test('a server that does not answer is said so, and it can be tried again', async () => {
  await page.route('**/api/v1/admin/apps/*/api-keys', (route) => route.abort());
  await show(`apps/${APP}/keys`);
  await page.getByText('API keys could not be loaded').waitFor();
  await page.unroute('**/api/v1/admin/apps/*/api-keys');
  await page.getByRole('button', { name: 'Try again' }).click();
  await shown('api-key').first().waitFor();
  page.complaints = page.complaints.filter((one) => !one.includes('ERR_FAILED'));
});

test('the browser has nothing to complain of', () => {
  assert.deepEqual(complaints(page).filter((one) => !/409|400/.test(one)), []);
});
