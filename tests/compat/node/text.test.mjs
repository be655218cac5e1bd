// Legacy completions, embeddings, moderations, models.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { client, collect } from './kit.mjs';

test('legacy completions', async () => {
  const { completions } = client();
  const ask = { model: 'gpt-3.5-turbo-instruct', prompt: 'Once', max_tokens: 6 };
  const whole = await completions.create(ask);
  assert.equal(whole.usage.completion_tokens, 6);
  const chunks = await collect(await completions.create({ ...ask, stream: true }));
  assert.equal(chunks.map((chunk) => chunk.choices[0].text).join(''), whole.choices[0].text);
});

test('embeddings come packed unless asked otherwise', async () => {
  const { embeddings } = client();
  const ask = { model: 'text-embedding-3-small', input: ['a first text', 'zweiter: Größe'] };
  const packed = await embeddings.create(ask);
  const plain = await embeddings.create({ ...ask, encoding_format: 'float' });
  for (const [number, { embedding }] of packed.data.entries()) {
    assert.equal(embedding.length, 1536);
    assert.ok(Math.abs(embedding[7] - plain.data[number].embedding[7]) < 1e-6);
  }
});

test('moderations', async () => {
  const answer = await client().moderations.create({ input: ['What a day', 'I will kill you'] });
  assert.deepEqual(answer.results.map((result) => result.flagged), [false, true]);
});

test('models are listed and read', async () => {
  const { models } = client();
  assert.ok((await collect(models.list())).some((model) => model.id === 'gpt-4o'));
  assert.equal((await models.retrieve('gpt-4o')).id, 'gpt-4o');
  await assert.rejects(models.retrieve('no/such model?'), OpenAI.NotFoundError);
});
