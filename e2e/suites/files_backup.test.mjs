// Files in backups: copied while the server runs, checked, gone on with when that was cut short, and back in another folder.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { freshChannel } from '../clients.mjs';
import { download, png, upload } from '../files.mjs';
import { S3 } from '../s3.mjs';
import { Server } from '../server.mjs';
import { until } from '../wait.mjs';

const RULES = `
[files]
keep_free = 0
[apps.demo]
guests = true
[[apps.demo.rules]]
channels = "*"
[[apps.demo.files]]
channels = "*"
`;

let folder, server, s3;
before(() => (folder = mkdtempSync(join(tmpdir(), 'xpush-backups-'))));
after(async () => {
  await s3?.stop();
  rmSync(folder, { recursive: true, force: true });
});
afterEach(() => server?.stop());

const at = (name) => join(folder, name);

/** Every file below a folder, by its path in it. */
function all(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name)).sort();
}

/** A server with some files: their records, and what is in them. */
async function stocked(config = RULES) {
  server = await Server.start({ config });
  const token = /xk_demo\.[\w.-]+/.exec(await server.command('app', 'key', 'create', 'demo', '--scope', 'admin'))[0];
  const channel = freshChannel();
  const files = [];
  for (const [name, body] of [['a.bin', randomBytes(700_000)], ['b.txt', Buffer.from('some notes')], ['c.png', png(600, 300)]]) {
    files.push(
      await until(async () => {
        const { status, body: answer } = await upload(server, { channel, token, user: 'ann', name, body });
        return status === 201 ? answer.file : undefined;
      }, `uploaded: ${name}`),
    );
  }
  const contents = () => Promise.all(files.map(({ url }) => download(server, url, { token }).then(({ status, bytes }) => (status === 200 ? bytes.toString('base64') : status))));
  return { token, files, contents };
}

test('a backup has every file, whole, and another folder has them again', async () => {
  const { token, files, contents } = await stocked();
  const before = await contents();
  const said = await server.command('backup', at('one.db'));
  assert.match(said, /3 files \(\d+ bytes\) are in .*one\.db\.files, 3 of them new there/);
  assert.equal(all(at('one.db.files')).length, 4, 'three files and a thumbnail');
  assert.equal(statSync(at('one.db.files')).mode & 0o077, 0, 'nobody else may look into it');

  // One folder for all backups has what is new added to it.
  await server.command('backup', '--files', at('one.db.files'), at('two.db'));
  await download(server, files[1].url, { token, method: 'DELETE' });
  assert.match(await server.command('backup', '--files', at('one.db.files'), at('three.db')), /2 files .* 0 of them new there/);

  await server.end();
  await assert.rejects(server.command('restore', at('one.db')), /--replace/);
  rmSync(join(server.folder, 'data'), { recursive: true });
  assert.match(await server.command('restore', at('one.db')), /3 files \(\d+ bytes\) are back, 3 of them were not there/);
  await server.launch();
  assert.deepEqual(await contents(), before, 'the deleted one, too');
  const thumbnail = await download(server, files[2].thumbnail.url, { token });
  assert.equal(thumbnail.status, 200);
});

test('what is newer than a backup goes, with its contents, when the backup replaces it', async () => {
  const { token, files, contents } = await stocked();
  const before = await contents();
  await server.command('backup', at('older.db'));
  const kept = all(join(server.folder, 'data/files'));
  const { body } = await upload(server, { channel: freshChannel(), token, user: 'ann', name: 'd.png', body: png(400, 400) });
  assert.equal(all(join(server.folder, 'data/files')).length, kept.length + 2, 'an image and its thumbnail');
  await server.end();
  assert.match(await server.command('restore', '--replace', at('older.db')), /3 files \(\d+ bytes\) are back, 0 of them were not there\n1 files that it does not know are removed/);
  assert.deepEqual(all(join(server.folder, 'data/files')), kept);
  await server.launch();
  assert.deepEqual(await contents(), before);
  assert.equal((await download(server, body.file.url, { token })).status, 404);
  assert.equal(files.length, 3);
});

test('a restoration that is refused leaves the folder as it was', async () => {
  const { token, files, contents } = await stocked();
  await server.command('backup', at('refused.db'));
  for (const file of files.slice(1)) await download(server, file.url, { token, method: 'DELETE' });
  const before = await contents();
  const kept = all(join(server.folder, 'data/files'));
  truncateSync(all(at('refused.db.files')).find((path) => path.endsWith(files[2].id)), 10);
  await server.end();
  await assert.rejects(server.command('restore', '--replace', at('refused.db')), /damaged: 1/);
  assert.deepEqual(all(join(server.folder, 'data/files')), kept, 'what was deleted is not back');
  await server.launch();
  assert.deepEqual(await contents(), before);
});

test('what was cut short goes on, and what is damaged is found', async () => {
  const { files, contents } = await stocked();
  const before = await contents();
  await server.command('backup', at('cut.db'));
  const kept = all(at('cut.db.files'));
  const [first] = files;
  const content = kept.find((path) => path.endsWith(first.id));
  // As a machine that stops leaves it, and as a disk that forgets.
  unlinkSync(kept.find((path) => path.endsWith(`${files[2].id}.thumbnail`)));
  truncateSync(content, 1_000);
  assert.match(await server.command('backup', '--resume', at('cut.db')), /3 files .* 2 of them new there/);
  assert.match(await server.command('backup', '--resume', at('cut.db')), /3 files .* 0 of them new there/);
  const bytes = readFileSync(content);
  bytes[5] ^= 1;
  writeFileSync(content, bytes);
  await server.end();
  rmSync(join(server.folder, 'data'), { recursive: true });
  await assert.rejects(server.command('restore', at('cut.db')), new RegExp(`files without contents: 0; damaged: 1; such as ${first.id} .*Nothing was restored`));
  unlinkSync(content);
  await assert.rejects(server.command('restore', at('cut.db')), /files without contents: 1; damaged: 0/);
  await assert.rejects(server.command('restore', '--files', at('nowhere'), at('cut.db')), /nowhere is not there/);
  await server.command('restore', '--incomplete', at('cut.db'));
  await server.launch();
  assert.deepEqual((await contents()).slice(1), before.slice(1));
  assert.equal((await contents())[0], 404);
});

test('what is missing at the server itself is said', async () => {
  const { files } = await stocked();
  unlinkSync(all(join(server.folder, 'data/files')).find((path) => path.endsWith(files[0].id)));
  await assert.rejects(server.command('backup', at('lost.db')), new RegExp(`files without contents: 1; damaged: 0; such as ${files[0].id}`));
  assert.match(await server.command('backup', '--without-files', at('records.db')), /records\.db\n$/);
});

test('files in a bucket stay there, and a restoration looks whether they do', async () => {
  s3 = await S3.start();
  const { files, contents, token } = await stocked(s3.config + RULES);
  const before = await contents();
  assert.match(await server.command('backup', at('s3.db')), /3 files \(\d+ bytes\) stay in the bucket/);
  await server.end();
  rmSync(join(server.folder, 'data'), { recursive: true });
  assert.match(await server.command('restore', at('s3.db')), /3 files \(\d+ bytes\) are in the bucket/);
  await server.launch();
  assert.deepEqual(await contents(), before);
  await download(server, files[0].url, { token, method: 'DELETE' });
  await server.end();
  await assert.rejects(server.command('restore', '--replace', at('s3.db')), /files without contents: 1/);
});
