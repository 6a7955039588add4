// The page at /docs/ in a real browser: the API as the server describes it, and the texts of docs/.
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { launch, watched } from '../browser.mjs';
import { FOLDER, SHOWN, picture } from '../pictures.mjs';
import { Server } from '../server.mjs';

const AXE = readFileSync(join(import.meta.dirname, '../node_modules/axe-core/axe.min.js'), 'utf8');
const DOCS = join(import.meta.dirname, '../../docs');
const TEXTS = readdirSync(DOCS).filter((name) => name.endsWith('.md'));

let server, browser, page;
before(async () => {
  [server, browser] = await Promise.all([Server.start(), launch()]);
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, bypassCSP: false });
  context.setDefaultTimeout(20_000);
  page = await watched(context);
  await page.goto(`${server.url}/docs`);
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

const text = () => page.getByTestId('docs-text');

/** Goes by a link of the page itself; in narrow windows the list of them is folded up. */
async function read(name) {
  const fold = page.locator('.fold');
  if (await fold.isVisible()) await fold.click();
  await page.locator(`.contents a[href="#${name}"]`).click();
  // The page of before stands there until it is another's turn.
  await page.locator(`.contents a[href="#${name}"][aria-current=page]`).waitFor({ state: 'attached' });
  await page.locator('main[aria-busy=false] h1').waitFor();
}

test('every operation of the description is shown', async () => {
  const { paths } = await (await fetch(`${server.url}/api/v1/openapi.json`)).json();
  await read('reference');
  const count = Object.values(paths).flatMap((methods) => Object.keys(methods)).length;
  await page.getByTestId('operation').first().waitFor();
  assert.equal(await page.getByTestId('operation').count(), count);
  await page.locator('#publish summary').click();
  const shown = await page.locator('#publish').innerText();
  for (const words of ['Idempotency-Key', 'silent', 'API key', 'Published', '404', 'channel']) assert.ok(shown.includes(words), words);
});

test('every text is shown, and nothing in it is left as it was typed', async () => {
  const listed = await page.locator('.contents a').evaluateAll((links) => links.map((link) => link.hash.slice(1)));
  assert.deepEqual(listed.filter((name) => name !== 'reference').toSorted(), TEXTS.map((name) => name.replace('.md', '')).toSorted());
  for (const name of TEXTS) {
    await read(name.replace('.md', ''));
    const prose = await text().evaluate((main) => {
      const copy = main.cloneNode(true);
      copy.querySelectorAll('code, pre').forEach((one) => one.remove());
      return copy.textContent;
    });
    for (const leftover of [/\*\*/, /```/, /\]\(/, /^#+ /m, /\|---/]) assert.doesNotMatch(prose, leftover, name);
  }
});

test('links lead to sections, and the way back is kept', async () => {
  await read('api');
  await text().locator('a[href="#access/members"]').first().click();
  await page.locator('h2#members').waitFor();
  await page.goBack();
  await page.locator('h1#the-http-api-for-back-ends').waitFor();
});

test('what is typed in a text is text', async () => {
  await page.route('**/docs/errors.md', (route) =>
    route.fulfill({ body: '# A\n\n<img src=x onerror="window.hurt=1"> [a](javascript:window.hurt=1) <b>b</b> `<i>`\n\n| a |\n|---|\n| <script>window.hurt=1</script> |' }),
  );
  // What was read before is not asked for again.
  await page.reload();
  await read('errors');
  assert.equal(await text().locator('img, b, script, a').count(), 0);
  assert.ok((await text().innerText()).includes('<img src=x'));
  assert.equal(await page.evaluate(() => window.hurt), undefined);
  await page.unroute('**/docs/errors.md');
  await page.reload();
});

test('what is searched for is found, by the keyboard alone', async () => {
  await page.locator('main[aria-busy=false] h1').waitFor();
  await page.keyboard.press('/');
  await page.keyboard.type('offline');
  const found = page.getByTestId('found');
  await found.first().waitFor();
  assert.ok((await found.allInnerTexts()).some((one) => one.startsWith('Protocol')), await found.allInnerTexts());
  assert.ok((await found.first().locator('mark').count()) > 0);
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run());
  assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), []);
  await page.keyboard.press('ArrowDown');
  const [page_, section] = await found.nth(1).evaluate((one) => [one.querySelector('.where').firstChild.textContent, one.querySelector('.where').textContent]);
  assert.equal(await found.nth(1).getAttribute('aria-selected'), 'true');
  await page.keyboard.press('Enter');
  await page.locator(`.contents a[aria-current=page]`, { hasText: page_ }).waitFor();
  assert.ok(section.startsWith(page_));
  assert.equal(await found.count(), 0);
  await page.getByTestId('search').fill('there is nothing like zzqx');
  await page.locator('.found .nothing').waitFor();
  await page.keyboard.press('Escape');
  assert.equal(await page.getByTestId('search').inputValue(), '');
});

const WIDTHS = { 1280: 800, 375: 812 };
for (const [width, scheme] of Object.keys(WIDTHS).flatMap((width) => ['light', 'dark'].map((scheme) => [Number(width), scheme]))) {
  test(`accessible and within the window, ${width} pixels wide, ${scheme}`, async () => {
    await page.setViewportSize({ width, height: WIDTHS[width] });
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    for (const name of ['reference', 'protocol', 'admin-page', 'tutorial']) {
      await read(name);
      await page.evaluate(() => document.fonts.ready);
      await picture(page, name === 'tutorial' ? `docs-${width}-${scheme}` : `docs-${name}-${width}-${scheme}`);
      await page.evaluate(AXE);
      const { violations } = await page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes[0].html]), []);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${name} is too wide`);
    }
  });
}

test('every picture of docs/screenshots is shown by a text, and all together they weigh little', () => {
  const files = readdirSync(FOLDER);
  assert.deepEqual(files.toSorted(), SHOWN.map((name) => `${name}.webp`).toSorted());
  const texts = [join(DOCS, '../README.md'), ...TEXTS.map((name) => join(DOCS, name))].map((path) => readFileSync(path, 'utf8')).join('\n');
  for (const name of files) assert.ok(texts.includes(`screenshots/${name}`), `${name} is shown nowhere`);
  const bytes = files.map((name) => statSync(join(FOLDER, name)).size).reduce((sum, one) => sum + one, 0);
  assert.ok(bytes <= 2_500_000, `${bytes} bytes`);
});

test('the browser has nothing to complain of', () => assert.deepEqual(page.complaints, []));
