// faults.mjs
//	Faults by rule. A rule names requests (method, path, which of them) and what becomes of them.
//	Whether the request still takes effect is part of the rule: an answer that is lost after the
//	effect is the case that makes clients write twice.
import { ApiError, notFound } from './checks.mjs';
import { rateLimited } from './limits.mjs';

const KEYS = new Set(['method', 'path', 'body', 'nth', 'count', 'after', 'probability', 'action', 'status', 'code', 'message',
  'retry_after', 'reason', 'ms', 'when', 'bytes', 'url', 'commit', 'edit', 'html', 'chunk']);
const STATUS_TEXT = {
  400: ['validation_error', 'body failed validation.'],
  401: ['unauthorized', 'API token is invalid.'],
  403: ['restricted_resource', 'Insufficient permissions for this endpoint.'],
  404: ['object_not_found', 'Could not find object.'],
  409: ['conflict_error', 'Conflict occurred while saving. Please try again.'],
  500: ['internal_server_error', 'Unexpected error occurred.'],
  502: ['bad_gateway', 'Bad Gateway'],
  503: ['service_unavailable', 'Notion is unavailable, please try again later.'],
  504: ['gateway_timeout', 'Gateway Timeout'],
  529: ['service_overload', 'Notion is overloaded, please try again later.'],
};
const WORDS = new Set(['429', '502html', '503_committed', 'reset_before', 'reset_after', 'delay', 'truncate', 'redirect',
  'html200', 'stall', 'slow', 'edit', 'empty', ...Object.keys(STATUS_TEXT)]);
// Actions whose request takes effect unless the rule says `commit: false`.
const COMMITTED = new Set(['503_committed', 'reset_after', 'truncate', 'slow', 'delay', 'edit']);

const HTML = '<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head>\n' +
  '<body><center><h1>502 Bad Gateway</h1></center><hr><center>cloudflare</center></body></html>\n';
const HTML_OK = '<!DOCTYPE html>\n<html><head><title>Sign in to the network</title></head>\n' +
  '<body><h1>Please sign in</h1></body></html>\n';

export class Faults {
  constructor(store) {
    this.store = store;
    this.rules = [];
    this.nextId = 1;
  }

  clear() {
    this.rules = [];
  }

  // Adds a rule; throws TypeError when it makes no sense, so that a test does not pass by a typing
  // error.
  add(given) {
    for (const key in given) if (!KEYS.has(key)) throw new TypeError(`faults: there is no field ${key}`);
    const action = String(given.action ?? given.status ?? '');
    if (!WORDS.has(action)) throw new TypeError(`faults: there is no action ${action}`);
    if (action === 'redirect' && typeof given.url !== 'string') throw new TypeError('faults: redirect needs url');
    if ((action === 'delay') && typeof given.ms !== 'number') throw new TypeError('faults: delay needs ms');
    if (action === 'edit' && !given.edit) throw new TypeError('faults: edit needs edit');
    const rule = {
      ...given, action, id: this.nextId++, seen: 0, hits: 0, pattern: given.path === undefined ? null : new RegExp(given.path),
      bodyPattern: given.body === undefined ? null : new RegExp(given.body),
      // default: once for nth, else until it is taken back
      left: given.count ?? (given.nth !== undefined ? 1 : Infinity),
      when: given.when ?? 'before',
      commit: given.commit ?? COMMITTED.has(action),
    };
    this.rules.push(rule);
    return rule;
  }

  remove(id) {
    const before = this.rules.length;
    this.rules = this.rules.filter((rule) => rule.id !== id);
    return this.rules.length < before;
  }

  list() {
    return this.rules.map(({ pattern, bodyPattern, left, ...rule }) => ({ ...rule, left: left === Infinity ? null : left }));
  }

  // Returns the first rule that strikes this request, or null. Every rule counts the requests that
  // it names; `nth` is the first of them that it strikes, `after` how many it lets go.
  match(x) {
    let struck = null;
    for (const rule of this.rules) {
      if (rule.method && rule.method !== x.method) continue;
      if (rule.pattern && !rule.pattern.test(x.path)) continue;
      if (rule.bodyPattern && !rule.bodyPattern.test(x.bodyText)) continue;
      rule.seen++;
      if (struck || rule.left <= 0) continue;
      const first = rule.nth ?? (rule.after ?? 0) + 1;
      if (rule.seen < first) continue;
      if (rule.probability !== undefined && !this.store.chance.happens(rule.probability)) continue;
      rule.left--;
      rule.hits++;
      struck = rule;
    }
    return struck;
  }
}

const GUIDANCE = [
  'The request may have been applied. Read the object again before you decide what to do.',
  'Do not repeat the request without having read the object.',
];

// Returns the answer of a rule as {status, error} or {status, html} or {raw...}; `done` is what the
// request really did, null when it took no effect.
export function faultAnswer(rule, x, done) {
  const status = Number.parseInt(rule.action, 10);
  switch (rule.action) {
    case '429': return { error: rateLimited(rule.reason ?? 'public_api_request_rate_limit', rule.retry_after ?? 1) };
    case '502html': return { status: 502, html: rule.html ?? HTML };
    case 'html200': return { status: 200, html: rule.html ?? HTML_OK };
    case '503_committed': return { error: committedError(x, done) };
    case '503': return { error: x.isQuery ? queryError() : errorOf(503, rule) };
    case 'redirect': return { status: rule.status ?? 307, location: rule.url };
    default: return { error: rule.action === '404' && !rule.message ? notFound('page', x.path.split('/')[3], x.connection ?? { name: 'angles' })
      : errorOf(status, rule) };
  }
}

function errorOf(status, rule) {
  const [code, message] = STATUS_TEXT[status];
  const retryAfter = rule.retry_after ?? null;
  return new ApiError(status, rule.code ?? code, rule.message ?? message,
    retryAfter === null ? undefined : { retry_after: String(retryAfter) }, retryAfter);
}

// The service had done it when its own time ran out (reference, appendix A2).
function committedError(x, done) {
  const additional = { from: 'public_api', elapsed_ms: '55012', deadline_ms: '55000', retry_guidance: GUIDANCE };
  const id = done && done.status < 300 ? x.resourceId : null;
  if (id && (x.method === 'POST' || x.childIds)) additional.committed_resource_id = id;
  if (x.childIds) additional.committed_child_ids = x.childIds;
  return new ApiError(503, 'service_unavailable', STATUS_TEXT[503][1], additional);
}

function queryError() {
  return new ApiError(503, 'service_unavailable', STATUS_TEXT[503][1], {
    endpoint_name: 'public_queryDataSource', notion_error_name: 'QueryTimeout',
    retry_guidance: ['Wait before the next try.', 'Ask for a smaller page_size or use a narrower filter.'],
  });
}
