// Live sessions over WebSockets, and what the REST side does with sessions and calls. Media themselves pass by.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI from 'openai';
import { ForksWS } from 'openai/resources/live/forks/ws';
import { SidebandWS } from 'openai/resources/live/sideband/ws';
import { LiveWS } from 'openai/resources/live/ws';
import { client, tlsURL } from './kit.mjs';
import { socketOf } from './methods.mjs';

const OFFER = 'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n';
const WEBRTC = { type: 'webrtc', sdp: OFFER };

/** A session of half a second → its events. */
async function talk(socket) {
  const events = [];
  for await (const { type, message, error } of socket.stream()) {
    if (type === 'open') {
      socket.send({ type: 'session.start', session: { model: 'gpt-live-1' } });
      socket.send({ type: 'session.input_audio.append', audio: Buffer.alloc(24_000, 1).toString('base64') });
    }
    if (type === 'error') throw error;
    if (type !== 'message') continue;
    events.push(message);
    if (message.type === 'session.usage.updated') socket.send({ type: 'session.close' });
    if (message.type === 'session.closed') break;
  }
  socket.close();
  assert.equal(events.at(-1).usage.seconds, 0.5);
  return events;
}

test('a session, its observer and its fork', { skip: !tlsURL && 'needs TLS' }, async () => {
  const openai = client({ baseURL: tlsURL });
  const [started] = await talk(new LiveWS(openai, socketOf('resources/live/ws')));
  assert.equal(started.type, 'session.started');
  const of = { session_id: started.session.id };
  const beside = new SidebandWS(openai, of, socketOf('resources/live/sideband/ws'));
  for await (const { type, message, error } of beside.stream()) {
    if (type === 'error') throw error;
    if (type !== 'message') continue;
    assert.deepEqual([message.type, message.session.id], ['session.started', started.session.id]);
    break;
  }
  beside.close();
  await talk(new ForksWS(openai, of, socketOf('resources/live/forks/ws')));
});

test('sessions over REST', async () => {
  const { live } = client();
  const { session } = await live.create({ session: { model: 'gpt-live-1' }, transport: WEBRTC });
  await live.sessions.accept(session.id, { session: { model: 'gpt-live-1' } });
  assert.notEqual((await live.sessions.fork(session.id, { transport: WEBRTC })).session.id, session.id);
  assert.ok((await (await live.sessions.downloadRecording(session.id)).arrayBuffer()).byteLength);
  await live.sessions.refer(session.id, { target_uri: 'tel:+4712345678' });
  await live.sessions.reject(session.id, { status_code: 486 });
  await live.sessions.hangup(session.id);
  await assert.rejects(live.sessions.hangup('sess_unknown'), OpenAI.NotFoundError);
});

test('calls', async () => {
  const { calls } = client().realtime;
  const answer = await calls.create({ sdp: OFFER, session: { type: 'realtime', model: 'gpt-realtime' } });
  assert.equal(answer.headers.get('content-type'), 'application/sdp');
  assert.match(await answer.text(), /^v=0/);
  const id = answer.headers.get('location').split('/').at(-1);
  await calls.accept(id, { type: 'realtime', model: 'gpt-realtime' });
  await calls.refer(id, { target_uri: 'tel:+4712345678' });
  await calls.reject(id, { status_code: 486 });
  await calls.hangup(id);
  await assert.rejects(calls.hangup('rtc_unknown'), OpenAI.NotFoundError);
});
