// Newer families: videos, containers, evals, decisions.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toFile } from 'openai';
import { client, collect, eventually } from './kit.mjs';

test('videos', async () => {
  const { videos } = client();
  const made = await videos.create({ model: 'sora-2', prompt: 'A kite', seconds: '4' });
  await eventually(async () => (await videos.retrieve(made.id)).status === 'completed');
  const content = await videos.downloadContent(made.id);
  assert.ok((await content.arrayBuffer()).byteLength);
  const clip = () => toFile(Buffer.from('ftyp'), 'first.mp4', { type: 'video/mp4' });
  assert.equal((await videos.edit({ prompt: 'In snow', video: await clip() })).seconds, '4');
  assert.equal((await videos.extend({ prompt: 'It lands', seconds: '8', video: await clip() })).seconds, '12');
  const somebody = await videos.createCharacter({ name: 'Kite flyer', video: await clip() });
  assert.equal((await videos.getCharacter(somebody.id)).name, 'Kite flyer');
  assert.equal((await videos.remix(made.id, { prompt: 'At night' })).remixed_from_video_id, made.id);
  assert.ok((await collect(videos.list())).some((one) => one.id === made.id));
  assert.equal((await videos.delete(made.id)).deleted, true);
});

test('containers', async () => {
  const { containers } = client();
  const made = await containers.create({ name: 'box' });
  const file = await containers.files.create(made.id, { file: await toFile(Buffer.from('inside'), 'data.txt') });
  const at = { container_id: made.id };
  assert.equal(await (await containers.files.content.retrieve(file.id, at)).text(), 'inside');
  assert.equal((await containers.files.retrieve(file.id, at)).bytes, 6);
  assert.equal((await collect(containers.files.list(made.id))).length, 1);
  await containers.files.delete(file.id, at);
  assert.equal((await containers.retrieve(made.id)).name, 'box');
  assert.ok((await collect(containers.list())).some((one) => one.id === made.id));
  await containers.delete(made.id);
});

test('evals', async () => {
  const { evals } = client();
  const check = { type: 'string_check', name: 'same', input: 'a', reference: 'a', operation: 'eq' };
  const made = await evals.create({
    data_source_config: { type: 'custom', item_schema: { type: 'object', properties: { q: { type: 'string' } } } },
    testing_criteria: [check],
  });
  const source = { type: 'file_content', content: [{ item: { q: 'one' } }] };
  const data_source = { type: 'completions', model: 'gpt-4o-mini', source };
  const run = await evals.runs.create(made.id, { data_source });
  const at = { eval_id: made.id };
  await eventually(async () => (await evals.runs.retrieve(run.id, at)).status === 'completed');
  const [item] = await collect(evals.runs.outputItems.list(run.id, at));
  assert.equal((await evals.runs.outputItems.retrieve(item.id, { ...at, run_id: run.id })).id, item.id);
  assert.deepEqual((await collect(evals.runs.list(made.id))).map((one) => one.id), [run.id]);
  assert.equal((await evals.runs.delete(run.id, at)).deleted, true);
  await eventually(async () => {
    const other = await evals.runs.create(made.id, { data_source });
    return (await evals.runs.cancel(other.id, at)).status === 'canceled'; // before it has begun
  });
  assert.equal((await evals.update(made.id, { name: 'Ours' })).name, 'Ours');
  assert.equal((await evals.retrieve(made.id)).name, 'Ours');
  assert.ok((await collect(evals.list())).some((one) => one.id === made.id));
  assert.equal((await evals.delete(made.id)).deleted, true);
});

test('decisions', async () => {
  const questions = [{ type: 'predicate', instructions: 'Is it raining?', name: 'rain' }];
  const decided = await client().decisions.create({ model: 'gpt-6-luna', input: 'It is wet outside.', questions });
  assert.equal(decided.answers[0].type, 'predicate');
});
