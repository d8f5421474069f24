// limits.mjs
//	Rate windows: so many requests in 60 seconds for each connection and for the whole workspace.
//	How the service aligns its windows is not known, so there are three ways:
//	fixed_minute   the window is the minute of the clock
//	fixed_first    the window begins with the first request after the last one ended
//	sliding        no 60 seconds, wherever they begin, hold more
//	Times are those of the workspace's clock. A refused request does not count.
import { ApiError } from './checks.mjs';

const WINDOW_MS = 60000;
const KINDS = new Set(['fixed_minute', 'fixed_first', 'sliding']);
const REASONS = {
  connection: 'public_api_request_rate_limit',
  workspace: 'public_api_space_request_rate_limit',
  endpoint: 'public_api_endpoint_rate_limit',
  blocked: 'public_api_request_blocked',
};

// The answer 429, its wait in the header and in the body.
export function rateLimited(reason, seconds) {
  return new ApiError(429, 'rate_limited', 'You have been rate limited. Please try again in a few minutes.',
    { rate_limit_reason: reason, ...(seconds === null ? {} : { retry_after: String(seconds) }) }, seconds);
}

class Window {
  constructor() {
    this.start = -Infinity;
    this.count = 0;
    this.times = []; // of a sliding window, with a head to avoid shifting
    this.head = 0;
  }

  // Returns 0 and counts the request, or the ms until one may come.
  take(kind, limit, now) {
    if (kind === 'sliding') return this.takeSliding(limit, now);
    const start = kind === 'fixed_minute' ? now - (now % WINDOW_MS)
      : now >= this.start + WINDOW_MS || now < this.start ? now : this.start;
    if (start !== this.start) {
      this.start = start;
      this.count = 0;
    }
    if (this.count >= limit) return this.start + WINDOW_MS - now;
    this.count++;
    return 0;
  }

  takeSliding(limit, now) {
    const { times } = this;
    while (this.head < times.length && times[this.head] <= now - WINDOW_MS) this.head++;
    if (this.head > 1000) {
      times.splice(0, this.head);
      this.head = 0;
    }
    if (times.length - this.head >= limit) return times[this.head] + WINDOW_MS - now;
    times.push(now);
    return 0;
  }

  // A request that another window refused does not count here.
  giveBack(kind) {
    if (kind === 'sliding') this.times.pop();
    else this.count--;
  }

  used(kind, now) {
    if (kind === 'sliding') return this.times.filter((t) => t > now - WINDOW_MS).length;
    return now < this.start + WINDOW_MS ? this.count : 0;
  }
}

export class Limits {
  constructor(limit) {
    this.first = limit;
    this.reset();
  }

  reset() {
    this.window = 'fixed_minute';
    this.limit = this.first; // 0: none
    this.workspaceLimit = 0;
    this.workspaceRetryAfter = null;
    this.endpoints = [];     // {method, path, limit}
    this.blocked = false;
    this.refused = 0;
    this.forget();
  }

  forget() {
    this.windows = new Map();
    this.workspace = new Window();
  }

  // Takes settings as POST /_sim/limits brings them; throws TypeError for nonsense.
  set(given) {
    for (const key in given) {
      if (!['window', 'limit', 'workspace_limit', 'workspace_retry_after', 'endpoints', 'blocked'].includes(key)) {
        throw new TypeError(`limits: there is no setting ${key}`);
      }
    }
    const number = (value, name) => {
      if (!Number.isInteger(value) || value < 0) throw new TypeError(`limits: ${name} must be a number from 0`);
      return value;
    };
    if (given.window !== undefined) {
      if (!KINDS.has(given.window)) throw new TypeError(`limits: window must be one of ${[...KINDS].join(', ')}`);
      this.window = given.window;
    }
    if (given.limit !== undefined) this.limit = number(given.limit, 'limit');
    if (given.workspace_limit !== undefined) this.workspaceLimit = number(given.workspace_limit, 'workspace_limit');
    if (given.workspace_retry_after !== undefined) this.workspaceRetryAfter = given.workspace_retry_after;
    if (given.blocked !== undefined) this.blocked = Boolean(given.blocked);
    if (given.endpoints !== undefined) {
      this.endpoints = given.endpoints.map((e) => ({
        method: e.method ?? null, path: new RegExp(e.path), limit: number(e.limit, 'limit'), window: new Window(),
      }));
    }
    this.forget();
  }

  // Counts a request; throws the answer 429 when a window is full.
  take(connection, method, path, now) {
    if (this.blocked) {
      this.refused++;
      throw rateLimited(REASONS.blocked, null);
    }
    const taken = [];
    const limit = connection.limit ?? this.limit;
    if (limit > 0) {
      let window = this.windows.get(connection.id);
      if (!window) this.windows.set(connection.id, window = new Window());
      this.takeOne(window, limit, REASONS.connection, taken, now);
    }
    if (this.workspaceLimit > 0) {
      this.takeOne(this.workspace, this.workspaceLimit, REASONS.workspace, taken, now, this.workspaceRetryAfter);
    }
    for (const e of this.endpoints) {
      if ((e.method === null || e.method === method) && e.path.test(path)) {
        this.takeOne(e.window, e.limit, REASONS.endpoint, taken, now);
      }
    }
  }

  takeOne(window, limit, reason, taken, now, retryAfter = null) {
    const wait = window.take(this.window, limit, now);
    if (wait === 0) {
      taken.push(window);
      return;
    }
    for (const other of taken) other.giveBack(this.window);
    this.refused++;
    throw rateLimited(reason, retryAfter ?? Math.max(1, Math.ceil(wait / 1000)));
  }

  show(now, connections) {
    return {
      window: this.window, limit: this.limit, workspace_limit: this.workspaceLimit, blocked: this.blocked,
      endpoints: this.endpoints.map((e) => ({ method: e.method, path: e.path.source, limit: e.limit })),
      refused: this.refused,
      used: Object.fromEntries([...connections].map((c) =>
        [c.fingerprint, this.windows.get(c.id)?.used(this.window, now) ?? 0])),
    };
  }
}
