// testing.mjs
//	What the tests of the simulator share: a simulator in this process, a client that hides
//	nothing, and a database to work on.
import assert from 'node:assert/strict';
import http from 'node:http';
import { start } from './server.mjs';
import { PARENT_ID } from './store.mjs';

export const PARENT = PARENT_ID;
export const NEW = '2026-03-11';
export const OLD = '2025-09-03';

export const text = (content, more = {}) => [{ text: { content }, ...more }];

export const SCHEMA = {
  Name: { title: {} }, pk: { rich_text: {} }, Score: { number: {} }, Done: { checkbox: {} },
  Kind: { select: { options: [{ name: 'urgent', color: 'blue' }, { name: 'later' }] } },
  Tags: { multi_select: {} }, State: { status: {} }, When: { date: {} }, Link: { url: {} }, Mail: { email: {} },
  Phone: { phone_number: {} }, Who: { people: {} }, Files: { files: {} }, Created: { created_time: {} },
};

// Sends one request on a connection of its own; never throws for what the answer says. Returns
// {status, json, text, headers} or {error: code}.
export function call(url, method, path, body, headers = {}) {
  return new Promise((resolve) => {
    const payload = body === undefined ? null : typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    const request = http.request(url + path, { method, agent: false, headers: {
      ...(payload === null ? {} : { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(payload) }), ...headers,
    } }, (res) => {
      const chunks = [];
      res.on('data', (chunk) => chunks.push(chunk));
      res.on('error', (e) => resolve({ error: e.code ?? 'ERROR', status: res.statusCode, text: Buffer.concat(chunks).toString() }));
      res.on('end', () => {
        const all = Buffer.concat(chunks).toString();
        let json = null;
        if ((res.headers['content-type'] ?? '').startsWith('application/json')) json = JSON.parse(all);
        resolve({ status: res.statusCode, text: all, json, headers: res.headers });
      });
    });
    request.on('error', (e) => resolve({ error: e.code ?? e.message }));
    request.end(payload);
  });
}

export class Bench {
  static async start(options = {}) {
    const bench = new Bench();
    bench.started = await start(options);
    bench.url = bench.started.url;
    bench.sim = bench.started.sim;
    bench.version = NEW;
    return bench;
  }

  stop() {
    return this.started.close();
  }

  // Everything as at the start; no handler may have failed by itself.
  async reset() {
    assert.deepEqual(this.sim.bugs, []);
    await this.ctl('POST', 'reset');
    this.version = NEW;
  }

  api(method, path, body, headers = {}) {
    return call(this.url, method, path, body, {
      Authorization: 'Bearer ntn_test', 'Notion-Version': this.version, ...headers,
    });
  }

  // As api, but the answer must be good; returns its JSON.
  async ok(method, path, body) {
    const res = await this.api(method, path, body);
    assert.equal(res.status, 200, `${method} ${path}: ${res.text ?? res.error}`);
    return res.json;
  }

  // As api, but the answer must be this error; returns its JSON.
  async refused(status, code, message, method, path, body, headers) {
    const res = await this.api(method, path, body, headers);
    assert.equal(res.status, status, res.text);
    assert.equal(res.json.object, 'error');
    assert.equal(res.json.status, status);
    assert.equal(res.json.code, code);
    assert.match(res.json.request_id, /^[0-9a-f-]{36}$/);
    if (message instanceof RegExp) assert.match(res.json.message, message);
    else if (message !== null) assert.equal(res.json.message, message);
    return res.json;
  }

  async ctl(method, path, body) {
    const res = await call(this.url, method, `/_sim/${path}`, body);
    assert.equal(res.status, 200, res.text);
    return res.json ?? res.text.split('\n').filter(Boolean).map((line) => JSON.parse(line));
  }

  edit(edit) {
    return this.ctl('POST', 'edit', edit);
  }

  ledger() {
    return this.ctl('GET', 'ledger');
  }

  // Makes a database; returns {database, ds, ids: {name: property id}}.
  async table(properties = SCHEMA, title = 'table') {
    const database = await this.ok('POST', '/v1/databases', {
      parent: { type: 'page_id', page_id: PARENT }, title: text(title), initial_data_source: { properties },
    });
    const ds = database.data_sources[0].id;
    const source = await this.ok('GET', `/v1/data_sources/${ds}`);
    const ids = Object.fromEntries(Object.entries(source.properties).map(([name, p]) => [name, p.id]));
    return { database: database.id, ds, ids, source };
  }

  row(ds, properties = {}) {
    return this.ok('POST', '/v1/pages', { parent: { type: 'data_source_id', data_source_id: ds }, properties });
  }

  patch(id, properties) {
    return this.ok('PATCH', `/v1/pages/${id}`, { properties });
  }

  query(ds, body = {}) {
    return this.ok('POST', `/v1/data_sources/${ds}/query`, body);
  }

  // Reads a query to its end; returns the pages.
  async all(ds, body = {}) {
    const pages = [];
    let cursor;
    do {
      const list = await this.query(ds, { ...body, ...(cursor ? { start_cursor: cursor } : {}) });
      pages.push(...list.results);
      cursor = list.has_more ? list.next_cursor : undefined;
    } while (cursor);
    return pages;
  }
}
