// query.mjs
//	POST /v1/data_sources/{id}/query and POST /v1/search: which pages, in which order, and the
//	cursors that lead through them.
//
//	A cursor remembers the sort key of the last page that was given. So a page whose key grows while
//	somebody reads is met again, one whose key shrinks may be missed: as with the service. Where
//	keys are equal, or without a sort, the order is that of a number drawn for each query: nobody
//	can come to rely on one.
import {
  bad, badCursor, bodyPageSize, mustBeBoolean, mustBeObject, onlyKeys, plainText,
} from './checks.mjs';
import { findSource, showSource } from './databases.mjs';
import { compileFilter, compileSorts } from './filter.mjs';
import { readFilterProperties, showPage } from './pages.mjs';
import { sourceName } from './store.mjs';

const QUERY_KEYS = new Set(['filter', 'sorts', 'start_cursor', 'page_size', 'result_type', 'is_archived']);
const QUERY_KEYS_OLD = new Set([...QUERY_KEYS, 'in_trash', 'archived']);
const SEARCH_KEYS = new Set(['query', 'filter', 'sort', 'start_cursor', 'page_size']);
const MAX_CURSORS = 20000;

// ---- order ----

// Compares two entries {keys, tie, id}; empties come last whatever the direction.
function compareEntries(a, b, sorts) {
  for (let i = 0; i < sorts.length; i++) {
    const x = a.keys[i];
    const y = b.keys[i];
    if (x === y) continue;
    if (x === null) return 1;
    if (y === null) return -1;
    const c = sorts[i].compare(x, y);
    if (c !== 0) return sorts[i].down ? -c : c;
  }
  return a.tie - b.tie || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

const scramble = (key, salt) => (Math.imul(key ^ salt, 0x9e3779b1) ^ (key >>> 15)) >>> 0;

// Puts an entry into a short sorted list that never holds more than `max`.
function insert(list, entry, max, sorts) {
  if (list.length === max && compareEntries(entry, list[max - 1], sorts) >= 0) return;
  let low = 0;
  let high = list.length;
  if (high > 0 && compareEntries(entry, list[high - 1], sorts) > 0) low = high;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (compareEntries(entry, list[middle], sorts) < 0) high = middle;
    else low = middle + 1;
  }
  list.splice(low, 0, entry);
  if (list.length > max) list.pop();
}

// ---- cursors ----

function rememberCursor(store, cursor) {
  const id = store.newId();
  store.cursors.set(id, cursor);
  if (store.cursors.size > MAX_CURSORS) store.cursors.delete(store.cursors.keys().next().value);
  return id;
}

function recallCursor(store, given, signature) {
  if (given === undefined) return null;
  if (typeof given !== 'string') throw bad('body.start_cursor', 'a string or `undefined`', given);
  const cursor = store.cursors.get(given);
  if (!cursor || cursor.signature !== signature) throw badCursor(given);
  return cursor;
}

// How many of the wanted results a page of this answer holds.
function pageLength(store, wanted) {
  const short = store.settings.short_pages;
  if (!short) return wanted;
  const min = Math.max(0, short.min ?? 1);
  const max = Math.max(min, short.max ?? wanted);
  return Math.min(wanted, min + store.chance.below(max - min + 1));
}

// Chooses the results of one answer out of candidates. `match(page)` returns the indexed state of
// pages that belong to the answer, else null. Returns the common part of a list answer.
function paginate(store, candidates, match, sorts, signature, body) {
  const size = bodyPageSize(body.page_size);
  const cursor = recallCursor(store, body.start_cursor, signature);
  const salt = cursor?.salt ?? (store.settings.shuffle ? store.chance.bits() : 0);
  const cap = store.settings.query_cap;
  const given = cursor?.given ?? 0;
  const room = Math.max(0, cap - given);
  const length = Math.min(pageLength(store, size), room);
  const from = cursor?.last ?? null;
  const best = [];
  let left = 0;
  for (const object of candidates) {
    const view = match(object);
    if (view === null) continue;
    const keys = sorts.length ? sorts.map((s) => s.read(object, view)) : [];
    const tie = store.settings.shuffle ? scramble(object.shuffleKey ?? 0, salt) : object.created;
    const entry = { keys, tie, id: object.id, object, view };
    if (from && compareEntries(entry, from, sorts) <= 0) continue;
    left++;
    if (length > 0) insert(best, entry, length, sorts);
  }
  const incomplete = (cursor?.incomplete ?? false) || given + left > cap;
  const more = left > best.length && given + best.length < cap;
  const last = best[best.length - 1];
  const next = more ? rememberCursor(store, {
    signature, salt, given: given + best.length, incomplete,
    last: last ? { keys: last.keys, tie: last.tie, id: last.id } : from,
  }) : null;
  const list = { object: 'list', results: best, next_cursor: next, has_more: more };
  if (incomplete) {
    list.request_status = { type: 'incomplete', incomplete_reason: 'query_result_limit_reached' };
  }
  return list;
}

// ---- query ----

export function querySource(ctx, id) {
  const { store, body } = ctx;
  ctx.need('read_content');
  const source = findSource(ctx, id);
  onlyKeys(body, 'body', ctx.withArchived ? QUERY_KEYS_OLD : QUERY_KEYS);
  const only = readFilterProperties(source, ctx.query);
  const test = body.filter === undefined ? null : compileFilter(store, source, body.filter, 'body.filter', ctx);
  const sorts = compileSorts(source, body.sorts, 'body.sorts');
  if (body.result_type !== undefined && body.result_type !== 'page' && body.result_type !== 'data_source') {
    throw bad('body.result_type', '`"page"` or `"data_source"`', body.result_type);
  }
  const wantArchived = body.is_archived === undefined ? false : mustBeBoolean(body.is_archived, 'body.is_archived');
  const wantTrash = (body.in_trash ?? body.archived) === undefined ? false
    : mustBeBoolean(body.in_trash ?? body.archived, 'body.in_trash');
  const allTrashed = store.inTrash(source);
  const match = (page) => {
    const view = store.indexed(page);
    if (view === null || (allTrashed || view.trashed) !== wantTrash || view.archivedFlag !== wantArchived) return null;
    if (page.hidden && !store.visible(page, ctx.connection)) return null;
    return test === null || test(page, view) ? view : null;
  };
  const candidates = body.result_type === 'data_source' ? [] : source.pages;
  const signature = JSON.stringify([source.id, body.filter, body.sorts, wantArchived, wantTrash]);
  const list = paginate(store, candidates, match, sorts, signature, body);
  list.results = list.results.map(({ object, view }) => showPage(store, object, ctx, view, only));
  return { ...list, type: 'page_or_data_source', page_or_data_source: {} };
}

// ---- search ----

function readSearchFilter(body) {
  const given = body.filter;
  if (given === undefined) return { kind: null, trash: false };
  mustBeObject(given, 'body.filter');
  onlyKeys(given, 'body.filter', new Set(['property', 'value', 'in_trash']));
  if (given.value !== undefined && given.value !== 'page' && given.value !== 'data_source') {
    throw bad('body.filter.value', '`"page"` or `"data_source"`', given.value);
  }
  if (given.value !== undefined && given.property !== 'object') throw bad('body.filter.property', '`"object"`', given.property);
  return { kind: given.value ?? null, trash: given.in_trash ?? false };
}

const titleIn = (page, view) => plainText(view.values.get('title'));

// Titles that contain the words, most recently edited first.
export function search(ctx) {
  const { store, body } = ctx;
  ctx.need('read_content');
  onlyKeys(body, 'body', SEARCH_KEYS);
  const { kind, trash } = readSearchFilter(body);
  const words = body.query === undefined ? '' : String(body.query).toLowerCase();
  if (body.sort !== undefined) mustBeObject(body.sort, 'body.sort');
  const seen = store.clock.now() - store.settings.lag_ms;
  const match = (object) => {
    if (object.kind === 'data_source') {
      if (object.created > seen || store.inTrash(object) !== trash || !store.visible(object, ctx.connection)) return null;
      return sourceName(object).toLowerCase().includes(words) ? object : null;
    }
    const view = store.indexed(object);
    if (view === null || (view.trashed || store.aboveInTrash(object)) !== trash) return null;
    return titleIn(object, view).toLowerCase().includes(words) && store.visible(object, ctx.connection) ? view : null;
  };
  const sorts = [{ read: (o, view) => view.edited, compare: (a, b) => a - b, down: body.sort?.direction !== 'ascending' }];
  const candidates = [
    ...(kind === 'page' ? [] : store.dataSources.values()), ...(kind === 'data_source' ? [] : store.pages.values())];
  const signature = JSON.stringify(['search', words, body.filter, body.sort]);
  const list = paginate(store, candidates, match, sorts, signature, body);
  list.results = list.results.map(({ object, view }) =>
    (object.kind === 'page' ? showPage(store, object, ctx, view) : showSource(store, object, ctx)));
  return { ...list, type: 'page_or_data_source', page_or_data_source: {} };
}
