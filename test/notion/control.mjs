// control.mjs
//	The control interface under /_sim/ : for tests and for the web page, never for clients of the
//	API. It answers JSON, or JSON lines for the ledger and the requests. README.md lists it.
import fs from 'node:fs';
import { EditError, applyEdit, plainPage } from './edit.mjs';
import { CAPABILITIES, DEFAULT_SETTINGS, sourceName } from './store.mjs';
import { simpleValue } from './values.mjs';

class ControlError extends Error {}

const RESETS = ['state', 'ledger', 'faults', 'limits', 'clock', 'settings', 'tokens', 'webhooks'];

// ---- what can be asked ----

function reset(sim, given) {
  const only = given.only ?? RESETS;
  for (const part of only) {
    if (!RESETS.includes(part)) throw new ControlError(`reset: there is no part ${part}`);
  }
  const has = (part) => only.includes(part);
  if (has('settings')) sim.store.settings = { ...DEFAULT_SETTINGS };
  if (has('clock')) sim.store.clock.reset();
  if (has('tokens')) sim.resetTokens();
  if (has('state')) sim.clearState();
  if (has('ledger')) sim.log.clear();
  if (has('faults')) sim.faults.clear();
  if (has('limits')) sim.limits.reset();
  if (has('webhooks')) sim.webhooks?.clear();
  return { ok: true };
}

function clock(sim, given) {
  const { clock: c } = sim.store;
  for (const key in given) {
    if (!['set', 'advance', 'freeze'].includes(key)) throw new ControlError(`clock: there is no field ${key}`);
  }
  if (given.set !== undefined) {
    const ms = typeof given.set === 'number' ? given.set : Date.parse(given.set);
    if (!Number.isFinite(ms)) throw new ControlError('clock: set must be a time');
    c.set(ms);
  }
  if (given.freeze !== undefined) c.freeze(Boolean(given.freeze));
  if (given.advance !== undefined) {
    if (!Number.isFinite(given.advance)) throw new ControlError('clock: advance must be milliseconds');
    c.advance(given.advance);
  }
  return showClock(sim);
}

const showClock = (sim) => {
  const now = sim.store.clock.now();
  return { now: new Date(now).toISOString(), ms: now, frozen: sim.store.clock.frozen !== null };
};

function settings(sim, given) {
  for (const key in given) {
    if (!(key in DEFAULT_SETTINGS)) throw new ControlError(`settings: there is no setting ${key}`);
    sim.store.settings[key] = given[key] === null ? DEFAULT_SETTINGS[key] : given[key];
  }
  return sim.store.settings;
}

function lag(sim, given) {
  if (!Number.isFinite(given.ms) || given.ms < 0) throw new ControlError('lag: ms must be a number from 0');
  return settings(sim, { lag_ms: given.ms });
}

// Adds a connection or changes one.
function token(sim, given) {
  if (typeof given.token !== 'string') throw new ControlError('tokens: token is missing');
  const capabilities = given.capabilities ?? CAPABILITIES;
  for (const c of capabilities) if (!CAPABILITIES.includes(c)) throw new ControlError(`tokens: there is no capability ${c}`);
  return showToken(sim.addToken(given.token, { ...given, capabilities }));
}

const showToken = (c) => ({
  fingerprint: c.fingerprint, name: c.name, id: c.id, bot_id: c.botId, revoked: c.revoked,
  capabilities: [...c.capabilities], limit: c.limit,
});

// ---- figures ----

// Returns the most requests that came within any 60 seconds.
function busiest(requests) {
  let most = 0;
  for (let first = 0, last = 0; last < requests.length; last++) {
    while (requests[last].t - requests[first].t >= 60e6) first++;
    most = Math.max(most, last - first + 1);
  }
  return most;
}

function stats(sim) {
  const { requests } = sim.log;
  const byStatus = {};
  for (const r of requests) byStatus[r.status] = (byStatus[r.status] ?? 0) + 1;
  return {
    requests: requests.length, mutations: sim.log.ledger.length, by_status: byStatus,
    max_in_60s: busiest(requests), max_served_in_60s: busiest(requests.filter((r) => r.status !== 429)),
    pages: sim.store.pages.size, data_sources: sim.store.dataSources.size, bugs: sim.bugs,
  };
}

const showLimits = (sim) => sim.limits.show(sim.store.clock.now(), sim.store.connections.values());

// ---- state ----

function countRows(source) {
  let n = 0;
  for (const page of source.pages) if (!page.trashed) n++;
  return n;
}

function plainSource(source, store) {
  return {
    id: source.id, database_id: source.databaseId, name: sourceName(source), in_trash: store.inTrash(source), rows: countRows(source),
    edited: new Date(source.edited).toISOString(), shared: source.hidden === null,
    properties: source.properties.map((p) => ({
      id: p.eid, name: p.name, type: p.type, ...(p.options ? { options: p.options.map((o) => ({ id: o.id, name: o.name, color: o.color })) } : {}),
      ...(p.target ? { data_source_id: p.target } : {}), ...(p.format ? { format: p.format } : {}), description: p.description,
    })),
  };
}

const plainDatabase = (store, d) => ({
  id: d.id, title: sourceName({ title: d.title }), description: sourceName({ title: d.description }), in_trash: store.inTrash(d),
  parent: store.showParent(d), data_source_ids: d.dataSourceIds, shared: d.hidden === null,
});

function state(sim) {
  const { store } = sim;
  return {
    version: store.version, clock: showClock(sim), settings: store.settings, limits: showLimits(sim), bugs: sim.bugs,
    connections: [...store.connections.values()].map(showToken),
    users: [...store.users.values()],
    databases: [...store.databases.values()].map((d) => plainDatabase(store, d)),
    data_sources: [...store.dataSources.values()].map((s) => plainSource(s, store)),
    pages: [...store.pages.values()].map((p) => plainPage(store, p)),
  };
}

// ---- for the web page ----

function tables(sim) {
  const { store } = sim;
  return {
    version: store.version, clock: showClock(sim), limits: showLimits(sim), requests: sim.log.count,
    mutations: sim.log.ledger.length, persons: [...store.users.values()].filter((u) => u.type === 'person'),
    tables: [...store.dataSources.values()].map((s) => plainSource(s, store)),
  };
}

function table(sim, params) {
  const { store } = sim;
  const source = store.dataSources.get(params.get('id'));
  if (!source) throw new ControlError('there is no such table');
  const offset = Number(params.get('offset') ?? 0);
  const limit = Math.min(Number(params.get('limit') ?? 100), 500);
  const words = (params.get('find') ?? '').toLowerCase();
  const trashed = params.get('trash') === '1';
  const rows = [];
  let found = 0;
  const pages = params.get('order') === 'new' ? [...source.pages].reverse() : source.pages;
  for (const page of pages) {
    if (page.trashed !== trashed) continue;
    const cells = source.properties.map((p) => cellOf(store, p, page));
    if (words && !cells.some((c) => textOfCell(c).toLowerCase().includes(words))) continue;
    if (found >= offset && rows.length < limit) {
      rows.push({ id: page.id, edited: page.edited, by: store.users.get(page.editedBy)?.name ?? '?', human: store.users.get(page.editedBy)?.type === 'person', cells });
    }
    found++;
  }
  return { ...plainSource(source, store), version: store.version, found, offset, rows };
}

const textOfCell = (cell) => (Array.isArray(cell) ? cell.map((item) => item.text ?? item).join(', ') : String(cell ?? ''));

// Returns what a cell of the web page shows.
function cellOf(store, p, page) {
  if (p.type === 'created_time') return new Date(page.created).toISOString();
  if (p.type === 'last_edited_time') return new Date(page.edited).toISOString();
  if (p.type === 'created_by') return store.users.get(page.createdBy)?.name ?? '';
  if (p.type === 'last_edited_by') return store.users.get(page.editedBy)?.name ?? '';
  const value = simpleValue(store, p, page.values.get(p.id));
  if (p.type === 'relation') {
    return value.map((id) => {
      const other = store.pages.get(id);
      return { id, text: other ? titleText(store, other) : '(gone)' };
    });
  }
  if (p.type === 'people') return value.map((id) => ({ id, text: store.users.get(id)?.name ?? '?' }));
  if (p.type === 'date' && value) return value.end ? `${value.start} → ${value.end}` : value.start;
  return value;
}

function titleText(store, page) {
  return simpleValue(store, { type: 'title' }, page.values.get('title'));
}

function changes(sim, params) {
  const since = Number(params.get('since') ?? 0);
  const { store, log } = sim;
  return {
    version: store.version, requests: log.count, mutations: log.ledger.length, clock: showClock(sim),
    ledger: log.ledger.slice(-12).filter((e) => e.ledgerSeq > since).map((e) => ({
      seq: e.ledgerSeq, t_us: e.t, method: e.method, path: e.path, status: e.status, by: e.by, op: e.by === 'human' ? JSON.parse(e.body).op : undefined,
    })),
  };
}

// ---- dispatch ----

const since = (params) => {
  const n = Number(params.get('since') ?? 0);
  if (!Number.isFinite(n)) throw new ControlError('since must be a number');
  return n;
};

const LINES = 'application/x-ndjson; charset=utf-8';

const verbs = {
  'GET ledger': (sim, body, params) => ({ type: LINES, text: sim.log.ledgerText(since(params)) }),
  'GET requests': (sim, body, params) => ({ type: LINES, text: sim.log.requestText(since(params)) }),
  'POST reset': reset,
  'GET faults': (sim) => sim.faults.list(),
  'POST faults': (sim, body) => (Array.isArray(body) ? body.map((b) => sim.faults.add(b)) : sim.faults.add(body)),
  'DELETE faults': (sim, body, params) => {
    if (params.has('id')) return { ok: sim.faults.remove(Number(params.get('id'))) };
    sim.faults.clear();
    return { ok: true };
  },
  'GET limits': showLimits,
  'POST limits': (sim, body) => {
    sim.limits.set(body);
    return showLimits(sim);
  },
  'GET clock': showClock,
  'POST clock': clock,
  'GET settings': (sim) => sim.store.settings,
  'POST settings': settings,
  'GET lag': (sim) => ({ ms: sim.store.settings.lag_ms }),
  'POST lag': lag,
  'POST edit': applyEdit,
  'GET state': state,
  'GET stats': stats,
  'GET tokens': (sim) => [...sim.store.connections.values()].map(showToken),
  'POST tokens': token,
  'DELETE cursors': (sim) => {
    sim.store.cursors.clear();
    return { ok: true };
  },
  'POST offline': (sim, body) => sim.offline(body.ms ?? 1000),
  'GET webhooks': (sim) => sim.webhooks.show(),
  'POST webhooks': (sim, body) => sim.webhooks.subscribe(body),
  'DELETE webhooks': (sim) => sim.webhooks.clear(),
  'GET tables': tables,
  'GET table': (sim, body, params) => table(sim, params),
  'GET changes': (sim, body, params) => changes(sim, params),
  'GET page': (sim, body, params) => {
    const page = sim.store.pages.get(params.get('id'));
    if (!page) throw new ControlError('there is no such page');
    return plainPage(sim.store, page);
  },
};

const FILES = { '/': ['page.html', 'text/html'], '/page.js': ['page.js', 'text/javascript'] };
const files = new Map();

export const isControl = (path) => path.startsWith('/_sim/') || Object.hasOwn(FILES, path);

// Answers a request that is not for the API: {status, type, text}.
export function control(sim, method, path, query, bodyText) {
  if (Object.hasOwn(FILES, path)) {
    const [file, type] = FILES[path];
    if (!files.has(file)) files.set(file, fs.readFileSync(new URL(`./${file}`, import.meta.url), 'utf8'));
    return { status: 200, type: `${type}; charset=utf-8`, text: files.get(file) };
  }
  const name = `${method} ${path.slice('/_sim/'.length)}`;
  const verb = Object.hasOwn(verbs, name) ? verbs[name] : null;
  if (!verb) return answer(404, { error: `there is no ${name}`, there_are: Object.keys(verbs) });
  try {
    const done = verb(sim, bodyText === '' ? {} : JSON.parse(bodyText), new URLSearchParams(query));
    return done.type === LINES ? { status: 200, ...done } : answer(200, done);
  } catch (e) {
    if (!(e instanceof ControlError || e instanceof EditError || e instanceof TypeError || e instanceof SyntaxError)) throw e;
    return answer(400, { error: e.message });
  }
}

const answer = (status, value) => ({ status, type: 'application/json; charset=utf-8', text: JSON.stringify(value, plain) });

const plain = (key, value) => (value instanceof RegExp ? value.source : value);
