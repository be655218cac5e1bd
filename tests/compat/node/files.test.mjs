// Files, uploads and batches.

import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { client, collect, eventually, pattern } from './kit.mjs';

const MIB = 2 ** 20;
const folder = mkdtempSync(join(tmpdir(), 'compat-'));
after(() => rmSync(folder, { recursive: true }));

test('a file comes back as it was', async () => {
  const { files } = client();
  const data = pattern(4096);
  const made = await files.create({ file: await toFile(data, 'dätei.bin'), purpose: 'user_data' });
  assert.deepEqual([made.bytes, made.filename], [4096, 'dätei.bin']);
  assert.deepEqual(await files.retrieve(made.id), made);
  assert.equal((await files.waitForProcessing(made.id)).status, 'processed');
  const content = await files.content(made.id);
  assert.ok(Buffer.from(await content.arrayBuffer()).equals(data));
  const part = await files.content(made.id, { headers: { range: 'bytes=100-199' } });
  assert.deepEqual([part.status, part.headers.get('content-range')], [206, 'bytes 100-199/4096']);
  assert.ok(Buffer.from(await part.arrayBuffer()).equals(data.subarray(100, 200)));
  assert.equal((await files.delete(made.id)).deleted, true);
  await assert.rejects(files.retrieve(made.id), OpenAI.NotFoundError);
});

test('a large file goes up as a stream and comes down as one', async () => {
  const { files } = client();
  const path = join(folder, 'large');
  const data = pattern(32 * MIB);
  writeFileSync(path, data);
  const made = await files.create({ file: createReadStream(path), purpose: 'user_data' });
  assert.equal(made.bytes, 32 * MIB);
  const hash = createHash('sha256');
  for await (const piece of (await files.content(made.id)).body) hash.update(piece);
  assert.equal(hash.digest('hex'), createHash('sha256').update(data).digest('hex'));
});

test('files are listed in pages', async () => {
  const { files } = client();
  const made = [];
  for (let number = 0; number < 5; number += 1) {
    made.push((await files.create({ file: await toFile(Buffer.from('x'), `${number}`), purpose: 'vision' })).id);
  }
  const first = await files.list({ limit: 2, purpose: 'vision' });
  assert.deepEqual(first.data.map((file) => file.id), made.slice(3).reverse());
  const second = await first.getNextPage();
  assert.deepEqual(second.data.map((file) => file.id), made.slice(1, 3).reverse());
  const all = await collect(files.list({ limit: 2, purpose: 'vision' }));
  assert.deepEqual(all.slice(0, 5).map((file) => file.id), made.reverse());
});

test('uploads are put together or cancelled', async () => {
  const { uploads, files } = client();
  const about = { filename: 'a.txt', mime_type: 'text/plain', purpose: 'batch' };
  const upload = await uploads.create({ bytes: 6, ...about });
  const parts = [];
  for (const text of ['123', '456']) {
    parts.push((await uploads.parts.create(upload.id, { data: await toFile(Buffer.from(text), 'part') })).id);
  }
  const done = await uploads.complete(upload.id, { part_ids: parts });
  assert.equal(done.status, 'completed');
  assert.equal(await (await files.content(done.file.id)).text(), '123456');
  const other = await uploads.create({ bytes: 6, ...about });
  assert.equal((await uploads.cancel(other.id)).status, 'cancelled');
});

function line(id, model = 'gpt-4o-mini+tokens=7') {
  const body = { model, messages: [{ role: 'user', content: id }] };
  return JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body });
}

async function started(openai, lines) {
  const file = await openai.files.create({ file: await toFile(Buffer.from(lines.join('\n')), 'in'), purpose: 'batch' });
  return openai.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
}

const ended = (openai, batch) =>
  eventually(async () => {
    const now = await openai.batches.retrieve(batch.id);
    return ['completed', 'failed', 'cancelled'].includes(now.status) && now;
  });

test('a batch runs', async () => {
  const openai = client();
  const done = await ended(openai, await started(openai, [line('one'), line('two')]));
  assert.deepEqual([done.status, done.request_counts.completed], ['completed', 2]);
  const rows = (await (await openai.files.content(done.output_file_id)).text()).trim().split('\n').map(JSON.parse);
  assert.deepEqual(rows.map((row) => row.custom_id), ['one', 'two']);
  assert.ok((await collect(openai.batches.list({ limit: 2 }))).some((one) => one.id === done.id));
});

test('a batch is cancelled', async () => {
  const openai = client();
  const lines = Array.from({ length: 200 }, (_, number) => line(`${number}`, 'gpt-4o+tokens=3+delay=20ms'));
  const batch = await started(openai, lines);
  assert.equal((await openai.batches.cancel(batch.id)).status, 'cancelling');
  assert.equal((await ended(openai, batch)).status, 'cancelled');
});
