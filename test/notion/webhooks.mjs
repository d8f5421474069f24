// webhooks.mjs
//	Sends events to a URL as the service does (reference, section 14): signed, without values,
//	aggregated, late; and as bad as a test wants it: twice, in disorder, or not at all.
import { createHmac, randomUUID } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';

const MAX_ATTEMPTS = 8;
const MAX_REMEMBERED = 2000;
const FIELDS = new Set(['url', 'token', 'types', 'delay_ms', 'aggregate_ms', 'duplicate', 'loss', 'disorder', 'retry_ms']);
const CREATED = /\.created$/;
const DELETED = /\.deleted$/;

export class Webhooks {
  constructor(store) {
    this.store = store;
    this.clear();
  }

  clear() {
    for (const timer of this.timers ?? []) clearTimeout(timer);
    this.timers = new Set();
    this.subscription = null;
    this.held = new Map();    // events that wait to be joined with others of the same entity
    this.deliveries = [];
    this.lost = 0;
    this.store.onEvent = null;
    return { ok: true };
  }

  // In Notion a person does this in the settings. Sends the handshake and returns the token that
  // signs what follows.
  subscribe(given) {
    for (const key in given) if (!FIELDS.has(key)) throw new TypeError(`webhooks: there is no field ${key}`);
    this.clear();
    const url = new URL(given.url);
    const s = {
      url, id: randomUUID(), token: given.token ?? `secret_${randomUUID().slice(0, 8)}`, types: given.types ?? null,
      delay: given.delay_ms ?? 0, aggregate: given.aggregate_ms ?? 0, duplicate: given.duplicate ?? 0,
      loss: given.loss ?? 0, disorder: given.disorder ?? false, retry: given.retry_ms ?? 1000,
    };
    this.subscription = s;
    this.store.onEvent = (type, entity, data, userId) => this.event(type, entity, data, userId);
    this.post(s, JSON.stringify({ verification_token: s.token }), null, () => {});
    return { subscription_id: s.id, verification_token: s.token };
  }

  show() {
    const s = this.subscription;
    return {
      subscription: s && { id: s.id, url: s.url.href }, lost: this.lost, waiting: this.timers.size, deliveries: this.deliveries,
    };
  }

  later(ms, work) {
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      work();
    }, ms);
    this.timers.add(timer);
  }

  // ---- events ----

  event(type, entity, data, userId) {
    const s = this.subscription;
    if (s.types && !s.types.includes(type)) return;
    const event = {
      type, entity: { id: entity.id, type: entity.kind }, at: this.store.clock.now(), authors: new Set([userId]),
      data: { parent: this.parentOf(entity), ...data },
    };
    if (s.aggregate === 0) {
      this.emit(s, event);
      return;
    }
    const waiting = this.held.get(entity.id);
    if (waiting) waiting.push(event);
    else {
      this.held.set(entity.id, [event]);
      this.later(s.aggregate, () => this.release(s, entity.id));
    }
  }

  // What was created and deleted within the time never happened; equal events become one.
  release(s, id) {
    const events = this.held.get(id);
    this.held.delete(id);
    if (events.some((e) => CREATED.test(e.type)) && events.some((e) => DELETED.test(e.type))) return;
    const joined = new Map();
    for (const e of events) {
      const same = joined.get(e.type);
      if (!same) {
        joined.set(e.type, e);
        continue;
      }
      same.at = e.at;
      for (const author of e.authors) same.authors.add(author);
      for (const key of ['updated_properties', 'updated_blocks']) {
        if (e.data[key]) same.data[key] = [...new Set([...same.data[key], ...e.data[key]])];
      }
    }
    for (const e of joined.values()) this.emit(s, e);
  }

  parentOf(entity) {
    const { store } = this;
    if (entity.kind === 'data_source') return { id: entity.databaseId, type: 'database' };
    if (entity.parentType === 'data_source') {
      return { id: store.dataSources.get(entity.parentId)?.databaseId, type: 'database', data_source_id: entity.parentId };
    }
    if (entity.kind === 'comment') return { id: Object.values(entity.parent)[1], type: entity.parent.type.slice(0, -3) };
    if (entity.parentType === 'page') return { id: entity.parentId, type: 'page' };
    return { id: store.showMe({ botId: '', name: '' }).bot.workspace_id, type: 'space' };
  }

  // ---- delivery ----

  emit(s, event) {
    const me = this.store.showMe({ botId: '', name: '' }).bot;
    const payload = {
      id: randomUUID(), timestamp: new Date(event.at).toISOString(), workspace_id: me.workspace_id, workspace_name: me.workspace_name,
      subscription_id: s.id, integration_id: s.id, type: event.type,
      authors: [...event.authors].map((id) => ({ id, type: this.store.users.get(id)?.type ?? 'person' })),
      attempt_number: 1, api_version: '2026-03-11', entity: event.entity, data: event.data,
    };
    const { chance } = this.store;
    if (s.loss && chance.happens(s.loss)) {
      this.lost++;
      return;
    }
    const copies = s.duplicate && chance.happens(s.duplicate) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const wait = s.delay + (s.disorder ? chance.below(4 * s.delay + 50) : 0);
      this.later(wait, () => this.deliver(s, { ...payload }));
    }
  }

  deliver(s, payload) {
    this.post(s, JSON.stringify(payload), payload, (ok) => {
      if (ok || payload.attempt_number >= MAX_ATTEMPTS || this.subscription !== s) return;
      this.later(s.retry * 2 ** (payload.attempt_number - 1), () =>
        this.deliver(s, { ...payload, attempt_number: payload.attempt_number + 1 }));
    });
  }

  post(s, text, payload, then) {
    const signature = createHmac('sha256', s.token).update(text).digest('hex');
    const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text), 'User-Agent': 'notion-webhooks' };
    if (payload) headers['X-Notion-Signature'] = `sha256=${signature}`;
    const report = (status) => {
      this.deliveries.push({
        id: payload?.id ?? null, type: payload?.type ?? 'verification', attempt: payload?.attempt_number ?? 1,
        entity: payload?.entity.id ?? null, status,
      });
      if (this.deliveries.length > MAX_REMEMBERED) this.deliveries.shift();
      then(status >= 200 && status < 300);
    };
    const request = (s.url.protocol === 'https:' ? https : http).request(s.url, { method: 'POST', headers, agent: false }, (res) => {
      res.resume();
      res.on('end', () => report(res.statusCode));
      res.on('error', () => report(0));
    });
    request.on('error', () => report(0));
    request.end(text);
  }
}
