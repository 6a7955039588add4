// The view of files at /admin/ in a real browser, and the routes behind it.
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { complaints, firstOperator } from '../admin.mjs';
import { launch, watched } from '../browser.mjs';
import { download, png, upload } from '../files.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const CONFIG = `
[files]
keep_free = 0
`;
/** Taken in every channel, in the language of the configuration. */
const EVERYTHING = [{ channels: '*', size: '1MB' }, { channels: '$*' }];

let server, browser, operator, page;
before(async () => {
  [server, browser] = await Promise.all([Server.start({ config: CONFIG }), launch()]);
  operator = await firstOperator(server);
  for (const app of ['shop', 'other']) await operator.call('POST', '/apps', { app, settings: { guests: true, files: EVERYTHING } });
  const context = await browser.newContext({ viewport: { width: 1280, height: 860 }, reducedMotion: 'reduce' });
  context.setDefaultTimeout(15_000);
  await operator.enter(context);
  page = await watched(context);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Contents that the server keeps. */
function kept() {
  const count = (folder) => readdirSync(folder, { withFileTypes: true }).reduce((sum, entry) => sum + (entry.isDirectory() ? count(join(folder, entry.name)) : 1), 0);
  const folder = join(server.folder, 'data/files');
  return existsSync(folder) ? count(folder) : 0;
}

/** An API key of an app, as its back end has it. */
async function keyOf(app, scopes = ['publish', 'read']) {
  return (await operator.call('POST', `/apps/${app}/api-keys`, { name: 'files', scopes })).secret;
}

/** Uploads as the app's back end, until servers have heard of the app. */
function put(key, { channel, user, name, body, type }) {
  return until(async () => {
    const { status, body: answer } = await upload(server, { channel, token: key, user, name, body, type });
    return status === 201 ? answer.file : undefined;
  }, `uploaded: ${name}`);
}

const shown = (id) => page.getByTestId(id);
const names = async () => (await shown('file').locator('.file-name').allInnerTexts()).map((name) => name.trim());
const lists = (expected) => until(async () => JSON.stringify(await names()) === JSON.stringify(expected), `listed: ${expected}`);

let key, sky;
test('files are listed, found by what is asked for, looked at and downloaded', async () => {
  key = await keyOf('shop');
  await put(key, { channel: 'room:7', user: 'ann', name: 'notes.txt', body: 'some notes', type: 'text/plain' });
  sky = await put(key, { channel: 'room:7', user: 'bob', name: 'Sky.png', body: png(600, 300) });
  await put(key, { channel: 'chat:hello', user: 'ann', name: 'prices.pdf', body: '%PDF-1.7 prices' });
  const others = await put(await keyOf('other'), { channel: 'room:7', user: 'ann', name: 'of another app.txt', body: 'x', type: 'text/plain' });

  assert.deepEqual((await operator.call('GET', '/me')).features.includes('files'), true);
  await page.goto(`${server.url}/admin/#/apps/shop/files`);
  await lists(['prices.pdf', 'Sky.png', 'notes.txt']);
  const row = shown('file').filter({ hasText: 'Sky.png' });
  assert.match(await row.innerText(), /image\/png[^]*room:7[^]*bob/);
  const image = row.locator('img');
  await until(() => image.evaluate((image) => image.complete && image.naturalWidth === 320), 'its thumbnail is shown');

  for (const [field, value, expected] of [
    ['file-name', 'SKY', ['Sky.png']],
    ['file-channel', 'room:7', ['Sky.png', 'notes.txt']],
    ['file-user', 'ann', ['prices.pdf', 'notes.txt']],
    ['file-name', 'no such', []],
  ]) {
    await shown(field).fill(value);
    await lists(expected);
    await shown(field).fill('');
  }
  await page.getByText('No file is like that').waitFor({ state: 'detached' });
  await shown('file-type').selectOption('image');
  await lists(['Sky.png']);
  await shown('file-type').selectOption('');

  const [saved] = await Promise.all([page.waitForEvent('download'), shown('file').filter({ hasText: 'notes.txt' }).getByTestId('file-download').click()]);
  assert.equal(saved.suggestedFilename(), 'notes.txt');
  assert.equal(readFileSync(await saved.path(), 'utf8'), 'some notes');

  // What is not the app's own is not found by its name either.
  for (const path of [`files/${others.id}/content`, `files/${others.id}/thumbnail`]) {
    await assert.rejects(operator.call('GET', `/apps/shop/${path}`), /404/);
  }
});

test('pages follow each other, and nobody but an operator or the app’s admin key may ask', async () => {
  const first = await operator.call('GET', '/apps/shop/files?limit=2');
  assert.deepEqual(first.files.map(({ name }) => name), ['prices.pdf', 'Sky.png']);
  const second = await operator.call('GET', `/apps/shop/files?limit=2&after=${first.after}`);
  assert.deepEqual([second.files.map(({ name }) => name), second.after], [['notes.txt'], undefined]);
  const ask = (token, method = 'GET', path = '') => fetch(`${server.url}/api/v1/admin/apps/shop/files${path}`, { method, headers: token ? { authorization: `Bearer ${token}` } : {} });
  const others = await keyOf('other', ['admin']);
  for (const [method, path] of [['GET', ''], ['GET', `/${sky.id}/content`], ['GET', `/${sky.id}/thumbnail`], ['DELETE', `/${sky.id}`]]) {
    assert.equal((await ask(undefined, method, path)).status, 401);
    assert.equal((await ask(key, method, path)).status, 404, 'a key without the scope');
    assert.equal((await ask(others, method, path)).status, 404, 'a key of another app');
  }
  const own = await keyOf('shop', ['admin']);
  assert.equal((await ask(own)).status, 200);
  const part = await fetch(`${server.url}/api/v1/admin/apps/shop/files/${sky.id}/content`, { headers: { authorization: `Bearer ${own}`, range: 'bytes=1-3' } });
  assert.deepEqual([part.status, await part.text(), part.headers.get('cross-origin-resource-policy'), part.headers.get('x-content-type-options')], [206, 'PNG', 'same-origin', 'nosniff']);
  // By cookie nothing is deleted from another page.
  const forged = await fetch(`${server.url}/api/v1/admin/apps/shop/files/${sky.id}`, { method: 'DELETE', headers: { cookie: operator.cookie } });
  assert.equal(forged.status, 403);
});

test('one is deleted after a question, and the audit log has it', async () => {
  await page.reload();
  await lists(['prices.pdf', 'Sky.png', 'notes.txt']);
  const before = kept();
  await shown('file').filter({ hasText: 'Sky.png' }).getByTestId('file-delete').click();
  await shown('confirm').getByRole('button', { name: 'Cancel' }).click();
  await shown('confirm').waitFor({ state: 'detached' });
  await shown('file').filter({ hasText: 'Sky.png' }).getByTestId('file-delete').click();
  await shown('confirm-yes').click();
  await lists(['prices.pdf', 'notes.txt']);
  assert.equal(kept(), before - 2, 'with its thumbnail');
  assert.equal((await download(server, sky.url, { token: key })).status, 404);
  const { entries } = await operator.call('GET', '/audit?what=file.delete');
  const [{ app, by, via, target, user, before: was, outcome }] = entries;
  assert.deepEqual([app, by, via, target, user, outcome], ['shop', 'ada', 'page', `room:7 ${sky.id}`, 'bob', 'done']);
  assert.deepEqual([was.name, was.type], ['Sky.png', 'image/png']);
  await assert.rejects(operator.call('DELETE', `/apps/shop/files/${sky.id}`), /404/);
});

test('an app that is deleted takes its files along, and one of its name has none of them', async () => {
  assert.equal(kept(), 3);
  const { revision } = await operator.call('GET', '/apps/shop');
  await operator.call('DELETE', '/apps/shop', undefined, revision);
  await until(() => kept() === 1, 'only the other app’s is left');
  await operator.call('POST', '/apps', { app: 'shop', settings: { guests: true, files: EVERYTHING } });
  assert.deepEqual((await operator.call('GET', '/apps/shop/files')).files, []);
  const again = await put(await keyOf('shop'), { channel: 'room:7', user: 'ann', name: 'again.txt', body: 'again', type: 'text/plain' });
  assert.equal(again.name, 'again.txt');
});

test('the browser has nothing to complain of', () => {
  assert.deepEqual(complaints(page), []);
});
