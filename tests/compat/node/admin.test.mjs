// The administrative operations: every method of the client reaches the control process, and no API key opens it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import OpenAI from 'openai';
import { client, key, refused } from './kit.mjs';
import { methods } from './methods.mjs';

const table = JSON.parse(readFileSync(process.env.GATEWAY_OPERATIONS, 'utf8'));
const IDS = Object.fromEntries(
  ['project', 'group', 'user', 'role', 'alert', 'api_key', 'service_account', 'workload_identity_provider', 'certificate']
    .map((name) => [`${name}_id`, `${name}_1`]),
);

/** [path, call] of every administrative method of a client, with something for each argument. */
function* calls(openai) {
  for (const { path, prototype, parameters } of methods(openai.admin, 'admin')) {
    const names = path.split('.').slice(0, -1);
    const resource = names.reduce((found, name) => found[name], openai);
    const method = prototype[path.split('.').at(-1)];
    yield [path, () => method.apply(resource, parameters.filter((name) => name !== 'options').map(madeUp))];
  }
}

/** A name for what is part of the path, an object for the rest. */
const madeUp = (name) => (/ID$/.test(name) ? `${name}_1` : { ...IDS, start_time: 1_700_000_000, name: 'x' });

function operationOf(method, url) {
  const path = new URL(url).pathname.replace(/^\/v1/, '');
  const shape = ({ path: template }) => new RegExp(`^${template.replace(/\{\w+\}/g, '[^/]+')}$`);
  const found = table.filter((row) => row.method === method && shape(row).test(path));
  const literal = found.find((row) => !row.path.includes('{'));
  return (literal ?? found[0])?.id ?? `unknown: ${method} ${path}`;
}

/** A client that notes which operations it calls. */
function noting(called, options = {}) {
  const own = (url, init) => {
    called.push(operationOf(init.method.toUpperCase(), url));
    return fetch(url, init);
  };
  return client({ maxRetries: 2, fetch: own, ...options });
}

test('every operation is answered by the control process', async () => {
  const called = [];
  for (const [name, call] of calls(noting(called))) {
    const before = called.length;
    const error = await refused(call(), OpenAI.InternalServerError, 501, 'not_implemented').catch((problem) => {
      assert.fail(`${name}: ${problem.message}`);
    });
    assert.equal(error.type, 'server_error', name);
    assert.equal(called.length, before + 1, `${name} was retried`);
  }
  const wanted = table.filter((row) => row.plane === 'admin').map((row) => row.id);
  assert.deepEqual([...new Set(called)].sort(), wanted.sort());
});

test('an API key opens none of them', async () => {
  for (const [, call] of calls(client({ adminAPIKey: key }))) {
    await refused(call(), OpenAI.AuthenticationError, 401, 'invalid_api_key');
  }
});
