// Every view of /admin/ at two widths, light and dark: accessible, within the window, and, with XPUSH_SCREENSHOTS=1, in pictures.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { complaints, firstOperator } from '../admin.mjs';
import { launch, watched } from '../browser.mjs';
import { Client } from '../clients.mjs';
import { upload } from '../files.mjs';
import { picture } from '../pictures.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const E2E = join(import.meta.dirname, '..');
const AXE = readFileSync(join(E2E, 'node_modules/axe-core/axe.min.js'), 'utf8');
const SIZES = { 1280: { width: 1280, height: 860 }, 375: { width: 375, height: 812 } };

/** Where each view is, and what is there when it is all there. */
const VIEWS = {
  overview: ['overview', '[data-testid=entry]'],
  servers: ['servers', '[data-testid=server]'],
  audit: ['audit', '[data-testid=entry]'],
  'new-app': ['apps/new', '[data-testid=app-name]'],
  connect: ['apps/shop/connect', '[data-testid=snippet]'],
  channels: ['apps/shop/channels', '[data-testid=channel]'],
  'channel-live': ['apps/shop/channels/chat:hello', '[data-listening=true]'],
  users: ['apps/shop/users', '[data-testid=user]'],
  user: ['apps/shop/users/ann', '[data-testid=user-name]'],
  rules: ['apps/shop/rules', '[data-testid=rule]'],
  rule: ['apps/shop/rules/0', '[data-testid=rule-channels]'],
  keys: ['apps/shop/keys', '[data-testid=api-key]'],
  hooks: ['apps/shop/hooks', '[data-testid=hook]'],
  files: ['apps/shop/files', '[data-testid=file]'],
  settings: ['apps/shop/settings', '[data-testid=version]'],
  'empty-channels': ['apps/quiet/channels', '.blank'],
  'empty-keys': ['apps/quiet/keys', '.blank'],
};

let server, browser, operator, clients;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  operator = await firstOperator(server);
  await operator.call('POST', '/apps', { app: 'quiet', settings: { guests: false } });
  const { app } = await operator.call('POST', '/apps', { app: 'shop', settings: { guests: true, origins: ['https://shop.example'], files: [{ channels: '*', keep: '30d' }] } });
  const hooks = [{ name: 'main', url: 'https://shop.invalid/xpush', secret: 'a secret of more than 24 bytes', events: ['online'], timeout: '2s', concurrency: 8 }];
  await operator.call('PATCH', '/apps/shop', { hooks }, app.revision);
  await operator.call('POST', '/apps/shop/users', { user: 'ann', name: 'Ann Lovelace', password: 'correct horse battery', roles: ['support'] });
  await operator.call('POST', '/apps/shop/users', { user: 'bob', name: 'Bob Kowalski' });
  await operator.call('PATCH', '/apps/shop/users/bob', { banned: true });
  await operator.call('POST', '/apps/shop/api-keys', { name: 'orders', scopes: ['publish', 'read'] });
  clients = await Promise.all(['Ann', 'Grace'].map((name) => until(() => Client.open(server, { identity: { app: 'shop', name } }).catch(() => undefined), 'connected to the new app')));
  await uploads();
  for (const channel of ['chat:hello', 'chat:support', 'live:prices']) await clients[0].subscribe(channel);
  await clients[1].subscribe('chat:hello');
  await clients[0].publish('chat:hello', { text: 'Good morning! Is anybody here?' });
  await clients[1].publish('chat:hello', { text: 'Yes, me.' });
});
after(async () => {
  for (const client of clients ?? []) client.close();
  await browser?.close();
  await server?.stop();
});

/** What users have sent: two pictures, and what is none. */
async function uploads() {
  const { secret } = await operator.call('POST', '/apps/shop/api-keys', { name: 'files', scopes: ['publish'] });
  const page = await browser.newPage();
  const sky = (from, to) =>
    page.evaluate(
      ([from, to]) => {
        const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 420 });
        const context = canvas.getContext('2d');
        const light = context.createLinearGradient(0, 0, 0, 420);
        light.addColorStop(0, from);
        light.addColorStop(1, to);
        context.fillStyle = light;
        context.fillRect(0, 0, 640, 420);
        context.fillStyle = 'rgb(255 255 255 / 85%)';
        context.arc(440, 150, 60, 0, 7);
        context.fill();
        return canvas.toDataURL('image/jpeg').split(',')[1];
      },
      [from, to],
    ).then((text) => Buffer.from(text, 'base64'));
  for (const [user, channel, name, type, body] of [
    ['bob', 'chat:support', 'order 4711, with a rather long name.pdf', 'application/pdf', `%PDF-1.7 ${'x'.repeat(482_113)}`],
    ['ann', 'chat:hello', 'notes.txt', 'text/plain', 'Call Grace back.'],
    ['grace', 'chat:hello', 'evening.jpg', 'image/jpeg', await sky('#33307a', '#f28c5a')],
    ['ann', 'chat:hello', 'morning.jpg', 'image/jpeg', await sky('#7cc6f5', '#fdf0d0')],
  ]) {
    await until(async () => (await upload(server, { channel, token: secret, user, name, type, body })).status === 201, `uploaded: ${name}`);
  }
  await page.close();
}

async function look(page, name) {
  await page.evaluate(() => document.fonts.ready);
  await picture(page, `admin-${name}`);
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `${name}: ${overflow} px stick out`);
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], name);
}

for (const [width, viewport] of Object.entries(SIZES)) {
  for (const colorScheme of ['light', 'dark']) {
    test(`${width} px, ${colorScheme}`, async () => {
      const context = await browser.newContext({ viewport, colorScheme, reducedMotion: 'reduce' });
      context.setDefaultTimeout(15_000);
      const page = await watched(context);
      await page.goto(`${server.url}/admin/`);
      await page.getByTestId('sign-in').waitFor();
      await look(page, `sign-in-${width}-${colorScheme}`);
      await page.goto(`${server.url}/admin/?setup#a-token`);
      await page.getByTestId('setup-used').waitFor();
      await look(page, `set-up-used-${width}-${colorScheme}`);
      await page.route('**/api/v1/admin/setup', (route) => route.fulfill({ json: { needed: true } }));
      await page.reload();
      await page.getByTestId('setup').waitFor();
      await look(page, `set-up-${width}-${colorScheme}`);
      await page.unroute('**/api/v1/admin/setup');

      await operator.enter(context);
      await page.goto(`${server.url}/admin/`);
      await page.locator('#content h1').waitFor();
      for (const [name, [place, there]] of Object.entries(VIEWS)) {
        await page.evaluate((hash) => (location.hash = hash), `#/${place}`);
        await page.locator(there).first().waitFor();
        await page.locator('.skeleton').first().waitFor({ state: 'detached' });
        if (name === 'channel-live') {
          await clients[1].publish('chat:hello', { text: `Written at ${width} px, ${colorScheme}` });
          await page.getByTestId('tail-line').last().waitFor();
        }
        await look(page, `${name}-${width}-${colorScheme}`);
      }

      // The tester, what is not saved, and the palette.
      await page.evaluate(() => (location.hash = '#/apps/shop/rules'));
      await page.getByTestId('tester-channel').fill('chat:hello');
      await page.getByText(/Rule \d+,/).waitFor();
      await page.getByTestId('rule-add').click();
      await page.getByTestId('save-bar').waitFor();
      await look(page, `unsaved-${width}-${colorScheme}`);
      await page.getByTestId('discard').click();
      await page.keyboard.press('Control+k');
      await page.getByTestId('palette-input').fill('rul');
      await look(page, `palette-${width}-${colorScheme}`);
      await page.keyboard.press('Escape');
      assert.deepEqual(complaints(page), []);
      await context.close();
    });
  }
}
