// Families for which the simulator only has plausible objects: every method that the client has for them.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { client, collect, key } from './kit.mjs';
import { all } from './methods.mjs';

const FAMILIES = [
  'audio.voiceConsents', 'audio.voices', 'beta.agents', 'beta.chatkit', 'contentProvenanceChecks', 'fineTuning.alpha',
  'fineTuning.checkpoints', 'safety', 'skills', 'webhooks',
];
// More than a call with arguments; or no call at all.
const APART = /\.(prepare|sessions\.stream|forResult|unwrap|verifySignature)$/;
const snake = (name) => name.replace(/ID$/, '_id').replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const file = (name) => toFile(Buffer.from('inside'), name);

/** What goes into the body of a method: what the simulator or the client look at. */
async function bodyOf(path) {
  const needed = {
    'audio.voiceConsents.create': { recording: await file('recording.wav') },
    'audio.voices.create': { type: 'prompt', prompt: 'A calm voice' },
    'beta.agents.create': { model: 'gpt-4o' },
    'beta.agents.environments.files.create': { type: 'file_id', file_id: 'file-1', path: '/workspace/data.txt' },
    'beta.agents.environments.files.upload': { file: await file('data.txt'), path: '/workspace/data.txt' },
    'contentProvenanceChecks.create': { file: await file('picture.png') },
  };
  return needed[path] ?? {};
}

/** Creators come first, from the top down; what deletes last, from the bottom up. */
function rank({ path, name }) {
  const depth = path.split('.').length;
  return { create: depth, delete: 300 - depth }[name] ?? 100 + depth;
}

/** The name that the methods beside a creator have for the id of what it makes. */
function ownId(family, { path }) {
  const beside = path.replace(/\w+$/, '');
  const named = (name) => family.find((other) => other.path === beside + name);
  const one = named('delete') ?? named('retrieve');
  return one && snake(one.parameters[0]);
}

async function call(openai, { path, parameters }, known) {
  const names = path.split('.');
  const method = names.pop();
  const resource = names.reduce((found, name) => found[name], openai);
  const body = { ...known, name: 'x', ...(await bodyOf(path)) };
  const one = (name) => (/^(body|params|query)$/.test(name) ? body : (known[snake(name)] ?? `${name}_1`));
  const answer = await resource[method](...parameters.filter((name) => name !== 'options').map(one));
  if (answer instanceof Response) await answer.arrayBuffer();
  if (path.endsWith('events.stream')) await collect(answer);
  return answer;
}

for (const family of FAMILIES) {
  test(`every method of ${family}`, async () => {
    // This client shows its admin key where Python's shows the API key; here the operations are like all others.
    const openai = client(family === 'fineTuning.checkpoints' ? { adminAPIKey: key } : {});
    const own = all.filter(({ path }) => path.startsWith(`${family}.`) && !APART.test(path));
    assert.ok(own.length);
    const known = { subagent_id: 'subagent_1', fine_tuned_model_checkpoint: 'checkpoint_1' }; // made by OpenAI
    for (const method of own.sort((one, other) => rank(one) - rank(other))) {
      try {
        const answer = await call(openai, method, known);
        const name = method.name === 'create' && ownId(own, method);
        if (name) known[name] = answer.id ?? answer.body?.id;
      } catch (error) {
        // Of what only OpenAI makes there is nothing: tests/compat/exceptions.py has the list.
        assert.equal(error.constructor, OpenAI.NotFoundError, `${method.path}: ${error.message}`);
        assert.match(method.path, /\.(retrieve|delete)$/);
      }
    }
  });
}

test('files for agents go up as ordinary files', async () => {
  const openai = client();
  await openai.beta.agents.environments.files.prepare({ '/workspace/one.txt': await file('one.txt') });
  const { data } = await openai.files.list({ purpose: 'user_data', limit: 1 });
  assert.equal(data[0].filename, 'one.txt');
});

test('a session of an agent is followed', async () => {
  const { sessions } = client().beta.agents;
  const { id } = await sessions.create({ environment: { type: 'none' }, status: 'idle' });
  // The simulator has no events of agents, which the client's helper finds out after it has begun to listen.
  await assert.rejects(collect(sessions.stream(id, { input: 'Hello!' })), /ended/);
});
