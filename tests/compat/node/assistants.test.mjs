// Assistants, threads, messages, runs.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { client, collect, eventually } from './kit.mjs';

const WEATHER = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};
const FAST = { pollIntervalMs: 10 };
const ask = (content) => ({ messages: [{ role: 'user', content }] });
const helper = async (openai, options = {}) => (await openai.beta.assistants.create({ model: 'gpt-4o', ...options })).id;
const outputs = (run) =>
  run.required_action.submit_tool_outputs.tool_calls.map((call) => ({ tool_call_id: call.id, output: '17 degrees' }));

test('assistants are kept', async () => {
  const { assistants } = client().beta;
  const made = await assistants.create({ model: 'gpt-4o', name: 'Helper' });
  assert.equal((await assistants.update(made.id, { name: 'Other' })).name, 'Other');
  assert.equal((await assistants.retrieve(made.id)).name, 'Other');
  assert.ok((await collect(assistants.list({ limit: 20 }))).some((one) => one.id === made.id));
  assert.equal((await assistants.delete(made.id)).deleted, true);
  await assert.rejects(assistants.retrieve(made.id), OpenAI.NotFoundError);
});

test('threads and messages are kept', async () => {
  const { threads } = client().beta;
  const thread = await threads.create({ ...ask('first'), metadata: { x: 'y' } });
  assert.equal((await threads.update(thread.id, { metadata: { x: 'z' } })).metadata.x, 'z');
  assert.equal((await threads.retrieve(thread.id)).metadata.x, 'z');
  const made = await threads.messages.create(thread.id, { role: 'user', content: 'second' });
  const at = { thread_id: thread.id };
  assert.equal((await collect(threads.messages.list(thread.id, { limit: 1 }))).length, 2);
  assert.equal((await threads.messages.retrieve(made.id, at)).id, made.id);
  assert.equal((await threads.messages.update(made.id, { ...at, metadata: { n: '1' } })).metadata.n, '1');
  assert.equal((await threads.messages.delete(made.id, at)).deleted, true);
  assert.equal((await threads.delete(thread.id)).deleted, true);
});

test('a polled run and its steps', async () => {
  const openai = client();
  const { threads } = openai.beta;
  const thread = await threads.create(ask('Say something.'));
  const run = await threads.runs.createAndPoll(thread.id, { assistant_id: await helper(openai) }, FAST);
  assert.equal(run.status, 'completed');
  const at = { thread_id: thread.id };
  const steps = await collect(threads.runs.steps.list(run.id, at));
  assert.equal((await threads.runs.steps.retrieve(steps[0].id, { ...at, run_id: run.id })).id, steps[0].id);
  assert.deepEqual((await collect(threads.runs.list(thread.id))).map((one) => one.id), [run.id]);
  assert.equal((await threads.runs.update(run.id, { ...at, metadata: { a: 'b' } })).metadata.a, 'b');
  assert.equal((await threads.runs.retrieve(run.id, at)).metadata.a, 'b');
});

test('tool outputs are submitted and the run goes on, or is cancelled', async () => {
  const openai = client();
  const { threads } = openai.beta;
  const assistant_id = await helper(openai, { tools: [WEATHER] });
  const run = await threads.createAndRunPoll({ assistant_id, thread: ask('Weather in Oslo?') }, FAST);
  assert.equal(run.status, 'requires_action');
  const at = { thread_id: run.thread_id };
  const done = await threads.runs.submitToolOutputsAndPoll(run.id, { ...at, tool_outputs: outputs(run) }, FAST);
  assert.equal(done.status, 'completed');
  const other = await threads.createAndRunPoll({ assistant_id, thread: ask('Weather in Oslo?') }, FAST);
  await threads.runs.cancel(other.id, { thread_id: other.thread_id });
  await eventually(async () => {
    const now = await threads.runs.retrieve(other.id, { thread_id: other.thread_id });
    return now.status === 'cancelled';
  });
});

test('runs stream to the helper of the client', async () => {
  const openai = client();
  const { threads } = openai.beta;
  const thread = await threads.create(ask('Say something.'));
  let text = '';
  const stream = threads.runs.stream(thread.id, { assistant_id: await helper(openai) });
  stream.on('textDelta', (delta) => {
    text += delta.value;
  });
  assert.equal((await stream.finalRun()).status, 'completed');
  const [message] = await stream.finalMessages();
  assert.equal(message.content[0].text.value, text);
});

test('the older name of the stream helper', async () => {
  const openai = client();
  const { threads } = openai.beta;
  const thread = await threads.create(ask('Say something.'));
  const stream = threads.runs.createAndStream(thread.id, { assistant_id: await helper(openai) });
  assert.equal((await stream.finalRun()).status, 'completed');
});

test('a thread and its run stream together, with tools', async () => {
  const openai = client();
  const { threads } = openai.beta;
  const assistant_id = await helper(openai, { tools: [WEATHER] });
  const events = await collect(threads.createAndRunStream({ assistant_id, thread: ask('Weather in Oslo?') }));
  assert.equal(events.at(-1).event, 'thread.run.requires_action');
  const run = events.at(-1).data;
  const rest = await collect(
    threads.runs.submitToolOutputsStream(run.id, { thread_id: run.thread_id, tool_outputs: outputs(run) }),
  );
  assert.equal(rest.at(-1).event, 'thread.run.completed');
});
