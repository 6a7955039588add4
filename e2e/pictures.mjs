// Pictures of pages, with XPUSH_SCREENSHOTS=1: of every view in target/screenshots, to be looked at, and those that texts show in docs/screenshots.
//
// Those are WebP without loss: about half a PNG, and every browser and GitHub show them. Chromium makes it, so nothing else is needed.
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '..');
const LOOKED_AT = join(ROOT, 'target/screenshots');

/** Where those are that texts show. */
export const FOLDER = join(ROOT, 'docs/screenshots');

/** What README.md and docs/ show. */
export const SHOWN = [
  ...['start', 'docs', 'admin-unsaved'].flatMap((view) => [`${view}-1280-light`, `${view}-1280-dark`]),
  ...['admin-overview', 'admin-connect', 'admin-channel-live', 'admin-users', 'admin-audit'].map((view) => `${view}-1280-light`),
  'admin-overview-375-light',
  'admin-rule-375-dark',
];

/** Takes one, if pictures are wanted. */
export async function picture(page, name, options = {}) {
  if (process.env.XPUSH_SCREENSHOTS !== '1') return;
  mkdirSync(LOOKED_AT, { recursive: true });
  const png = await page.screenshot({ ...options, path: join(LOOKED_AT, `${name}.png`) });
  if (SHOWN.includes(name)) writeFileSync(join(FOLDER, `${name}.webp`), await webp(page.context().browser(), png));
}

async function webp(browser, png) {
  const page = await browser.newPage();
  const text = await page.evaluate(async (text) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${text}`)).blob());
    const canvas = Object.assign(document.createElement('canvas'), { width: image.width, height: image.height });
    canvas.getContext('2d').drawImage(image, 0, 0);
    // 1 is without loss.
    return canvas.toDataURL('image/webp', 1).split(',')[1];
  }, png.toString('base64'));
  await page.close();
  return Buffer.from(text, 'base64');
}
