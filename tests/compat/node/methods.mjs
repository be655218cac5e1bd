// The client's methods, and a way to see which of them the suite has called, as in tests/compat/methods.py.
//
// Run by itself it prints the paths of all that a client can do beside the administrative operations, as JSON.

import { AsyncLocalStorage } from 'node:async_hooks';
import { readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import OpenAI from 'openai';

export const HEADER = 'x-client-request-id';
const WHO = 'node';
const inside = new AsyncLocalStorage();
const isResource = (value) => value && typeof value === 'object' && '_client' in value;

/** {path, prototype, name, parameters} of every method of a resource and of those below it. */
export function* methods(resource, path) {
  const prototype = Object.getPrototypeOf(resource);
  for (const name of Object.getOwnPropertyNames(prototype)) {
    if (name === 'constructor' || name.startsWith('_')) continue;
    yield { path: `${path}.${name}`, prototype, name, parameters: parametersOf(prototype[name]) };
  }
  for (const [below, value] of Object.entries(resource)) {
    if (isResource(value)) yield* methods(value, `${path}.${below}`);
  }
}

/** The names of a function's parameters; `_` for one that is taken apart. */
function parametersOf(method) {
  const [, list] = /^(?:async )?\w+\(([^)]*)\)/.exec(method.toString());
  const whole = list.replaceAll(/\{[^}]*\}|\[[^\]]*\]/g, '_');
  return whole.split(',').map((part) => part.trim().split(' ')[0]).filter(Boolean);
}

function* proxied(openai) {
  for (const [name, value] of Object.entries(openai)) {
    if (isResource(value) && name !== 'admin') yield* methods(value, name);
  }
}

/** All methods of the client that are not administrative. */
export const all = [...proxied(new OpenAI({ apiKey: 'none', adminAPIKey: 'none' }))];

/** From now on each call says in X-Client-Request-Id which methods it came through, unless the test says something. */
export function tagAll() {
  for (const { path, prototype, name, parameters } of all) {
    const own = prototype[name];
    const at = parameters.indexOf('options'); // the methods without call others
    prototype[name] = function (...given) {
      const names = [...new Set([...(inside.getStore() ?? []), path])];
      if (at >= 0) {
        given.length = Math.max(given.length, at + 1);
        given[at] = tagged(given[at], names);
      }
      return inside.run(names, () => own.apply(this, given));
    };
  }
}

function tagged(options, names) {
  const headers = options?.headers;
  if (headers?.values instanceof Headers) return options; // the client's own form: a method above has been here
  const [who, ...above] = (headers?.[HEADER] ?? WHO).split(' ');
  if (who !== WHO) return options;
  return { ...options, headers: { ...headers, [HEADER]: [who, ...new Set([...above, ...names])].join(' ') } };
}

/** Options for a socket of the client's, which then says that it is one of this module of the package. */
export const socketOf = (module) => ({ headers: { [HEADER]: `${WHO} ${module}` } });

/** The modules of the package that have sockets, as in `import 'openai/…'`. */
function sockets() {
  const root = dirname(fileURLToPath(import.meta.resolve('openai')));
  return readdirSync(root, { recursive: true })
    .map((file) => file.replaceAll('\\', '/'))
    .filter((file) => /(^|\/)(ws|websocket)\.mjs$/.test(file) && !/^(internal|src)\//.test(file))
    .map((file) => file.replace(/\.mjs$/, ''));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  console.log(JSON.stringify({ methods: all.map(({ path }) => path), sockets: sockets() }));
}
