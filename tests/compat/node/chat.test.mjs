// Chat completions: whole, streamed, with the client's helpers, with tools; stored ones.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { client, collect, HELLO } from './kit.mjs';

const WEATHER = {
  type: 'function',
  function: {
    name: 'get_weather',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
};

test('a completion', async () => {
  const answer = await client().chat.completions.create({ model: 'gpt-4o-mini', messages: HELLO, n: 2, max_tokens: 12 });
  assert.equal(answer.choices.length, 2);
  assert.equal(answer.usage.completion_tokens, 24);
  assert.match(answer._request_id, /^req_/);
});

test('a stream says what the whole says', async () => {
  const openai = client();
  const whole = await openai.chat.completions.create({ model: 'gpt-4o-mini', messages: HELLO });
  const { data: stream, response } = await openai.chat.completions
    .create({ model: 'gpt-4o-mini', messages: HELLO, stream: true, stream_options: { include_usage: true } })
    .withResponse();
  assert.equal(response.headers.get('x-accel-buffering'), 'no');
  const chunks = await collect(stream);
  const text = chunks.map((chunk) => chunk.choices[0]?.delta.content ?? '').join('');
  assert.equal(text, whole.choices[0].message.content);
  assert.deepEqual(chunks.at(-1).usage, whole.usage);
});

test('a stream without usage has none', async () => {
  const chunks = await collect(
    await client().chat.completions.create({ model: 'gpt-4o+chunks=300', messages: HELLO, stream: true }),
  );
  assert.equal(chunks.filter((chunk) => chunk.choices[0].delta.content).length, 300);
  assert.ok(chunks.every((chunk) => chunk.usage === undefined));
});

test("the client's own stream helper", async () => {
  const runner = client().chat.completions.stream({ model: 'gpt-4o-mini', messages: HELLO });
  let text = '';
  runner.on('content', (delta) => {
    text += delta;
  });
  const final = await runner.finalChatCompletion();
  assert.equal(final.choices[0].message.content, text);
});

test('a stream as lines of JSON, and back', async () => {
  const stream = await client().chat.completions.create({ model: 'gpt-4o-mini', messages: HELLO, stream: true });
  const [kept, passed] = stream.tee();
  const chunks = await collect(kept);
  assert.equal((await collect(passed.toReadableStream())).length, chunks.length);
});

test('tools are called and answered', async () => {
  const openai = client();
  const messages = [{ role: 'user', content: 'Weather in Oslo?' }];
  const first = await openai.chat.completions.create({ model: 'gpt-4o', messages, tools: [WEATHER] });
  const [call] = first.choices[0].message.tool_calls;
  assert.deepEqual(Object.keys(JSON.parse(call.function.arguments)), ['city']);
  const answered = [first.choices[0].message, { role: 'tool', tool_call_id: call.id, content: '17 degrees' }];
  const last = await openai.chat.completions.create({
    model: 'gpt-4o',
    messages: [...messages, ...answered],
    tools: [WEATHER],
  });
  assert.ok(last.choices[0].message.content);
});

test('answers in a form of the client\'s choice', async () => {
  const schema = { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'], additionalProperties: false };
  const answer = await client().chat.completions.parse({
    model: 'gpt-4o',
    messages: HELLO,
    response_format: { type: 'json_schema', json_schema: { name: 'number', strict: true, schema } },
  });
  assert.ok(Number.isInteger(JSON.parse(answer.choices[0].message.content).n));
});

test('tools run by the client', async () => {
  let asked = 0;
  const weather = {
    ...WEATHER.function,
    parse: JSON.parse,
    function: ({ city }) => {
      asked += 1;
      return `17 degrees in ${city}`;
    },
  };
  const runner = client().chat.completions.runTools({
    model: 'gpt-4o',
    messages: [{ role: 'user', content: 'Weather in Oslo?' }],
    tools: [{ type: 'function', function: weather }],
  });
  assert.ok(await runner.finalContent());
  assert.equal(asked, 1);
});

test('stored completions are read, changed and deleted', async () => {
  const { completions } = client().chat;
  const made = await completions.create({ model: 'gpt-4o-mini', messages: HELLO, store: true, metadata: { mark: 'node' } });
  assert.equal((await completions.retrieve(made.id)).id, made.id);
  assert.deepEqual((await collect(completions.messages.list(made.id))).map((one) => one.content), ['Hello!']);
  assert.equal((await completions.update(made.id, { metadata: { mark: 'changed' } })).metadata.mark, 'changed');
  assert.ok((await collect(completions.list({ metadata: { mark: 'changed' } }))).some((one) => one.id === made.id));
  assert.equal((await completions.delete(made.id)).deleted, true);
  await assert.rejects(completions.retrieve(made.id), OpenAI.NotFoundError);
});
