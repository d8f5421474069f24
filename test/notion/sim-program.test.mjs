// sim-program.test.mjs
//	The simulator as a program: arguments, the port file, the record, and the workspace on disk.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { PARENT, call, text } from './testing.mjs';

const SERVER = fileURLToPath(new URL('./server.mjs', import.meta.url));
const HEADERS = { Authorization: 'Bearer ntn_test', 'Notion-Version': '2026-03-11' };
let dir;

before(() => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'angles-sim-'));
});
after(() => fs.rmSync(dir, { recursive: true }));

// Starts the program; returns {child, url, port, end} once it says that it listens.
function run(...args) {
  const child = spawn(process.execPath, [SERVER, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  const end = (signal) => new Promise((resolve) => {
    child.once('exit', (code) => resolve(code));
    child.kill(signal);
  });
  return new Promise((resolve, reject) => {
    let said = '';
    child.once('exit', (code) => reject(new Error(`ended with ${code}: ${said}`)));
    child.stdout.on('data', (chunk) => {
      said += chunk;
      const m = /^listening (http:\/\/127\.0\.0\.1:(\d+))\n/m.exec(said);
      if (!m) return;
      child.removeAllListeners('exit');
      resolve({ child, url: m[1], port: Number(m[2]), end });
    });
  });
}

async function ok(url, method, where, body) {
  const res = await call(url, method, where, body, HEADERS);
  assert.equal(res.status, 200, res.text ?? res.error);
  return res.json;
}

async function fill(url) {
  const database = await ok(url, 'POST', '/v1/databases', {
    parent: { page_id: PARENT }, title: text('kept'), initial_data_source: { properties: {
      Name: { title: {} }, Kind: { select: {} }, Tags: { multi_select: {} }, When: { date: {} }, State: { status: {} } } },
  });
  const ds = database.data_sources[0].id;
  const page = await ok(url, 'POST', '/v1/pages', { parent: { data_source_id: ds }, properties: {
    Name: { title: text('row') }, Kind: { select: { name: 'new' } }, Tags: { multi_select: [{ name: 'a' }] },
    When: { date: { start: '2026-11-01T10:00:00Z' } } } });
  const gone = await ok(url, 'POST', '/v1/pages', { parent: { data_source_id: ds }, properties: { Name: { title: text('gone') } } });
  const lost = await ok(url, 'POST', '/v1/pages', { parent: { data_source_id: ds }, properties: {} });
  await ok(url, 'PATCH', `/v1/pages/${gone.id}`, { in_trash: true });
  await ok(url, 'POST', '/_sim/edit', { op: 'purge', page_id: lost.id });
  return { database, ds, page, gone, lost };
}

const without = ({ request_id, ...rest }) => rest;

test('a workspace on disk outlives the program, on the same port', async () => {
  const state = path.join(dir, 'state.jsonl');
  const first = await run('--port', '0', '--state', state);
  const made = await fill(first.url);
  const source = await ok(first.url, 'GET', `/v1/data_sources/${made.ds}`);
  assert.equal(await first.end('SIGTERM'), 0);
  assert.equal((await call(first.url, 'GET', '/v1/users/me', undefined, HEADERS)).error, 'ECONNREFUSED');

  const second = await run('--port', String(first.port), '--state', state);
  assert.equal(second.url, first.url);
  assert.deepEqual(without(await ok(second.url, 'GET', `/v1/data_sources/${made.ds}`)), without(source));
  assert.deepEqual(without(await ok(second.url, 'GET', `/v1/pages/${made.page.id}`)), without(made.page));
  assert.equal((await ok(second.url, 'GET', `/v1/pages/${made.gone.id}`)).in_trash, true);
  assert.equal((await call(second.url, 'GET', `/v1/pages/${made.lost.id}`, undefined, HEADERS)).status, 404);
  const rows = await ok(second.url, 'POST', `/v1/data_sources/${made.ds}/query`, { filter: { property: 'Kind', select: { equals: 'new' } } });
  assert.deepEqual(rows.results.map((p) => p.id), [made.page.id]);
  await ok(second.url, 'PATCH', `/v1/pages/${made.page.id}`, { properties: { Kind: { select: { name: 'NEW' } } } });
  const again = await ok(second.url, 'GET', `/v1/data_sources/${made.ds}`);
  assert.equal(again.properties.Kind.select.options.length, 1);
  assert.equal(await second.end('SIGTERM'), 0);
});

test('a workspace on disk outlives a program that is killed', async () => {
  const state = path.join(dir, 'killed.jsonl');
  const first = await run('--state', state);
  const made = await fill(first.url);
  // the journal is written in the background
  while (!fs.readFileSync(state, 'utf8').includes(made.page.id)) await new Promise((resolve) => { setImmediate(resolve); });
  await first.end('SIGKILL');
  const second = await run('--state', state);
  assert.deepEqual(without(await ok(second.url, 'GET', `/v1/pages/${made.page.id}`)), without(made.page));
  await second.end('SIGTERM');
});

test('without --state a new start is empty', async () => {
  const first = await run();
  const made = await fill(first.url);
  await first.end('SIGTERM');
  const second = await run('--port', String(first.port));
  assert.equal((await call(second.url, 'GET', `/v1/pages/${made.page.id}`, undefined, HEADERS)).status, 404);
  await second.end('SIGTERM');
});

test('the port file and the record', async () => {
  const portFile = path.join(dir, 'port');
  const record = path.join(dir, 'record.jsonl');
  const sim = await run('--port-file', portFile, '--record', record, '--token', 'ntn_test');
  assert.equal(fs.readFileSync(portFile, 'utf8'), `${sim.port}\n`);
  await ok(sim.url, 'GET', '/v1/users/me');
  await ok(sim.url, 'POST', '/v1/search', { query: 'x' });
  assert.equal((await call(sim.url, 'GET', '/v1/users/me', undefined, { ...HEADERS, Authorization: 'Bearer ntn_other' })).status, 401);
  await sim.end('SIGTERM');
  const written = fs.readFileSync(record, 'utf8');
  const lines = written.trimEnd().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ method, path: where, body, status }) => [method, where, body, status]), [
    ['GET', '/v1/users/me', null, 200], ['POST', '/v1/search', { query: 'x' }, 200], ['GET', '/v1/users/me', null, 401]]);
  assert.doesNotMatch(written, /ntn_/);
});

test('a wrong argument ends the program', async () => {
  const child = spawn(process.execPath, [SERVER, '--colour', 'red'], { stdio: 'ignore' });
  assert.equal(await new Promise((resolve) => { child.once('exit', resolve); }), 2);
});
