// The administrative operations: every method of the client reaches the control process, and no API key opens it.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import OpenAI from 'openai';
import { client, collect, key, refused } from './kit.mjs';
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
    try {
      await call();
    } catch (error) {
      assert.ok(error instanceof OpenAI.APIError && error.status >= 400 && error.status < 500, `${name}: ${error.message}`);
      assert.equal(error.type, 'invalid_request_error', name);
      assert.match(error.requestID, /^req_/, name);
    }
    assert.equal(called.length, before + 1, `${name} was retried`);
  }
  const wanted = table.filter((row) => row.plane === 'admin').map((row) => row.id);
  assert.deepEqual([...new Set(called)].sort(), wanted.sort());
});

test('an API key opens none of them', async () => {
  for (const [name, call] of calls(client({ adminAPIKey: key }))) {
    if (/^admin\.organization\.(spendLimit\.retrieve$|usage\.)/.test(name)) continue; // of what is its own
    const error = await call().then(() => assert.fail(name), (problem) => problem);
    assert.deepEqual([error.status, error.code], [401, 'insufficient_permissions'], name);
  }
});

test('the life of a project, with lists of several pages', async () => {
  const { projects } = client().admin.organization;
  const project = await projects.create({ name: 'from Node' });
  assert.equal((await projects.retrieve(project.id)).name, 'from Node');
  assert.equal((await projects.update(project.id, { name: 'of Node' })).name, 'of Node');
  const accounts = [];
  for (const name of ['a', 'b', 'c']) accounts.push(await projects.serviceAccounts.create(project.id, { name }));
  const listed = await collect(projects.serviceAccounts.list(project.id, { limit: 1 }));
  assert.deepEqual(listed.map((one) => one.id).sort(), accounts.map((one) => one.id).sort());
  const keys = await collect(projects.apiKeys.list(project.id, { limit: 1 }));
  assert.deepEqual(keys.map((one) => one.id).sort(), accounts.map((one) => one.api_key.id).sort());
  const page = await client({ apiKey: accounts[0].api_key.value }).models.list();
  assert.ok(page.data.length > 0);
  await projects.serviceAccounts.delete(accounts[0].id, { project_id: project.id });
  await refused(client({ apiKey: accounts[0].api_key.value }).models.list(), OpenAI.AuthenticationError, 401, 'invalid_api_key');
  assert.equal((await projects.archive(project.id)).status, 'archived');
  await refused(projects.update(project.id, { name: 'late' }), OpenAI.BadRequestError, 400, 'invalid_state');
});

test('admin API keys', async () => {
  const { adminAPIKeys } = client().admin.organization;
  const made = [];
  for (const name of ['a', 'b', 'c']) made.push(await adminAPIKeys.create({ name, expires_in_seconds: 3600 }));
  const ids = (await collect(adminAPIKeys.list({ limit: 1 }))).map((one) => one.id);
  assert.ok(made.every((one) => ids.includes(one.id)));
  const other = client({ adminAPIKey: made[0].value });
  assert.equal((await other.admin.organization.adminAPIKeys.retrieve(made[1].id)).name, 'b');
  for (const one of made) assert.equal((await adminAPIKeys.delete(one.id)).deleted, true);
  await refused(other.admin.organization.projects.list(), OpenAI.AuthenticationError, 401, 'invalid_api_key');
});

test('usage and costs, with pages', async () => {
  const { usage } = client().admin.organization;
  const day = 86_400;
  const start_time = Math.floor(Date.now() / 1000 / day) * day - 2 * day;
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(usage)).filter((one) => one !== 'constructor')) {
    const page = await usage[name]({ start_time, limit: 2, group_by: ['project_id'] });
    assert.deepEqual([page.object, page.data.length, page.has_more], ['page', 2, true], name);
    const last = await usage[name]({ start_time, limit: 2, group_by: ['project_id'], page: page.next_page });
    assert.deepEqual([last.data.length, last.has_more, last.next_page], [1, false, null], name);
    const own = await client({ adminAPIKey: key }).admin.organization.usage[name]({ start_time });
    assert.equal(own.data.length, 3, name);
  }
});
