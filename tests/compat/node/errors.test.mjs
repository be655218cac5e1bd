// Errors and breaks: the right class of the client's, its status and code; a broken answer never looks complete.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { client, collect, HELLO, refused, strictURL } from './kit.mjs';

const chat = (openai, model = 'gpt-4o', options = {}) =>
  openai.chat.completions.create({ model, messages: HELLO }, options);
const faulty = (fault) => ({ headers: { 'x-simulator-fault': fault } });

test('no key, a wrong key, an admin key', async () => {
  await refused(chat(client(), 'gpt-4o', { headers: { Authorization: null } }), OpenAI.AuthenticationError, 401, null);
  const wrong = client({ apiKey: 'sk-wrong-00000000000000000000' });
  const error = await refused(chat(wrong), OpenAI.AuthenticationError, 401, 'invalid_api_key');
  assert.ok(!error.message.includes('sk-wrong-00000000000000000000'));
  const admin = client({ apiKey: process.env.GATEWAY_ADMIN_KEY });
  await refused(chat(admin), OpenAI.AuthenticationError, 401, 'invalid_api_key');
});

test('unknown models, paths and files', async () => {
  const openai = client();
  await refused(chat(openai, 'nope'), OpenAI.NotFoundError, 404, 'model_not_found');
  const here = await refused(chat(client({ baseURL: strictURL }), 'nope'), OpenAI.NotFoundError, 404, 'model_not_found');
  assert.equal(here.param, 'model');
  await refused(openai.files.retrieve('file-unknown'), OpenAI.NotFoundError, 404, null);
  await refused(openai.get('/something/new'), OpenAI.NotFoundError, 404, null);
});

test('bad requests name the parameter', async () => {
  const error = await refused(
    client().chat.completions.create({ model: 'gpt-4o', messages: HELLO, n: 1000 }),
    OpenAI.BadRequestError, 400, 'integer_above_max_value',
  );
  assert.equal(error.param, 'n');
});

test('what is too large, unreadable or not allowed', async () => {
  const strict = client({ baseURL: strictURL });
  const large = strict.chat.completions.create({ model: 'gpt-4o', messages: HELLO, user: 'x'.repeat(2 ** 21) });
  await refused(large, OpenAI.APIError, 413, 'request_too_large');
  const encoded = chat(client(), 'gpt-4o', { headers: { 'content-encoding': 'br' } });
  await refused(encoded, OpenAI.APIError, 415, 'unsupported_content_encoding');
  const session = strict.beta.realtime.sessions.create({ model: 'gpt-4o-realtime-preview' });
  await refused(session, OpenAI.PermissionDeniedError, 403, 'operation_not_allowed');
});

test('what the upstream refuses', async () => {
  for (const [status, kind, code] of [
    [400, OpenAI.BadRequestError, null],
    [403, OpenAI.PermissionDeniedError, null],
    [409, OpenAI.ConflictError, null],
    [422, OpenAI.UnprocessableEntityError, null],
    [429, OpenAI.RateLimitError, 'rate_limit_exceeded'],
    [500, OpenAI.InternalServerError, null],
    [503, OpenAI.InternalServerError, 'server_is_overloaded'],
  ]) {
    await refused(chat(client(), `gpt-4o+${status}`), kind, status, code);
  }
});

test('an upstream that breaks, is not there, or is too slow', async () => {
  const strict = client({ baseURL: strictURL });
  await refused(chat(client(), 'gpt-4o+cut_head'), OpenAI.InternalServerError, 502, 'upstream_cut');
  await refused(chat(client(), 'gpt-4o+malformed'), OpenAI.InternalServerError, 502, 'upstream_malformed');
  await refused(chat(strict, 'refused-1'), OpenAI.InternalServerError, 502, 'upstream_unreachable');
  await refused(chat(strict, 'gpt-4o+delay=60s'), OpenAI.InternalServerError, 504, 'upstream_timeout');
  assert.match((await chat(strict, 'fallback-1')).model, /^gpt-4o-mini-/);
});

test('a refusal while a large body comes', async () => {
  const wrong = client({ apiKey: 'sk-wrong-00000000000000000000' });
  const file = await toFile(Buffer.alloc(24 * 2 ** 20), 'large');
  const call = wrong.files.create({ file, purpose: 'user_data' });
  await refused(call, OpenAI.AuthenticationError, 401, 'invalid_api_key');
});

async function stream(openai, options) {
  return openai.chat.completions.create({ model: 'gpt-4o+tokens=40', messages: HELLO, stream: true }, options);
}

test('error events in a stream', async () => {
  const error = await collect(await stream(client(), faulty('error_event=4'))).catch((caught) => caught);
  assert.ok(error instanceof OpenAI.APIError);
  assert.equal(error.type, 'server_error');
  const stalled = await collect(await stream(client({ baseURL: strictURL }), faulty('stall=3'))).catch((caught) => caught);
  assert.ok(stalled instanceof OpenAI.APIError);
  assert.deepEqual([stalled.type, stalled.code], ['server_error', 'upstream_timeout']);
});

test('a stream that is cut never ends well', async () => {
  for (const fault of ['cut=700', 'cut=1500', 'cut=1501', 'reset=2000', 'cut=5,gzip']) {
    await assert.rejects(async () => collect(await stream(client(), faulty(fault))), fault);
  }
  const { responses, images } = client();
  const response = await responses.create({ model: 'gpt-4o+tokens=40', input: 'x', stream: true }, faulty('cut=2500'));
  await assert.rejects(collect(response));
  const picture = { model: 'gpt-image-1', prompt: 'x', stream: true, partial_images: 2 };
  await assert.rejects(collect(await images.generate(picture, faulty('cut=900'))));
});

test('a plain answer that is cut never ends well', async () => {
  for (const fault of ['cut=0', 'cut=1', 'cut=200', 'reset=200', 'cut=20,gzip']) {
    await assert.rejects(chat(client(), 'gpt-4o', faulty(fault)), fault);
  }
  const speech = await client().audio.speech.create({ model: 'tts-1+cut=500', voice: 'alloy', input: 'Hello there' });
  await assert.rejects(speech.arrayBuffer());
});
