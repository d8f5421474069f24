#!/usr/bin/env node
// server.mjs
//	A simulator of the Notion API for the tests, the demo and the benchmarks of angles. Started as
//	  node server.mjs --port 0 --port-file FILE
//	it prints "listening http://127.0.0.1:PORT". README.md tells the rest.
//
//	This file is the outer part: arguments, HTTP, who may ask, which handler answers, what the
//	faults make of it, and what is written down. All work of one request is done in one go, so
//	requests never see each other half done.
import { isUtf8 } from 'node:buffer';
import { createHash, randomUUID } from 'node:crypto';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { parseArgs } from 'node:util';
import { ApiError, bad, restricted, show } from './checks.mjs';
import * as content from './content.mjs';
import { control, isControl } from './control.mjs';
import * as databases from './databases.mjs';
import { Disk } from './disk.mjs';
import { applyEdit } from './edit.mjs';
import { Faults, faultAnswer } from './faults.mjs';
import { Limits } from './limits.mjs';
import { Log, nowMicros } from './log.mjs';
import * as pages from './pages.mjs';
import { querySource, search } from './query.mjs';
import { CAPABILITIES, Store } from './store.mjs';
import { Webhooks } from './webhooks.mjs';

const VERSIONS = new Set(['2025-09-03', '2026-03-11']);
// Without --token every token with the service's prefix is a connection of its own.
const ANY_TOKEN = /^ntn_[\x21-\x7e]+$/;
const MAX_CONNECTIONS = 1000;
const JSON_TYPE = 'application/json; charset=utf-8';

// ---- the simulator as a whole ----

// Returns a uuid that always is the same for the same text: bots keep their ids over a restart.
function idOf(text) {
  const hex = createHash('sha256').update(text).digest('hex');
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-a${hex.slice(17, 20)}-${hex.slice(20, 32)}`;
}

export class Simulator {
  constructor(options = {}) {
    this.options = options;
    this.store = new Store(options.seed ?? 1);
    this.limits = new Limits(options.limit ?? 0);
    this.faults = new Faults(this.store);
    this.log = new Log(options.record ?? null, options.keep ?? 0);
    this.webhooks = new Webhooks(this.store);
    this.disk = null;
    this.inFlight = new Map(); // path -> writes that wait on a delay
    this.bugs = [];
    this.fingerprints = new Map();
    this.dateSecond = 0;
    this.dateText = '';
    this.resetTokens();
    if (options.state) this.disk = new Disk(this.store, options.state);
  }

  // Calls back when all files are written.
  close(then) {
    this.log.close(() => (this.disk ? this.disk.close(then) : then()));
  }

  resetTokens() {
    this.store.connections.clear();
    for (const token of this.options.tokens ?? []) this.addToken(token, {});
  }

  clearState() {
    this.store.clear();
    this.bugs.length = 0;
    this.disk?.restart();
  }

  // Adds a connection with this token, or changes the one that has it.
  addToken(token, given) {
    const known = this.store.connections.get(token);
    const connection = known ?? {
      id: idOf(`connection ${token}`), botId: idOf(`bot ${token}`), fingerprint: this.fingerprint(token),
      name: `angles ${this.store.connections.size + 1}`, capabilities: new Set(CAPABILITIES), revoked: false, limit: null,
    };
    if (given.name !== undefined) connection.name = given.name;
    if (given.capabilities !== undefined) connection.capabilities = new Set(given.capabilities);
    if (given.revoked !== undefined) connection.revoked = Boolean(given.revoked);
    if (given.limit !== undefined) connection.limit = given.limit;
    this.store.connections.set(token, connection);
    this.store.addBot(connection);
    return connection;
  }

  // Returns the connection that a token belongs to, undefined when the token is no good.
  connectionOf(token) {
    if (token === null) return undefined;
    const known = this.store.connections.get(token);
    if (known) return known.revoked ? undefined : known;
    if (this.options.tokens || !ANY_TOKEN.test(token) || this.store.connections.size >= MAX_CONNECTIONS) return undefined;
    return this.addToken(token, {});
  }

  // Returns the first characters of a token's digest: enough to tell tokens apart.
  fingerprint(token) {
    let short = this.fingerprints.get(token);
    if (short === undefined) {
      short = createHash('sha256').update(token).digest('hex').slice(0, 12);
      if (this.fingerprints.size < 1000) this.fingerprints.set(token, short);
    }
    return short;
  }

  // Returns the Date header: the workspace's clock, as clients see it.
  date() {
    const second = Math.floor(this.store.clock.now() / 1000);
    if (second !== this.dateSecond) {
      this.dateSecond = second;
      this.dateText = new Date(second * 1000).toUTCString();
    }
    return this.dateText;
  }
}

// ---- one request of the API ----

// What handlers get as `ctx`, and what is written down afterwards.
class Exchange {
  constructor(sim, req, res, path, query, bodyText, validText, t) {
    this.sim = sim;
    this.store = sim.store;
    this.req = req;
    this.res = res;
    this.t = t;
    this.method = req.method;
    this.path = path;
    this.query = query;
    this.bodyText = bodyText;
    this.validText = validText;
    this.badJson = false;
    this.body = undefined;
    this.connection = null;
    this.userId = null;
    this.withArchived = false;
    this.version = req.headers['notion-version'] ?? null;
    this.agent = req.headers['user-agent'] ?? null;
    const auth = req.headers.authorization;
    this.token = auth !== undefined && auth.startsWith('Bearer ') ? auth.slice(7) : null;
    this.fingerprint = this.token === null ? null : sim.fingerprint(this.token);
    this.isQuery = this.method === 'POST' && (path.endsWith('/query') || path === '/v1/search');
    this.mutation = this.method !== 'GET' && !this.isQuery;
    this.resourceId = null;
    this.pageId = null;
    this.childIds = null;
    this.errorCode = null;
    this.errorMessage = null;
    this.overlaps = false;
    this.requestId = randomUUID();
  }

  need(capability) {
    if (!this.connection.capabilities.has(capability)) {
      throw restricted(`Insufficient permissions for this endpoint. (${capability})`);
    }
  }

  // A handler names what it created or changed.
  changed(object, childIds = null) {
    this.resourceId = object.id;
    if (object.kind === 'page') this.pageId = object.id;
    this.childIds = childIds;
  }

  readBody() {
    if (this.method !== 'POST' && this.method !== 'PATCH') return;
    const max = this.store.settings.max_body;
    if (this.bodyText.length > max / 4 && Buffer.byteLength(this.bodyText) > max) {
      throw new ApiError(this.store.settings.oversize_status, 'validation_error',
        `body failed validation: body.length should be ≤ \`${max}\`, instead was \`${Buffer.byteLength(this.bodyText)}\`.`);
    }
    if (this.bodyText === '') {
      this.body = {};
      return;
    }
    try {
      if (!this.validText) throw new SyntaxError('not UTF-8');
      this.body = JSON.parse(this.bodyText);
    } catch (e) {
      if (!(e instanceof SyntaxError)) throw e;
      this.badJson = true;
      throw new ApiError(400, 'invalid_json', 'Error parsing JSON body.');
    }
    if (this.body === null || typeof this.body !== 'object' || Array.isArray(this.body)) throw bad('body', 'an object', this.body);
  }
}

// ---- routes ----

const noSuchUrl = () => new ApiError(400, 'invalid_request_url', 'Invalid request URL.');

const routes = {
  'GET users': databases.listUsers,
  'GET users/*': (ctx, id) => (id === 'me' ? databases.getMe(ctx) : databases.getUser(ctx, id)),
  'POST databases': databases.createDatabase,
  'GET databases/*': databases.getDatabase,
  'PATCH databases/*': databases.updateDatabase,
  'POST data_sources': databases.createSource,
  'GET data_sources/*': databases.getSource,
  'PATCH data_sources/*': databases.updateSource,
  'POST data_sources/*/query': querySource,
  'GET data_sources/*/templates': databases.listTemplates,
  'POST pages': pages.createPage,
  'GET pages/*': pages.getPage,
  'PATCH pages/*': pages.updatePage,
  'POST pages/*/move': pages.movePage,
  'GET pages/*/properties/*': pages.getProperty,
  'GET pages/*/markdown': content.getMarkdown,
  'PATCH pages/*/markdown': content.updateMarkdown,
  'GET blocks/*': content.getBlock,
  'DELETE blocks/*': content.deleteBlock,
  'GET blocks/*/children': content.listBlocks,
  'PATCH blocks/*/children': content.appendBlocks,
  'POST comments': content.createComment,
  'GET comments': content.listComments,
  'GET comments/*': content.getComment,
  'POST search': search,
};

function route(x) {
  const parts = x.path.split('/'); // '', 'v1', ...
  const last = parts.length - 1;
  let key = `${x.method} ${parts[2]}`;
  if (last >= 3) key += '/*';
  if (last >= 4) key += `/${parts[4]}`;
  if (last === 5) key += '/*';
  const handler = parts[1] === 'v1' && last <= 5 && Object.hasOwn(routes, key) ? routes[key] : null;
  if (!handler || parts[1] !== 'v1' || parts[3] === '') throw noSuchUrl();
  return handler(x, parts[3], parts[5]);
}

function checkVersion(x) {
  const should = x.version === null ? 'defined' : VERSIONS.has(x.version) ? null
    : [...VERSIONS].map((v) => `\`"${v}"\``).join(' or ');
  if (should === null) return;
  throw new ApiError(400, x.version === null ? 'missing_version' : 'validation_error',
    `Notion-Version header failed validation: Notion-Version header should be ${should}, instead was ${show(x.version ?? undefined)}.`);
}

// Does what the request asks for; returns {status, text, retryAfter}.
function perform(x) {
  const { sim } = x;
  try {
    const connection = sim.connectionOf(x.token);
    if (!connection) throw new ApiError(401, 'unauthorized', 'API token is invalid.');
    x.connection = connection;
    x.userId = connection.botId;
    sim.limits.take(connection, x.method, x.path, sim.store.clock.now());
    checkVersion(x);
    x.withArchived = x.version !== '2026-03-11';
    x.readBody();
    if (x.overlaps && sim.store.settings.overlap_conflict) {
      throw new ApiError(409, 'conflict_error', 'Conflict occurred while saving. Please try again.');
    }
    const text = JSON.stringify(route(x));
    return { status: 200, text: `${text.slice(0, -1)},"request_id":"${x.requestId}"}`, retryAfter: null };
  } catch (e) {
    if (e instanceof ApiError) return errorAnswer(x, e);
    // a fault of the simulator itself: tests look at the list of bugs
    sim.bugs.push(`${x.method} ${x.path}: ${e.stack}`);
    process.stderr.write(`bug: ${x.method} ${x.path}: ${e.stack}\n`);
    return errorAnswer(x, new ApiError(500, 'internal_server_error', 'Unexpected error occurred.'));
  }
}

function errorAnswer(x, e) {
  x.errorCode = e.code;
  x.errorMessage = e.message;
  const envelope = { object: 'error', status: e.status, code: e.code, message: e.message, request_id: x.requestId };
  if (e.additional !== undefined) envelope.additional_data = e.additional;
  return { status: e.status, text: JSON.stringify(envelope), retryAfter: e.retryAfter ?? null };
}

// ---- answers ----

function headersOf(x, type, length, extra = []) {
  return ['Content-Type', type, 'Content-Length', String(length), 'Date', x.sim.date(), 'x-notion-request-id', x.requestId, ...extra];
}

function send(x, answer) {
  const extra = answer.retryAfter === null || answer.retryAfter === undefined ? [] : ['Retry-After', String(answer.retryAfter)];
  x.res.writeHead(answer.status, headersOf(x, JSON_TYPE, Buffer.byteLength(answer.text), extra));
  x.res.end(answer.text);
}

// The provider's front answers without the API's headers.
function sendFront(x, status, html, extra = []) {
  x.res.writeHead(status, ['Content-Type', 'text/html; charset=UTF-8', 'Content-Length', String(Buffer.byteLength(html)),
    'Date', x.sim.date(), 'cf-ray', `${x.requestId.slice(0, 16)}-FRA`, ...extra]);
  x.res.end(html);
}

function serve(x) {
  const rule = x.sim.faults.rules.length ? x.sim.faults.match(x) : null;
  if (rule !== null) {
    strike(x, rule);
    return;
  }
  const answer = perform(x);
  x.sim.log.add(x, answer.status, x.mutation && answer.status < 300, null);
  send(x, answer);
}

// ---- faults ----

function strike(x, rule) {
  const wait = rule.ms ?? 0;
  const whole = rule.action === 'slow' || rule.action === 'stall';
  const before = rule.when === 'before' && (rule.action === 'delay' || rule.action === 'edit');
  if (before && wait > 0) {
    x.overlaps = overlap(x, 1) > 1;
    setTimeout(() => {
      work(x, rule, 0);
      overlap(x, -1);
    }, wait);
  } else work(x, rule, whole ? 0 : wait);
}

// Counts the writes to the same object that wait now, for the setting overlap_conflict.
function overlap(x, change) {
  if (!x.mutation || x.method === 'POST') return 0;
  const { inFlight } = x.sim;
  const count = (inFlight.get(x.path) ?? 0) + change;
  if (count) inFlight.set(x.path, count);
  else inFlight.delete(x.path);
  return count;
}

// Edits of a rule may say "$page" for the page that the request names.
function ruleEdit(x, rule) {
  const id = x.path.split('/')[3] ?? x.resourceId ?? '';
  applyEdit(x.sim, JSON.parse(JSON.stringify(rule.edit).replaceAll('"$page"', JSON.stringify(id))));
}

function work(x, rule, wait) {
  if (rule.edit && rule.when === 'before') ruleEdit(x, rule);
  const done = rule.commit ? perform(x) : null;
  if (rule.edit && rule.when === 'after') ruleEdit(x, rule);
  const plan = planAnswer(x, rule, done);
  x.sim.log.add(x, plan.status, x.mutation && done !== null && done.status < 300, rule.action);
  if (wait > 0) setTimeout(plan.send, wait);
  else plan.send();
}

// Returns {status, send}: what will be on the wire, and the function that puts it there.
function planAnswer(x, rule, done) {
  const { socket } = x.req;
  switch (rule.action) {
    case 'reset_before':
    case 'reset_after': return { status: 0, send: () => socket.resetAndDestroy() };
    case 'stall': return { status: 0, send: () => { if (rule.ms) setTimeout(() => socket.destroy(), rule.ms); } };
    case 'delay':
    case 'edit': {
      const answer = done ?? perform(x);
      return { status: answer.status, send: () => send(x, answer) };
    }
    case 'empty': {
      const answer = perform(x);
      const list = { ...JSON.parse(answer.text), results: [], next_cursor: null, has_more: false };
      const told = { ...answer, text: JSON.stringify(list) };
      return { status: told.status, send: () => send(x, told) };
    }
    case 'truncate': return { status: done.status, send: () => sendTruncated(x, done, rule.bytes) };
    case 'slow': return { status: done.status, send: () => sendSlowly(x, done, rule) };
    default: {
      const plan = faultAnswer(rule, x, done);
      if (plan.error) {
        const answer = errorAnswer(x, plan.error);
        return { status: answer.status, send: () => send(x, answer) };
      }
      if (plan.location) return { status: plan.status, send: () => sendFront(x, plan.status, '', ['Location', plan.location]) };
      return { status: plan.status, send: () => sendFront(x, plan.status, plan.html) };
    }
  }
}

function sendTruncated(x, answer, bytes) {
  const body = Buffer.from(answer.text);
  x.res.writeHead(answer.status, headersOf(x, JSON_TYPE, body.length));
  x.res.write(body.subarray(0, bytes ?? body.length >> 1), () => x.req.socket.destroySoon());
}

// Gives the answer bit by bit, so that only a limit of the whole time or of the speed ends it.
function sendSlowly(x, answer, rule) {
  const body = Buffer.from(answer.text);
  const chunk = rule.chunk ?? 1;
  let at = 0;
  x.res.writeHead(answer.status, headersOf(x, JSON_TYPE, body.length));
  const timer = setInterval(() => {
    x.res.write(body.subarray(at, at + chunk));
    at += chunk;
    if (at < body.length) return;
    clearInterval(timer);
    x.res.end();
  }, rule.ms ?? 100);
  x.res.on('close', () => clearInterval(timer));
}

// ---- HTTP ----

function dispatch(sim, req, res, bytes, t) {
  const { url } = req;
  const at = url.indexOf('?');
  const path = at < 0 ? url : url.slice(0, at);
  const query = at < 0 ? '' : url.slice(at + 1);
  if (isControl(path)) {
    const answer = control(sim, req.method, path, query, bytes === null ? '' : bytes.toString());
    res.writeHead(answer.status, ['Content-Type', answer.type, 'Content-Length', String(Buffer.byteLength(answer.text)),
      'Cache-Control', 'no-store']);
    res.end(answer.text);
    return;
  }
  serve(new Exchange(sim, req, res, path, query, bytes === null ? '' : bytes.toString(), bytes === null || isUtf8(bytes), t));
}

// Bodies are read to their end, but what is far beyond every limit is not kept.
function onRequest(sim, req, res) {
  const t = nowMicros();
  if (req.headers['content-length'] === undefined && req.headers['transfer-encoding'] === undefined) {
    dispatch(sim, req, res, null, t);
    return;
  }
  const most = 4 * sim.store.settings.max_body;
  let first = null;
  let more = null;
  let size = 0;
  req.on('data', (chunk) => {
    size += chunk.length;
    if (size > most) return;
    if (first === null) first = chunk;
    else (more ?? (more = [first])).push(chunk);
  });
  req.on('end', () => dispatch(sim, req, res, more ? Buffer.concat(more) : first, t));
}

// Starts listening; returns {sim, server, url, close}.
export async function start(options = {}) {
  const sim = new Simulator(options);
  const handler = (req, res) => onRequest(sim, req, res);
  const settings = { noDelay: true, keepAlive: true, keepAliveTimeout: 120000, requestTimeout: 0, headersTimeout: 0 };
  const server = options.cert
    ? https.createServer({ ...settings, cert: fs.readFileSync(options.cert), key: fs.readFileSync(options.key) }, handler)
    : http.createServer(settings, handler);
  server.on('clientError', (error, socket) => socket.destroy());
  const host = options.host ?? '127.0.0.1';
  const listen = (port) => new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, 1024, () => {
      server.off('error', reject);
      resolve();
    });
  });
  await listen(options.port ?? 0);
  const { port } = server.address();
  // Refuses connections for a while and cuts those that are open.
  sim.offline = (ms) => {
    setImmediate(() => {
      server.close();
      server.closeAllConnections();
      setTimeout(() => listen(port), ms);
    });
    return { ok: true, ms };
  };
  const close = () => new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  });
  return { sim, server, url: `${options.cert ? 'https' : 'http'}://${host}:${port}`, port, close };
}

// ---- the program ----

const USAGE = `usage: node server.mjs [--port N] [--host ADDRESS] [--token T]... [--limit 180|600|0]
  [--port-file FILE] [--state FILE] [--record FILE] [--seed N] [--keep N] [--cert FILE --key FILE]
`;

async function main() {
  const text = (short) => ({ type: 'string', ...short });
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        port: text({ default: '0' }), host: text({ default: '127.0.0.1' }), token: text({ multiple: true }),
        limit: text({ default: '0' }), 'port-file': text(), state: text(), record: text(), seed: text({ default: '1' }),
        keep: text({ default: '0' }), cert: text(), key: text(),
      },
    }));
  } catch (e) {
    process.stderr.write(`${e.message}\n${USAGE}`);
    process.exit(2);
  }
  const started = await start({
    port: Number(values.port), host: values.host, tokens: values.token, limit: Number(values.limit), state: values.state,
    record: values.record, seed: Number(values.seed), keep: Number(values.keep), cert: values.cert, key: values.key,
  });
  if (values['port-file']) {
    // whoever waits for the file must never see half of it
    fs.writeFileSync(`${values['port-file']}.new`, `${started.port}\n`);
    fs.renameSync(`${values['port-file']}.new`, values['port-file']);
  }
  process.stdout.write(`listening ${started.url}\n`);
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => started.sim.close(() => process.exit(0)));
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fs.realpathSync(new URL(import.meta.url))) await main();

