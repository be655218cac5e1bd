// Vector stores and fine-tuning.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { client, collect, eventually, HELLO, inTime } from './kit.mjs';

const OSLO = Buffer.from('Oslo is the capital of Norway and lies on a fjord.');
const ROME = Buffer.from('Rome is the capital of Italy and has seven hills.');
const FAST = { pollIntervalMs: 10 };
const upload = async (openai, data, purpose = 'assistants') =>
  (await openai.files.create({ file: await toFile(data, 'a.txt'), purpose })).id;

test('vector stores are kept', async () => {
  const { vectorStores } = client();
  const store = await vectorStores.create({ name: 'Kept', metadata: { a: 'b' } });
  assert.equal((await vectorStores.retrieve(store.id)).metadata.a, 'b');
  assert.equal((await vectorStores.update(store.id, { name: 'New' })).name, 'New');
  assert.ok((await collect(vectorStores.list())).some((one) => one.id === store.id));
  assert.equal((await vectorStores.delete(store.id)).deleted, true);
  await assert.rejects(vectorStores.retrieve(store.id), OpenAI.NotFoundError);
});

test('files are added, read, searched and removed', async () => {
  const openai = client();
  const { files } = openai.vectorStores;
  const store = await openai.vectorStores.create({ name: 'Cities' });
  const oslo = await upload(openai, OSLO);
  await files.create(store.id, { file_id: oslo });
  assert.equal((await files.poll(store.id, oslo, FAST)).status, 'completed');
  const rome = await files.uploadAndPoll(store.id, await toFile(ROME, 'rome.txt'), FAST);
  assert.equal(rome.usage_bytes, ROME.length);
  assert.equal((await files.retrieve(rome.id, { vector_store_id: store.id })).id, rome.id);
  assert.deepEqual((await collect(files.list(store.id, { limit: 1 }))).map((file) => file.id), [rome.id, oslo]);
  const another = await files.createAndPoll(store.id, { file_id: await upload(openai, OSLO) }, FAST);
  await files.delete(another.id, { vector_store_id: store.id });
  const changed = await files.update(rome.id, { vector_store_id: store.id, attributes: { country: 'it' } });
  assert.deepEqual(changed.attributes, { country: 'it' });
  assert.equal((await collect(files.content(oslo, { vector_store_id: store.id })))[0].text, OSLO.toString());
  const found = await collect(openai.vectorStores.search(store.id, { query: 'the seven hills', max_num_results: 1 }));
  assert.deepEqual(found.map((row) => row.file_id), [rome.id]);
  assert.equal((await files.delete(oslo, { vector_store_id: store.id })).deleted, true);
});

test('files are added in batches', async () => {
  const openai = client();
  const { fileBatches } = openai.vectorStores;
  const store = await openai.vectorStores.create({ name: 'Batches' });
  const ids = [await upload(openai, OSLO), await upload(openai, ROME)];
  const made = await fileBatches.create(store.id, { file_ids: ids });
  assert.equal((await fileBatches.poll(store.id, made.id, FAST)).file_counts.completed, 2);
  assert.equal((await fileBatches.retrieve(made.id, { vector_store_id: store.id })).status, 'completed');
  const listed = await collect(fileBatches.listFiles(made.id, { vector_store_id: store.id }));
  assert.deepEqual(listed.map((file) => file.id).sort(), ids.sort());
  const both = await fileBatches.uploadAndPoll(store.id, { files: [await toFile(OSLO, 'o'), await toFile(ROME, 'r')] }, FAST);
  assert.equal(both.file_counts.completed, 2);
  await eventually(async () => {
    const batch = await fileBatches.create(store.id, { file_ids: ids });
    const gone = await fileBatches.cancel(batch.id, { vector_store_id: store.id });
    return gone.status === 'cancelled' && gone.file_counts.cancelled === 2;
  });
});

async function training(openai) {
  const said = [{ role: 'user', content: 'A question?' }, { role: 'assistant', content: 'A short answer.' }];
  const data = Array(10).fill(JSON.stringify({ messages: said })).join('\n');
  const file = await upload(openai, Buffer.from(data), 'fine-tune');
  return openai.fineTuning.jobs.create({ model: 'gpt-4o-mini', training_file: file });
}

test('a job trains a model', async () => {
  const openai = client();
  const { jobs } = openai.fineTuning;
  const { id } = await training(openai);
  const job = await eventually(async () => {
    const now = await jobs.retrieve(id);
    return now.status === 'succeeded' && now;
  });
  assert.ok((await collect(jobs.listEvents(id))).length);
  assert.ok((await collect(jobs.checkpoints.list(id))).length);
  assert.ok((await collect(jobs.list({ limit: 5 }))).some((one) => one.id === id));
  const answer = await openai.chat.completions.create({ model: job.fine_tuned_model, messages: HELLO });
  assert.equal(answer.model, job.fine_tuned_model);
  assert.equal((await openai.models.delete(job.fine_tuned_model)).deleted, true);
});

test('jobs are cancelled, paused and resumed', async () => {
  const openai = client();
  const { jobs } = openai.fineTuning;
  const cancelled = await inTime(async () => jobs.cancel((await training(openai)).id));
  assert.equal(cancelled.status, 'cancelled');
  const paused = await inTime(async () => jobs.pause((await training(openai)).id));
  assert.equal(paused.status, 'paused');
  assert.equal((await jobs.resume(paused.id)).id, paused.id);
});
