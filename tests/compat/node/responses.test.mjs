// Responses, over HTTP and over a WebSocket; conversations.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { ResponsesWS as BetaResponsesWS } from 'openai/resources/beta/responses/ws';
import { ResponsesWS } from 'openai/resources/responses/ws';
import { client, collect, eventually, tlsURL } from './kit.mjs';
import { socketOf } from './methods.mjs';

test('a response is kept', async () => {
  const { responses } = client();
  const made = await responses.create({ model: 'gpt-4o', input: 'Say hello.' });
  assert.ok(made.output_text);
  assert.equal((await responses.retrieve(made.id)).output_text, made.output_text);
  assert.equal((await collect(responses.inputItems.list(made.id))).length, 1);
  const counted = await responses.inputTokens.count({ model: 'gpt-4o', input: 'Say hello.' });
  assert.equal(counted.input_tokens, made.usage.input_tokens);
  const compacted = await responses.compact({ model: 'gpt-4o', previous_response_id: made.id });
  assert.ok(compacted.usage.output_tokens);
  await responses.delete(made.id);
  await assert.rejects(responses.retrieve(made.id), OpenAI.NotFoundError);
});

test('responses stream', async () => {
  const { responses } = client();
  const whole = await responses.create({ model: 'gpt-4o', input: 'Say hello.' });
  const events = await collect(await responses.create({ model: 'gpt-4o', input: 'Say hello.', stream: true }));
  const deltas = events.filter((event) => event.type === 'response.output_text.delta');
  assert.equal(deltas.map((event) => event.delta).join(''), whole.output_text);
  assert.deepEqual(events.map((event) => event.sequence_number), [...events.keys()]);
  const helper = responses.stream({ model: 'o3', input: 'Say hello.' });
  assert.ok((await helper.finalResponse()).output_text);
});

test('a background response is polled, resumed, cancelled', async () => {
  const { responses } = client();
  const { id } = await responses.create({ model: 'gpt-4o', input: 'Work.', background: true });
  await eventually(async () => (await responses.retrieve(id)).status === 'completed');
  const events = await collect(await responses.retrieve(id, { stream: true, starting_after: 3 }));
  assert.deepEqual([events[0].sequence_number, events.at(-1).type], [4, 'response.completed']);
  const slow = await responses.create({ model: 'gpt-4o+tokens=2000+pace=5ms', input: 'Work.', background: true });
  assert.equal((await responses.cancel(slow.id)).status, 'cancelled');
});

async function twoAnswers(socket) {
  const ids = [];
  for await (const message of socket.stream()) {
    if (message.type === 'open') socket.send({ type: 'response.create', model: 'gpt-4o', input: 'One.' });
    if (message.type === 'error') throw message.error;
    if (message.type !== 'message') continue;
    if (message.message.type !== 'response.completed') continue;
    ids.push(message.message.response.id);
    if (ids.length === 2) break;
    socket.send({ type: 'response.create', model: 'gpt-4o', input: 'Two.' });
  }
  socket.close();
  assert.equal(new Set(ids).size, 2);
}

test('responses over a WebSocket', { skip: !tlsURL && 'needs TLS' }, async () => {
  const openai = client({ baseURL: tlsURL });
  await twoAnswers(new ResponsesWS(openai, socketOf('resources/responses/ws')));
  await twoAnswers(new BetaResponsesWS(openai, socketOf('resources/beta/responses/ws')));
});

test('an answer in a form of the client\'s choice', async () => {
  const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false };
  const answer = await client().responses.parse({
    model: 'gpt-4o',
    input: 'A number.',
    text: { format: { type: 'json_schema', name: 'number', strict: true, schema } },
  });
  assert.ok(Number.isInteger(JSON.parse(answer.output_text).n));
});

test('the beta of responses: the same paths with `?beta=true`', async () => {
  const { responses } = client().beta;
  const made = await responses.create({ model: 'gpt-4o', input: 'Say hello.' });
  assert.equal((await responses.retrieve(made.id)).id, made.id);
  assert.equal((await collect(responses.inputItems.list(made.id))).length, 1);
  const counted = await responses.inputTokens.count({ model: 'gpt-4o', input: 'Say hello.' });
  assert.equal(counted.input_tokens, made.usage.input_tokens);
  assert.ok((await responses.compact({ model: 'gpt-4o', previous_response_id: made.id })).usage.output_tokens);
  const events = await collect(await responses.create({ model: 'gpt-4o', input: 'Say hello.', stream: true }));
  assert.equal(events.at(-1).type, 'response.completed');
  await responses.delete(made.id);
  const slow = await responses.create({ model: 'gpt-4o+tokens=2000+pace=5ms', input: 'Work.', background: true });
  assert.equal((await responses.cancel(slow.id)).status, 'cancelled');
});

test('conversations', async () => {
  const { conversations, responses } = client();
  const made = await conversations.create({ items: [{ type: 'message', role: 'user', content: 'First.' }] });
  await responses.create({ model: 'gpt-4o', input: 'Second.', conversation: made.id });
  const items = await collect(conversations.items.list(made.id, { order: 'asc', limit: 1 }));
  assert.deepEqual(items.map((item) => item.role), ['user', 'user', 'assistant']);
  const at = { conversation_id: made.id };
  assert.equal((await conversations.items.retrieve(items[0].id, at)).id, items[0].id);
  const added = await conversations.items.create(made.id, { items: [{ role: 'user', content: 'Third.' }] });
  await conversations.items.delete(added.data[0].id, at);
  assert.equal((await conversations.update(made.id, { metadata: { c: 'd' } })).metadata.c, 'd');
  assert.equal((await conversations.retrieve(made.id)).metadata.c, 'd');
  assert.equal((await conversations.delete(made.id)).deleted, true);
});
