// What all files of the suite share: where the gateway is, a client for it, and ways to wait.

import assert from 'node:assert/strict';
import { after } from 'node:test';
import OpenAI from 'openai';
import { tagAll } from './methods.mjs';

const { GATEWAY_URL, GATEWAY_STRICT_URL, GATEWAY_TLS_URL, GATEWAY_KEY, GATEWAY_ADMIN_KEY } = process.env;
tagAll();
// A test that failed may have left a socket open, which would keep the process, and the report, for ever.
after(() => setTimeout(() => process.exit(1), 3000).unref());
export const key = GATEWAY_KEY;
export const strictURL = GATEWAY_STRICT_URL;
export const tlsURL = GATEWAY_TLS_URL; // the same gateway behind TLS; its certificate is in NODE_EXTRA_CA_CERTS
export const HELLO = [{ role: 'user', content: 'Hello!' }];

/** The official client, pointed at the gateway. */
export function client(options = {}) {
  return new OpenAI({
    baseURL: GATEWAY_URL,
    apiKey: GATEWAY_KEY,
    adminAPIKey: GATEWAY_ADMIN_KEY,
    maxRetries: 0,
    timeout: 30_000,
    ...options,
  });
}

/** What an async iterable gives, as an array. */
export async function collect(iterable) {
  const found = [];
  for await (const item of iterable) found.push(item);
  return found;
}

/** Waits until `check` gives something true, and returns that. */
export async function eventually(check, withinMs = 10_000) {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const value = await check();
    if (value) return value;
    assert.ok(Date.now() < deadline, `not within ${withinMs} ms: ${check}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Starts a job and does something to it that its end would forbid: again, until that comes before the end. */
export async function inTime(attempt) {
  for (let number = 0; number < 20; number += 1) {
    try {
      return await attempt();
    } catch (error) {
      if (![400, 409].includes(error.status)) throw error;
    }
  }
  return attempt();
}

/** A call that fails with just this class of the client's, this status and this code; gives the error. */
export async function refused(call, kind, status, code) {
  let answer;
  try {
    answer = await call;
  } catch (error) {
    assert.equal(error.constructor, kind, `${error.constructor.name}: ${error.message}`);
    assert.deepEqual([error.status, error.code], [status, code], error.message);
    assert.match(error.requestID ?? '', /^req_/);
    return error;
  }
  assert.fail(`not refused: ${JSON.stringify(answer).slice(0, 200)}`);
}

/** `size` bytes of which no two places look alike. */
export function pattern(size) {
  const bytes = Buffer.alloc(size);
  for (let at = 0; at + 8 <= size; at += 8) bytes.writeBigUInt64BE(BigInt(at), at);
  return bytes;
}

/** A WAV file of so many seconds of silence, in 16-bit mono at 8 kHz. */
export function wav(seconds) {
  const data = Buffer.alloc(seconds * 16_000);
  const head = Buffer.alloc(44);
  head.write('RIFF', 0);
  head.writeUInt32LE(36 + data.length, 4);
  head.write('WAVEfmt ', 8);
  head.writeUInt32LE(16, 16);
  head.writeUInt16LE(1, 20);
  head.writeUInt16LE(1, 22);
  head.writeUInt32LE(8000, 24);
  head.writeUInt32LE(16_000, 28);
  head.writeUInt16LE(2, 32);
  head.writeUInt16LE(16, 34);
  head.write('data', 36);
  head.writeUInt32LE(data.length, 40);
  return Buffer.concat([head, data]);
}
