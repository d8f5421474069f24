// sim-faults.test.mjs
//	Limits, faults, people's edits, webhooks, and what the simulator writes down: points 2, 8, 9 and
//	10 of section 17 of the reference, and the control interface.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { after, before, beforeEach, test } from 'node:test';
import { Bench, PARENT, call } from './testing.mjs';

let bench;

before(async () => {
  bench = await Bench.start();
});
after(() => bench.stop());
beforeEach(() => bench.reset());

const me = (headers) => bench.api('GET', '/v1/users/me', undefined, headers);
const fault = (rule) => bench.ctl('POST', 'faults', rule);

// ---- 17.2 limits ----

async function statuses(n) {
  const seen = [];
  for (let i = 0; i < n; i++) seen.push((await me()).status);
  return seen.join();
}

test('17.2 a window of the clock\'s minute', async () => {
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:00:43Z', freeze: true });
  await bench.ctl('POST', 'limits', { window: 'fixed_minute', limit: 3 });
  assert.equal(await statuses(4), '200,200,200,429');
  const res = await me();
  assert.equal(res.headers['retry-after'], '17');
  assert.equal(res.json.code, 'rate_limited');
  assert.deepEqual(res.json.additional_data, { rate_limit_reason: 'public_api_request_rate_limit', retry_after: '17' });
  await bench.ctl('POST', 'clock', { advance: 17000 });
  assert.equal(await statuses(4), '200,200,200,429');
});

test('17.2 a window that begins with the first request', async () => {
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:00:43Z', freeze: true });
  await bench.ctl('POST', 'limits', { window: 'fixed_first', limit: 2 });
  assert.equal(await statuses(3), '200,200,429');
  await bench.ctl('POST', 'clock', { advance: 59999 });
  assert.equal((await me()).headers['retry-after'], '1');
  await bench.ctl('POST', 'clock', { advance: 1 });
  assert.equal(await statuses(3), '200,200,429');
});

test('17.2 a sliding window', async () => {
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:00:00Z', freeze: true });
  await bench.ctl('POST', 'limits', { window: 'sliding', limit: 2 });
  assert.equal(await statuses(1), '200');
  await bench.ctl('POST', 'clock', { advance: 40000 });
  assert.equal(await statuses(2), '200,429');
  await bench.ctl('POST', 'clock', { advance: 20000 });
  assert.equal(await statuses(2), '200,429');
});

test('17.2 each connection has its window, the workspace one for all', async () => {
  await bench.ctl('POST', 'tokens', { token: 'ntn_two' });
  const two = { Authorization: 'Bearer ntn_two' };
  await bench.ctl('POST', 'limits', { limit: 2 });
  assert.equal(await statuses(3), '200,200,429');
  assert.equal((await me(two)).status, 200);
  await bench.ctl('POST', 'limits', { limit: 0, workspace_limit: 2, workspace_retry_after: 90 });
  assert.equal((await me(two)).status, 200);
  assert.equal(await statuses(2), '200,429');
  const res = await me(two);
  assert.equal(res.json.additional_data.rate_limit_reason, 'public_api_space_request_rate_limit');
  assert.equal(res.headers['retry-after'], '90');
});

test('17.2 limits of endpoints, and a connection that is blocked', async () => {
  await bench.ctl('POST', 'limits', { endpoints: [{ method: 'POST', path: '/search$', limit: 1 }] });
  await bench.ok('POST', '/v1/search', {});
  const error = await bench.refused(429, 'rate_limited', null, 'POST', '/v1/search', {});
  assert.equal(error.additional_data.rate_limit_reason, 'public_api_endpoint_rate_limit');
  assert.equal((await me()).status, 200);
  await bench.ctl('POST', 'limits', { endpoints: [], blocked: true });
  const res = await me();
  assert.equal(res.status, 429);
  assert.equal(res.json.additional_data.rate_limit_reason, 'public_api_request_blocked');
  assert.equal(res.headers['retry-after'], undefined);
});

test('17.2 what is refused does not count, and a mistake in limits is told', async () => {
  await bench.ctl('POST', 'clock', { freeze: true });
  await bench.ctl('POST', 'limits', { window: 'sliding', limit: 2, workspace_limit: 1 });
  assert.equal(await statuses(3), '200,429,429');
  await bench.ctl('POST', 'limits', { workspace_limit: 0 });
  assert.equal((await bench.ctl('GET', 'limits')).refused, 2);
  assert.equal((await call(bench.url, 'POST', '/_sim/limits', { windows: 'sliding' })).status, 400);
});

// ---- 17.8 faults ----

const create = (ds) => bench.api('POST', '/v1/pages', { parent: { data_source_id: ds }, properties: {} });

async function rowsOf(ds) {
  return (await bench.all(ds)).length;
}

test('17.8 errors of the service on demand, without effect', async () => {
  const { ds } = await bench.table();
  const cases = [['409', 'conflict_error'], ['500', 'internal_server_error'], ['503', 'service_unavailable'], ['504', 'gateway_timeout'], ['529', 'service_overload'], ['429', 'rate_limited']];
  for (const [action, code] of cases) {
    await fault({ method: 'POST', path: '^/v1/pages$', nth: 1, action, retry_after: action[1] === '2' ? 7 : undefined });
    const res = await create(ds);
    assert.equal(String(res.status), action);
    assert.equal(res.json.code, code);
    if (action[1] === '2') {
      assert.equal(res.headers['retry-after'], '7');
      assert.equal(res.json.additional_data.retry_after, '7');
    }
    await bench.ctl('DELETE', 'faults');
  }
  assert.equal(await rowsOf(ds), 0);
  const failed = (await bench.ledger()).slice(1);
  assert.deepEqual(failed.map((e) => [String(e.status), e.committed]), cases.map(([action]) => [action, false]));
});

test('17.8 the reasons of a 429', async () => {
  await fault({ action: 429, reason: 'public_api_request_blocked', count: 1 });
  assert.equal((await me()).json.additional_data.rate_limit_reason, 'public_api_request_blocked');
  assert.equal((await me()).status, 200);
});

test('17.8 rules count calls: nth, count, after, method, path', async () => {
  await fault({ method: 'GET', path: '/users/me$', nth: 2, action: 500 });
  assert.equal(await statuses(3), '200,500,200');
  await bench.ctl('DELETE', 'faults');
  await fault({ after: 1, count: 2, action: 500 });
  assert.equal(await statuses(4), '200,500,500,200');
  const [rule] = await bench.ctl('GET', 'faults');
  assert.equal(rule.hits, 2);
  assert.equal(rule.seen, 4);
  await bench.ctl('DELETE', `faults?id=${rule.id}`);
  assert.deepEqual(await bench.ctl('GET', 'faults'), []);
  for (const wrong of [{ action: 'explode' }, { action: 500, when_ever: 1 }, { action: 'delay' }, { action: 'redirect' }]) {
    assert.equal((await call(bench.url, 'POST', '/_sim/faults', wrong)).status, 400);
  }
});

test('17.8 a page of HTML in place of an answer', async () => {
  const { ds } = await bench.table();
  for (const [action, status] of [['502html', 502], ['html200', 200]]) {
    await fault({ nth: 1, action });
    const res = await create(ds);
    assert.equal(res.status, status);
    assert.match(res.headers['content-type'], /text\/html/);
    assert.equal(res.headers['x-notion-request-id'], undefined);
    assert.ok(res.headers['cf-ray']);
    await bench.ctl('DELETE', 'faults');
  }
  assert.equal(await rowsOf(ds), 0);
});

test('17.8 503 after the effect names what was made', async () => {
  const { ds } = await bench.table();
  await fault({ method: 'POST', path: '^/v1/pages$', nth: 1, action: '503_committed' });
  const res = await create(ds);
  assert.equal(res.status, 503);
  const id = res.json.additional_data.committed_resource_id;
  await bench.ok('GET', `/v1/pages/${id}`);
  assert.ok(Array.isArray(res.json.additional_data.retry_guidance));
  const entry = (await bench.ledger()).pop();
  assert.deepEqual([entry.status, entry.committed, entry.page_id, entry.fault], [503, true, id, '503_committed']);
  // a change of a page names nothing
  await fault({ method: 'PATCH', nth: 1, action: '503_committed' });
  const patched = await bench.api('PATCH', `/v1/pages/${id}`, { properties: { Score: { number: 3 } } });
  assert.equal(patched.status, 503);
  assert.equal(patched.json.additional_data.committed_resource_id, undefined);
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).properties.Score.number, 3);
  // new blocks are named one by one
  await fault({ method: 'PATCH', path: '/children$', nth: 1, action: '503_committed' });
  const blocks = await bench.api('PATCH', `/v1/blocks/${id}/children`, { children: [{ divider: {} }, { divider: {} }] });
  assert.equal(blocks.json.additional_data.committed_resource_id, id);
  assert.equal(blocks.json.additional_data.committed_child_ids.length, 2);
});

test('17.8 503 and 504 may have had their effect and not say so', async () => {
  const { ds } = await bench.table();
  await fault({ method: 'POST', path: '^/v1/pages$', count: 1, action: 503, commit: true });
  const res = await create(ds);
  assert.equal(res.json.additional_data, undefined);
  assert.equal(await rowsOf(ds), 1);
  await fault({ path: '/query$', nth: 1, action: 503 });
  const query = await bench.api('POST', `/v1/data_sources/${ds}/query`, {});
  assert.equal(query.json.additional_data.endpoint_name, 'public_queryDataSource');
});

test('17.8 connections that are reset before and after the effect', async () => {
  const { ds } = await bench.table();
  await fault({ method: 'POST', path: '^/v1/pages$', nth: 1, action: 'reset_before' });
  assert.equal((await create(ds)).error, 'ECONNRESET');
  assert.equal(await rowsOf(ds), 0);
  await bench.ctl('DELETE', 'faults');
  await fault({ method: 'POST', path: '^/v1/pages$', nth: 1, action: 'reset_after' });
  assert.equal((await create(ds)).error, 'ECONNRESET');
  assert.equal(await rowsOf(ds), 1);
  const [before_, after_] = (await bench.ledger()).slice(1);
  assert.deepEqual([before_.status, before_.committed, after_.status, after_.committed], [0, false, 0, true]);
});

test('17.8 a truncated answer, a slow one, a redirect', async () => {
  const { ds } = await bench.table();
  await fault({ path: '^/v1/pages$', nth: 1, action: 'truncate', bytes: 40 });
  const cut = await create(ds);
  assert.ok(cut.error);
  assert.equal(cut.text.length, 40);
  assert.equal(await rowsOf(ds), 1);
  await bench.ctl('DELETE', 'faults');
  await fault({ path: '/users/me$', nth: 1, action: 'slow', ms: 1, chunk: 50 });
  assert.equal((await me()).json.object, 'user');
  await fault({ path: '/users/me$', nth: 1, action: 'redirect', url: 'http://127.0.0.1:1/elsewhere' });
  const redirect = await me();
  assert.equal(redirect.status, 307);
  assert.equal(redirect.headers.location, 'http://127.0.0.1:1/elsewhere');
});

test('17.8 a delay before the effect and one after it', async () => {
  const { ds } = await bench.table();
  await fault({ method: 'POST', path: '^/v1/pages$', count: 1, action: 'delay', ms: 150, when: 'after' });
  const waiting = create(ds);
  await until(async () => (await rowsOf(ds)) === 1);
  await fault({ method: 'POST', path: '^/v1/pages$', nth: 1, action: 'delay', ms: 150 });
  const begun = Date.now();
  const second = create(ds);
  assert.equal((await waiting).status, 200);
  assert.equal((await second).status, 200);
  assert.ok(Date.now() - begun >= 149);
  assert.equal(await rowsOf(ds), 2);
});

test('17.8 no answer at all, until the client gives up', async () => {
  await fault({ path: '/users/me$', nth: 1, action: 'stall' });
  const request = http.get(`${bench.url}/v1/users/me`, { agent: false, timeout: 100, headers: { Authorization: 'Bearer ntn_test', 'Notion-Version': '2026-03-11' } });
  await once(request, 'timeout');
  request.on('error', () => {});
  request.destroy();
  assert.equal((await me()).status, 200);
});

test('17.8 offline: connections are refused for a while', async () => {
  await bench.ctl('POST', 'offline', { ms: 300 });
  await until(async () => (await me()).error === 'ECONNREFUSED');
  await until(async () => (await me()).status === 200);
});

test('17.8 TLS that the client does not trust', { skip: !fs.existsSync('/usr/bin/openssl') && 'openssl is missing' }, async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sim-tls-'));
  t.after(() => fs.rmSync(dir, { recursive: true }));
  const openssl = spawn('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2',
    '-subj', '/CN=localhost', '-keyout', `${dir}/key`, '-out', `${dir}/cert`], { stdio: 'ignore' });
  assert.deepEqual(await once(openssl, 'exit'), [0, null]);
  const secure = await Bench.start({ cert: `${dir}/cert`, key: `${dir}/key` });
  t.after(() => secure.stop());
  await assert.rejects(fetch(`${secure.url}/v1/users/me`), (e) => e.cause.code === 'DEPTH_ZERO_SELF_SIGNED_CERT');
});

test('overlapping writes to one page collide when asked to', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  await bench.ctl('POST', 'settings', { overlap_conflict: true });
  await fault({ method: 'PATCH', action: 'delay', ms: 60 });
  const both = await Promise.all([1, 2].map((n) => bench.api('PATCH', `/v1/pages/${id}`, { properties: { Score: { number: n } } })));
  assert.deepEqual(both.map((r) => r.status).sort(), [200, 409]);
});

// ---- 17.9 people ----

test('17.9 a person edits in the same minute, between a read and a write', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:00:10Z', freeze: true });
  const page = await bench.row(ds, { Score: { number: 1 } });
  await fault({ method: 'PATCH', path: '/pages/', nth: 1, action: 'edit', edit: { op: 'set', page_id: '$page', properties: { pk: 'by hand' } } });
  const after_ = await bench.patch(page.id, { Score: { number: 2 } });
  assert.equal(after_.properties.pk.rich_text[0].plain_text, 'by hand');
  assert.equal(after_.last_edited_time, page.last_edited_time);
  const bot = (await me()).json.id;
  assert.equal(after_.last_edited_by.id, bot);
  const [, , human, api] = await bench.ledger();
  assert.deepEqual([human.by, human.method, human.page_id, api.by], ['human', 'EDIT', page.id, 'api']);
});

test('17.9 rows by a person: added, copied, changed, trashed, restored', async () => {
  const { ds } = await bench.table();
  const { page_id: id } = await bench.edit({ op: 'add', data_source: 'table', properties: { Name: 'one', Score: 7, Done: true, Kind: 'later', Tags: ['x', 'y'], When: '2026-11-01', Link: 'https://example.com' } });
  const page = await bench.ok('GET', `/v1/pages/${id}`);
  assert.notEqual(page.created_by.id, (await me()).json.id);
  assert.equal(page.properties.Score.number, 7);
  assert.deepEqual(page.properties.Tags.multi_select.map((o) => o.name), ['x', 'y']);
  const copy = await bench.edit({ op: 'duplicate', page_id: id });
  assert.notEqual(copy.page_id, id);
  assert.equal((await bench.ok('GET', `/v1/pages/${copy.page_id}`)).properties.Name.title[0].plain_text, 'one');
  await bench.edit({ op: 'trash', page_id: id });
  assert.equal(await rowsOf(ds), 1);
  await bench.edit({ op: 'restore', page_id: id });
  await bench.edit({ edits: [{ op: 'set', page_id: id, properties: { Score: null } }, { op: 'set', page_id: id, properties: { pk: [{ text: { content: 'bold' }, annotations: { bold: true } }] } }] });
  const changed = await bench.ok('GET', `/v1/pages/${id}`);
  assert.equal(changed.properties.Score.number, null);
  assert.equal(changed.properties.pk.rich_text[0].annotations.bold, true);
  for (const wrong of [{ op: 'burn' }, { op: 'set', page_id: PARENT, properties: { Nothing: 1 } }, { op: 'trash', page_id: 'x' }]) {
    assert.equal((await call(bench.url, 'POST', '/_sim/edit', wrong)).status, 400);
  }
  assert.equal((await bench.ctl('GET', 'state')).pages.find((p) => p.id === id).values.Kind, 'later');
});

test('17.9 a schema changed by a person', async () => {
  const { ds } = await bench.table();
  const edit = (op, more) => bench.edit({ op, data_source_id: ds, ...more });
  await edit('add_property', { name: 'Extra', type: 'number' });
  await edit('delete_property', { property: 'Mail' });
  await edit('add_option', { property: 'State', name: 'Blocked', group: 'In progress' });
  await edit('delete_option', { property: 'Kind', option: 'later' });
  await edit('add_property', { name: 'No', type: 'unique_id', config: { prefix: 'T' } });
  const { properties } = await bench.ok('GET', `/v1/data_sources/${ds}`);
  assert.equal(properties.Extra.type, 'number');
  assert.equal(properties.Mail, undefined);
  assert.ok(properties.State.status.options.some((o) => o.name === 'Blocked'));
  assert.deepEqual(properties.Kind.select.options.map((o) => o.name), ['urgent']);
  const page = await bench.row(ds);
  assert.deepEqual(page.properties.No.unique_id, { prefix: 'T', number: 1 });
});

// ---- 17.10 webhooks ----

// A receiver: {url, events, close}.
async function receiver(answer = () => 200) {
  const events = [];
  const server = http.createServer((req, res) => {
    let body = '';
    req.on('data', (chunk) => { body += chunk; });
    req.on('end', () => {
      events.push({ body, json: JSON.parse(body), signature: req.headers['x-notion-signature'] });
      res.writeHead(answer(events.length)).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { url: `http://127.0.0.1:${server.address().port}/hook`, events, close: () => server.close() };
}

// Waits until the condition holds.
async function until(condition) {
  const end = Date.now() + 10000;
  while (!(await condition())) {
    assert.ok(Date.now() < end, `waited in vain for ${condition}`);
    await new Promise((resolve) => { setImmediate(resolve); });
  }
}

test('17.10 events are signed and carry no values', async (t) => {
  const hook = await receiver();
  t.after(hook.close);
  const { verification_token: token } = await bench.ctl('POST', 'webhooks', { url: hook.url });
  const { ds, ids } = await bench.table();
  const { id } = await bench.row(ds);
  await bench.patch(id, { Score: { number: 77123 } });
  await bench.edit({ op: 'trash', page_id: id });
  await until(() => hook.events.some((e) => e.json.type === 'page.deleted'));
  assert.equal(hook.events[0].json.verification_token, token);
  const updated = hook.events.find((e) => e.json.type === 'page.properties_updated');
  assert.equal(updated.signature, `sha256=${createHmac('sha256', token).update(updated.body).digest('hex')}`);
  assert.deepEqual(updated.json.data.updated_properties, [ids.Score]);
  assert.equal(updated.json.data.parent.data_source_id, ds);
  assert.deepEqual(updated.json.authors, [{ id: (await me()).json.id, type: 'bot' }]);
  assert.equal(updated.body.includes('77123'), false);
  assert.equal(hook.events.find((e) => e.json.type === 'page.deleted').json.authors[0].type, 'person');
});

test('17.10 events are tried again, doubled, lost, joined', async (t) => {
  let bad = 3;
  const hook = await receiver((n) => (n > 1 && bad-- > 0 ? 500 : 200));
  t.after(hook.close);
  const { ds } = await bench.table();
  await bench.ctl('POST', 'webhooks', { url: hook.url, retry_ms: 1 });
  await until(() => hook.events.length === 1);
  await bench.row(ds);
  await until(() => hook.events.length === 5);
  assert.deepEqual(hook.events.slice(1).map((e) => e.json.attempt_number), [1, 2, 3, 4]);
  assert.equal(new Set(hook.events.slice(1).map((e) => e.json.id)).size, 1);

  await bench.ctl('POST', 'webhooks', { url: hook.url, duplicate: 1, disorder: true });
  const { id } = await bench.row(ds);
  await until(() => hook.events.filter((e) => e.json.entity?.id === id).length === 2);

  await bench.ctl('POST', 'webhooks', { url: hook.url, loss: 1 });
  await bench.row(ds);
  assert.equal((await bench.ctl('GET', 'webhooks')).lost, 1);

  await bench.ctl('POST', 'webhooks', { url: hook.url, aggregate_ms: 40 });
  const kept = await bench.row(ds);
  const gone = await bench.row(ds);
  await bench.patch(kept.id, { Score: { number: 1 } });
  await bench.patch(kept.id, { Done: { checkbox: true } });
  await bench.edit({ op: 'trash', page_id: gone.id });
  await until(async () => (await bench.ctl('GET', 'webhooks')).deliveries.filter((d) => d.entity === kept.id).length === 2);
  const mine = hook.events.filter((e) => e.json.entity?.id === kept.id).map((e) => e.json);
  assert.deepEqual(mine.map((e) => e.type).sort(), ['page.created', 'page.properties_updated']);
  assert.equal(mine.find((e) => e.type === 'page.properties_updated').data.updated_properties.length, 2);
  assert.equal(hook.events.some((e) => e.json.entity?.id === gone.id), false);
});

// ---- what is written down ----

test('the ledger holds every mutation in order, the requests everything, neither the token', async () => {
  const begun = Date.now() * 1000;
  const { ds } = await bench.table();
  const { id } = await bench.row(ds, { Score: { number: 1 } });
  await bench.query(ds);
  await bench.api('PATCH', `/v1/pages/${id}`, '{\n "properties": {"Score": {"number": 2}}\n}');
  await bench.api('PATCH', `/v1/pages/${id}`, 'not json');
  const ledger = await bench.ledger();
  assert.deepEqual(ledger.map((e) => [e.seq, e.method, e.status]), [[1, 'POST', 200], [2, 'POST', 200], [3, 'PATCH', 200], [4, 'PATCH', 400]]);
  assert.equal(ledger[1].page_id, id);
  assert.deepEqual(ledger[2].body, { properties: { Score: { number: 2 } } });
  assert.equal(ledger[3].body, 'not json');
  assert.ok(ledger.every((e) => e.t_us >= begun - 5000 && e.t_us <= Date.now() * 1000 + 5000));
  assert.deepEqual(await bench.ctl('GET', 'ledger?since=3'), [ledger[3]]);
  const requests = await bench.ctl('GET', 'requests');
  assert.equal(requests.length, 6);
  assert.deepEqual(requests.map((r) => r.ledger_seq ?? 0), [1, 0, 2, 0, 3, 4]);
  assert.equal(requests[0].headers.authorization, true);
  assert.equal(requests[0].headers['notion-version'], '2026-03-11');
  assert.equal(JSON.stringify(requests).includes('ntn_test'), false);
  const stats = await bench.ctl('GET', 'stats');
  assert.equal(stats.max_in_60s, 6);
});

test('the program: port file, record, state over a restart, a good end', async (t) => {
  const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'sim-state-'));
  t.after(() => fs.rmSync(dir, { recursive: true }));
  const server = fileURLToPath(new URL('./server.mjs', import.meta.url));
  const run = async () => {
    const child = spawn(process.execPath, [server, '--token', 'ntn_mine', '--port-file', `${dir}/port`, '--record', `${dir}/record`,
      '--state', `${dir}/state`], { stdio: ['ignore', 'pipe', 'inherit'] });
    const [line] = await once(child.stdout, 'data');
    const port = Number(fs.readFileSync(`${dir}/port`, 'utf8'));
    assert.equal(String(line), `listening http://127.0.0.1:${port}\n`);
    const client = Object.assign(new Bench(), { url: `http://127.0.0.1:${port}`, version: '2026-03-11' });
    client.api = (method, p, body) => call(client.url, method, p, body, { Authorization: 'Bearer ntn_mine', 'Notion-Version': '2026-03-11' });
    const end = async (signal) => {
      child.kill(signal);
      await once(child, 'exit');
    };
    return { client, end };
  };
  const first = await run();
  const { ds } = await first.client.table();
  const kept = await first.client.row(ds, { Score: { number: 4 }, Kind: { select: { name: 'brand new' } } });
  const gone = await first.client.row(ds);
  await first.client.edit({ op: 'purge', page_id: gone.id });
  const bot = (await first.client.ok('GET', '/v1/users/me')).id;
  await first.end('SIGTERM');
  assert.equal(fs.readFileSync(`${dir}/record`, 'utf8').trim().split('\n').length, 5);
  assert.equal(fs.readFileSync(`${dir}/record`, 'utf8').includes('ntn_mine'), false);

  const second = await run();
  const page = await second.client.ok('GET', `/v1/pages/${kept.id}`);
  assert.equal(page.properties.Kind.select.name, 'brand new');
  assert.equal((await second.client.api('GET', `/v1/pages/${gone.id}`)).status, 404);
  assert.equal((await second.client.all(ds)).length, 1);
  assert.equal((await second.client.ok('GET', '/v1/users/me')).id, bot);
  await second.client.patch(kept.id, { Score: { number: 5 } });
  await until(() => fs.readFileSync(`${dir}/state`, 'utf8').trim().split('\n').pop().includes(kept.id));
  await second.end('SIGKILL');

  const third = await run();
  assert.equal((await third.client.ok('GET', `/v1/pages/${kept.id}`)).properties.Score.number, 5);
  await third.client.ctl('POST', 'reset', {});
  await third.end('SIGTERM');
  const fourth = await run();
  assert.equal((await fourth.client.api('GET', `/v1/pages/${kept.id}`)).status, 404);
  await fourth.end('SIGTERM');
});

test('a block limit stops new pages and nothing else', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  await bench.ctl('POST', 'settings', { block_limit: 1 });
  const error = await bench.refused(403, 'restricted_resource', null, 'POST', '/v1/pages', { parent: { data_source_id: ds } });
  assert.ok(error.additional_data.block_limit);
  await bench.patch(id, { Score: { number: 1 } });
});

test('mistakes in the control interface are told', async () => {
  for (const [method, p, body] of [['POST', 'settings', { query_cup: 1 }], ['POST', 'clock', { set: 'never' }], ['POST', 'lag', { ms: -1 }],
    ['POST', 'reset', { only: ['everything'] }], ['POST', 'tokens', {}], ['POST', 'webhooks', { url: 'x' }], ['GET', 'table?id=x', undefined]]) {
    assert.equal((await call(bench.url, method, `/_sim/${p}`, body)).status, 400, p);
  }
  assert.equal((await call(bench.url, 'GET', '/_sim/nothing')).status, 404);
  assert.match((await call(bench.url, 'GET', '/')).text, /^<!DOCTYPE html>/);
});
