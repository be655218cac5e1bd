// Images and audio.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { toFile } from 'openai';
import { client, collect, wav } from './kit.mjs';

const PNG = Buffer.from(
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==',
  'base64',
);
const picture = () => toFile(PNG, 'größe.png', { type: 'image/png' });
const sound = () => toFile(wav(2), 'größe.wav', { type: 'audio/wav' });

test('images are generated', async () => {
  const { images } = client();
  const answer = await images.generate({ model: 'gpt-image-1', prompt: 'a red kite', n: 2 });
  assert.equal(answer.data.length, 2);
  assert.ok(Buffer.from(answer.data[0].b64_json, 'base64').subarray(1, 4).equals(Buffer.from('PNG')));
  const events = await collect(
    await images.generate({ model: 'gpt-image-1', prompt: 'a kite', stream: true, partial_images: 2 }),
  );
  assert.equal(events.at(-1).type, 'image_generation.completed');
  assert.equal(events.length, 3);
});

test('images are edited, one or many', async () => {
  const { images } = client();
  const one = await images.edit({ model: 'gpt-image-1', image: await picture(), prompt: 'blue' });
  const many = await images.edit({ model: 'gpt-image-1', image: [await picture(), await picture()], prompt: 'blue' });
  assert.ok(many.usage.input_tokens > one.usage.input_tokens);
  const edited = await images.edit({ model: 'gpt-image-1', image: await picture(), prompt: 'x', stream: true });
  assert.equal((await collect(edited)).at(-1).type, 'image_edit.completed');
});

test('images are varied', async () => {
  const varied = await client().images.createVariation({ image: await picture(), n: 2 });
  assert.equal(varied.data.length, 2);
});

test('speech is bytes', async () => {
  const answer = await client().audio.speech.create({
    model: 'tts-1',
    voice: 'alloy',
    input: 'Hello there',
    response_format: 'wav',
  });
  assert.equal(answer.headers.get('content-type'), 'audio/wav');
  const bytes = Buffer.from(await answer.arrayBuffer());
  assert.equal(String(bytes.length), answer.headers.get('content-length'));
  assert.equal(bytes.subarray(0, 4).toString(), 'RIFF');
});

test('transcriptions', async () => {
  const { transcriptions } = client().audio;
  const whole = await transcriptions.create({ model: 'gpt-4o-transcribe', file: await sound() });
  assert.ok(whole.text);
  const verbose = await transcriptions.create({
    model: 'whisper-1',
    file: await sound(),
    response_format: 'verbose_json',
    timestamp_granularities: ['word'],
  });
  assert.equal(verbose.duration, 2);
  assert.ok(verbose.words.length);
  const text = await transcriptions.create({ model: 'whisper-1', file: await sound(), response_format: 'text' });
  assert.equal(text.trim(), verbose.text);
  const events = await collect(
    await transcriptions.create({ model: 'gpt-4o-transcribe', file: await sound(), stream: true }),
  );
  assert.equal(events.at(-1).type, 'transcript.text.done');
  assert.equal(events.at(-1).text, whole.text);
});

test('translations', async () => {
  const answer = await client().audio.translations.create({ model: 'whisper-1', file: await sound() });
  assert.ok(answer.text);
});
