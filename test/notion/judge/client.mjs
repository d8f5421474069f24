// client.mjs
//	The official client at work on a simulator, with a fetch of our own that looks at everything
//	that goes over the wire. What the types refuse is collected and ends the case.
import assert from 'node:assert/strict';
import { Client } from '@notionhq/client';
import { endpointOf, judgeRequest } from './requests.mjs';

export const PARENT = '00000000-0000-4000-8000-000000000001';
export const text = (content) => [{ type: 'text', text: { content } }];

const CODES = new Set(['unauthorized', 'restricted_resource', 'object_not_found', 'rate_limited', 'invalid_json',
  'invalid_request_url', 'invalid_request', 'invalid_beta', 'validation_error', 'conflict_error',
  'internal_server_error', 'service_overload', 'service_unavailable', 'gateway_timeout', 'missing_version',
  'bad_gateway', 'database_connection_unavailable']);

// Returns what is wrong with an error's body, null for nothing.
export function judgeError(status, body) {
  if (body?.object !== 'error') return 'object is not "error"';
  if (body.status !== status) return 'status in header and body differ';
  if (!CODES.has(body.code)) return `the code ${body.code} is unknown`;
  if (typeof body.message !== 'string' || body.message === '') return 'there is no message';
  if (!/^[0-9a-f-]{36}$/.test(body.request_id ?? '')) return 'there is no request_id';
  const more = body.additional_data;
  if (more === undefined) return null;
  const good = (v) => typeof v === 'string' || (Array.isArray(v) && v.every((s) => typeof s === 'string'));
  return Object.values(more).every(good) ? null : 'additional_data holds more than strings';
}

export class Bot {
  constructor(started, schemas, version) {
    this.started = started;
    this.schemas = schemas;
    this.version = version;
    this.wrong = [];
    this.seen = { requests: 0, answers: 0, errors: 0 };
    this.mayBreakTypes = false; // a case that sends what the types forbid
    this.client = this.make();
  }

  make(options = {}) {
    return new Client({
      auth: 'ntn_judge', baseUrl: this.started.url, notionVersion: this.version, timeoutMs: 5000, retry: false,
      fetch: (url, init) => this.fetch(url, init), logger: () => {}, ...options,
    });
  }

  async fetch(url, init) {
    const at = new URL(url);
    const method = (init.method ?? 'GET').toUpperCase();
    const entry = {
      method, path: at.pathname, query: at.search.slice(1), body: init.body === undefined || init.body === null ? null : JSON.parse(init.body),
    };
    this.seen.requests++;
    if (!this.mayBreakTypes) this.note('request', entry, judgeRequest(this.schemas, entry));
    const res = await fetch(url, init);
    if ((res.headers.get('content-type') ?? '').startsWith('application/json')) {
      const answer = await res.clone().json();
      this.judgeAnswer(entry, res, answer);
    }
    return res;
  }

  judgeAnswer(entry, res, answer) {
    if (res.status !== 200) {
      this.seen.errors++;
      this.note('error', entry, judgeError(res.status, answer));
      return;
    }
    this.seen.answers++;
    const endpoint = endpointOf(entry.method, entry.path);
    this.note('answer', entry, endpoint ? this.schemas.answer(endpoint.answer, answer) : 'no such endpoint');
    if (res.headers.get('x-notion-request-id') !== answer.request_id) this.note('answer', entry, 'request_id differs from the header');
    const archived = JSON.stringify(answer).includes('"archived":');
    const row = answer.object === 'page' || answer.object === 'data_source' || answer.object === 'database';
    if (row && archived !== (this.version === '2025-09-03')) this.note('answer', entry, `archived ${archived ? 'is there' : 'is absent'}`);
  }

  note(what, entry, wrong) {
    if (wrong !== null) this.wrong.push(`${what} ${entry.method} ${entry.path}: ${wrong}`);
  }

  noneWrong() {
    assert.deepEqual(this.wrong, []);
    assert.deepEqual(this.started.sim.bugs, []);
    assert.ok(this.seen.requests > 0);
  }

  // A call under /_sim/.
  async ctl(method, path, body) {
    const res = await fetch(`${this.started.url}/_sim/${path}`, { method, body: body === undefined ? undefined : JSON.stringify(body) });
    assert.equal(res.status, 200, await res.clone().text());
    return res.json();
  }

  // Returns {database, ds, source} of a new database.
  async table(properties, title = 'table') {
    const database = await this.client.databases.create({
      parent: { type: 'page_id', page_id: PARENT }, title: text(title), initial_data_source: { properties },
    });
    const source = await this.client.dataSources.retrieve({ data_source_id: database.data_sources[0].id });
    return { database, ds: source.id, source };
  }

  row(ds, properties, more = {}) {
    return this.client.pages.create({ parent: { type: 'data_source_id', data_source_id: ds }, properties, ...more });
  }

  // The call must fail with this code; returns the client's error.
  async refused(code, status, call) {
    let error = null;
    try {
      await call();
    } catch (e) {
      error = e;
    }
    assert.ok(error, `${code}: was not refused`);
    assert.equal(error.code, code, error.message);
    assert.equal(error.status, status);
    return error;
  }
}
