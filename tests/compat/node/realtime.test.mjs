// Realtime: with `ws` and the key in a header, with the runtime's own WebSocket and the key in a subprotocol; secrets.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OpenAIRealtimeWebSocket as OlderRealtimeWebSocket } from 'openai/beta/realtime/websocket';
import { OpenAIRealtimeWS as OlderRealtimeWS } from 'openai/beta/realtime/ws';
import { OpenAIRealtimeTranslationWS } from 'openai/realtime/translations/ws';
import { OpenAIRealtimeWebSocket } from 'openai/realtime/websocket';
import { OpenAIRealtimeWS } from 'openai/realtime/ws';
import { WebSocket } from 'ws';
import { client, key, tlsURL } from './kit.mjs';
import { socketOf } from './methods.mjs';

const secure = { skip: !tlsURL && 'needs TLS: the client refuses to speak realtime without' };

/** The first event of a kind; rejects when the socket reports an error first, or nothing for long. */
function event(socket, kind, withinMs = 20_000) {
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`no ${kind} within ${withinMs} ms`)), withinMs);
    socket.on(kind, (value) => resolve(value, clearTimeout(late)));
    if (kind !== 'error') socket.on('error', (error) => reject(error, clearTimeout(late)));
  });
}

async function talk(socket) {
  let text = '';
  socket.on('response.output_text.delta', ({ delta }) => {
    text += delta;
  });
  const done = event(socket, 'response.done');
  socket.send({ type: 'session.update', session: { type: 'realtime', output_modalities: ['text'] } });
  const content = [{ type: 'input_text', text: 'Hello!' }];
  socket.send({ type: 'conversation.item.create', item: { type: 'message', role: 'user', content } });
  socket.send({ type: 'response.create' });
  const { response } = await done;
  assert.equal(response.status, 'completed');
  assert.ok(text);
  socket.close();
}

test('a conversation in text, the key in a header', secure, async () => {
  const options = socketOf('realtime/ws');
  const socket = new OpenAIRealtimeWS({ model: 'gpt-realtime', options }, client({ baseURL: tlsURL }));
  const { session } = await event(socket, 'session.created');
  assert.equal(session.model, 'gpt-realtime');
  await talk(socket);
});

test('a conversation in text, the key in a subprotocol', secure, async () => {
  globalThis.WebSocket ??= WebSocket; // Node.js below 22
  const openai = client({ baseURL: tlsURL, dangerouslyAllowBrowser: true });
  const socket = new OpenAIRealtimeWebSocket({ model: 'gpt-realtime', dangerouslyAllowBrowser: true }, openai);
  await event(socket, 'session.created');
  assert.equal(socket.socket.protocol, 'realtime');
  await talk(socket);
});

test('the older clients', secure, async () => {
  globalThis.WebSocket ??= WebSocket;
  const openai = client({ baseURL: tlsURL, dangerouslyAllowBrowser: true });
  const model = 'gpt-4o-realtime-preview';
  const socket = new OlderRealtimeWS({ model, options: socketOf('beta/realtime/ws') }, openai);
  await event(socket, 'session.created');
  socket.close();
  const browsers = new OlderRealtimeWebSocket({ model, dangerouslyAllowBrowser: true }, openai);
  await event(browsers, 'session.created');
  browsers.close();
});

test('a translation', secure, async () => {
  const options = socketOf('realtime/translations/ws');
  const openai = client({ baseURL: tlsURL });
  const socket = await OpenAIRealtimeTranslationWS.create(openai, { model: 'gpt-realtime-translate', options });
  await event(socket, 'session.created');
  const heard = event(socket, 'session.output_audio.delta');
  socket.send({ type: 'session.input_audio_buffer.append', audio: Buffer.alloc(48_000, 1).toString('base64') });
  assert.ok((await heard).delta);
  await socket.finish({ timeoutMs: 20_000 });
});

test('a large message', secure, async () => {
  const socket = new OpenAIRealtimeWS({ model: 'gpt-realtime' }, client({ baseURL: tlsURL }));
  await event(socket, 'session.created');
  const committed = event(socket, 'input_audio_buffer.committed');
  socket.send({ type: 'session.update', session: { type: 'realtime', audio: { input: { turn_detection: null } } } });
  socket.send({ type: 'input_audio_buffer.append', audio: Buffer.alloc(3_000_000, 1).toString('base64') });
  socket.send({ type: 'input_audio_buffer.commit' });
  assert.ok((await committed).item_id);
  socket.close();
});

test('refused handshakes', secure, async () => {
  for (const [model, apiKey, status] of [
    ['gpt-realtime', 'sk-wrong-0000000000000000000000', 401],
    ['nope', key, 404],
    ['gpt-realtime+503', key, 503],
  ]) {
    const socket = new OpenAIRealtimeWS({ model }, client({ baseURL: tlsURL, apiKey }));
    const error = await event(socket, 'error');
    assert.match(error.message, new RegExp(`${status}`));
  }
});

test('sessions and client secrets', async () => {
  const { beta, realtime } = client();
  const session = await beta.realtime.sessions.create({ model: 'gpt-4o-realtime-preview' });
  assert.match(session.client_secret.value, /^ek_/);
  const transcription = await beta.realtime.transcriptionSessions.create({});
  assert.match(transcription.client_secret.value, /^ek_/);
  const secret = await realtime.clientSecrets.create({ session: { type: 'realtime', model: 'gpt-realtime' } });
  assert.match(secret.value, /^ek_/);
  const translated = { model: 'gpt-realtime-translate', audio: { output: { language: 'fr' } } };
  const other = await realtime.translations.clientSecrets.create({ session: translated });
  assert.match(other.value, /^ek_/);
});
