// What is around the calls: ids, headers, retries, timeouts, clients that leave, many at once.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import OpenAI from 'openai';
import { client, collect, HELLO } from './kit.mjs';

const ask = { model: 'gpt-4o', messages: HELLO };

test('raw responses have the headers of OpenAI', async () => {
  const { data, response, request_id } = await client().chat.completions.create(ask).withResponse();
  for (const name of ['openai-organization', 'openai-processing-ms', 'openai-version', 'x-ratelimit-reset-tokens']) {
    assert.ok(response.headers.get(name), name);
  }
  assert.equal(response.headers.get('x-request-id'), request_id);
  assert.equal(data._request_id, request_id);
  const raw = await client().chat.completions.create(ask).asResponse();
  assert.equal((await raw.json()).object, 'chat.completion');
});

test("a client's organization and project stay here", async () => {
  const openai = client({ organization: 'org-mine', project: 'proj_mine', defaultHeaders: { cookie: 'a=b' } });
  assert.ok((await openai.chat.completions.create(ask)).choices.length);
});

test('any verb on any path, and queries as they are', async () => {
  const openai = client();
  assert.equal((await openai.get('/models')).object, 'list');
  assert.equal((await openai.post('/chat/completions', { body: ask })).object, 'chat.completion');
  await assert.rejects(openai.put('/something/new'), OpenAI.NotFoundError);
  const page = await openai.get('/files', { query: { limit: 1, 'include[]': ['a b', 'ü'] } });
  assert.ok(page.data.length <= 1);
});

test('encoded answers are decoded by the client', async () => {
  const { completions } = client().chat;
  assert.ok((await completions.create({ ...ask, model: 'gpt-4o+gzip' })).choices[0].message.content);
  const chunks = await collect(await completions.create({ ...ask, model: 'gpt-4o+gzip', stream: true }));
  assert.equal(chunks.at(-1).choices[0].finish_reason, 'stop');
});

/** A client whose first attempt meets a fault; `attempts` are the times of all. */
function onceFaulty(fault, attempts) {
  const own = (url, init) => {
    attempts.push(Date.now());
    const headers = new Headers(init.headers);
    if (attempts.length === 1) headers.set('x-simulator-fault', fault);
    return fetch(url, { ...init, headers });
  };
  return client({ maxRetries: 2, fetch: own });
}

describe('a second attempt succeeds', { concurrency: true }, () => {
  for (const fault of ['429', '500', '503', '408', '409', 'cut_head']) {
    test(`after ${fault}`, async () => {
      const attempts = [];
      assert.ok((await onceFaulty(fault, attempts).chat.completions.create(ask)).choices.length);
      assert.equal(attempts.length, 2);
      const waited = attempts[1] - attempts[0];
      assert.ok(waited >= (['429', '503'].includes(fault) ? 990 : 300), `waited ${waited} ms`);
    });
  }
});

test('nobody there', async () => {
  const away = client({ baseURL: 'http://127.0.0.1:9/v1' }); // nothing listens on the port of `discard`
  const error = await away.models.list().catch((caught) => caught);
  assert.equal(error.constructor, OpenAI.APIConnectionError);
});

test('timeouts and aborts are the client\'s', async () => {
  const impatient = client({ timeout: 300 });
  await assert.rejects(
    impatient.chat.completions.create({ ...ask, model: 'gpt-4o+delay=30s' }),
    OpenAI.APIConnectionTimeoutError,
  );
  const controller = new AbortController();
  const call = client().chat.completions.create({ ...ask, model: 'gpt-4o+delay=30s' }, { signal: controller.signal });
  setTimeout(() => controller.abort(), 100);
  await assert.rejects(call, OpenAI.APIUserAbortError);
});

test('a client that leaves a stream', async () => {
  const stream = await client().chat.completions.create({ ...ask, model: 'gpt-4o+chunks=5000+pace=10ms', stream: true });
  let seen = 0;
  for await (const _ of stream) {
    seen += 1;
    if (seen === 5) break;
  }
  assert.ok(stream.controller.signal.aborted);
});

test('many at once', async () => {
  const openai = client();
  const one = async (number) => {
    const messages = [{ role: 'user', content: `Number ${number}` }];
    if (number % 2) return (await openai.chat.completions.create({ model: 'gpt-4o', messages })).choices.length;
    return (await collect(await openai.chat.completions.create({ model: 'gpt-4o', messages, stream: true }))).length;
  };
  const counts = await Promise.all(Array.from({ length: 200 }, (_, number) => one(number)));
  assert.ok(counts.every((count) => count > 0));
});
