// filter.mjs
//	Filters and sorts of a query, compiled once into functions of (page, view): the page, and the
//	state of it that the index knows (store.indexed).
import { bad, invalid, mustBeArray, mustBeObject, onlyKeys, plainText, uuidOf } from './checks.mjs';
import { defaultStatus, findProperty } from './schema.mjs';
import { floorMinute } from './store.mjs';
import { parseDate } from './values.mjs';

const TIMESTAMPS = new Set(['created_time', 'last_edited_time']);
const MAX_CONDITIONS = 100;
const MAX_NESTING = 2;
const DAY = 86400000;

// ---- conditions by kind of value ----

const EMPTINESS = new Set(['is_empty', 'is_not_empty']);
const TEXT = new Set(['equals', 'does_not_equal', 'contains', 'does_not_contain', 'starts_with', 'ends_with']);
const NUMBER = new Set(['equals', 'does_not_equal', 'greater_than', 'less_than', 'greater_than_or_equal_to',
  'less_than_or_equal_to']);
const DATE_BOUNDS = new Set(['equals', 'before', 'after', 'on_or_before', 'on_or_after']);
const DATE_SPANS = new Set(['this_week', 'past_week', 'past_month', 'past_year', 'next_week', 'next_month', 'next_year']);

// Returns [operator, operand] of the one condition in an object.
function onlyCondition(object, path, known) {
  mustBeObject(object, path);
  const keys = Object.keys(object);
  for (const key of keys) {
    if (!known.has(key) && !EMPTINESS.has(key)) throw bad(`${path}.${key}`, 'not present', object[key]);
  }
  if (keys.length === 0) throw bad(`${path}.${[...known][0] ?? 'is_empty'}`, 'defined', undefined);
  if (keys.length > 1) throw bad(`${path}.${keys[1]}`, 'not present', object[keys[1]]);
  const [key] = keys;
  if (EMPTINESS.has(key) && object[key] !== true) throw bad(`${path}.${key}`, '`true`', object[key]);
  return [key, object[key]];
}

function operand(value, type, path) {
  if (typeof value !== type) throw bad(path, `a ${type}`, value);
  return value;
}

function textTest(given, path, fold) {
  const [op, value] = onlyCondition(given, path, TEXT);
  if (op === 'is_empty') return (text) => text === '';
  if (op === 'is_not_empty') return (text) => text !== '';
  const wanted = fold(operand(value, 'string', `${path}.${op}`));
  switch (op) {
    case 'equals': return (text) => fold(text) === wanted;
    case 'does_not_equal': return (text) => fold(text) !== wanted;
    case 'contains': return (text) => fold(text).includes(wanted);
    case 'does_not_contain': return (text) => !fold(text).includes(wanted);
    case 'starts_with': return (text) => fold(text).startsWith(wanted);
    default: return (text) => fold(text).endsWith(wanted);
  }
}

function numberTest(given, path) {
  const [op, value] = onlyCondition(given, path, NUMBER);
  if (op === 'is_empty') return (n) => n === null;
  if (op === 'is_not_empty') return (n) => n !== null;
  const wanted = operand(value, 'number', `${path}.${op}`);
  switch (op) {
    case 'equals': return (n) => n === wanted;
    case 'does_not_equal': return (n) => n !== wanted;
    case 'greater_than': return (n) => n !== null && n > wanted;
    case 'less_than': return (n) => n !== null && n < wanted;
    case 'greater_than_or_equal_to': return (n) => n !== null && n >= wanted;
    default: return (n) => n !== null && n <= wanted;
  }
}

function checkboxTest(given, path) {
  const [op, value] = onlyCondition(given, path, new Set(['equals', 'does_not_equal']));
  const wanted = operand(value, 'boolean', `${path}.${op}`);
  return op === 'equals' ? (b) => b === wanted : (b) => b !== wanted;
}

function strings(value, path) {
  const list = Array.isArray(value) ? value : [value];
  list.forEach((item) => operand(item, 'string', path));
  return list.map((item) => item.toLowerCase());
}

// select and status: one name, or null.
function optionTest(given, path) {
  const [op, value] = onlyCondition(given, path, new Set(['equals', 'does_not_equal']));
  if (op === 'is_empty') return (name) => name === null;
  if (op === 'is_not_empty') return (name) => name !== null;
  const wanted = new Set(strings(value, `${path}.${op}`));
  return op === 'equals' ? (name) => name !== null && wanted.has(name.toLowerCase())
    : (name) => name === null || !wanted.has(name.toLowerCase());
}

// multi_select, people, relation: a list.
function listTest(given, path, normal) {
  const [op, value] = onlyCondition(given, path, new Set(['contains', 'does_not_contain']));
  if (op === 'is_empty') return (list) => list.length === 0;
  if (op === 'is_not_empty') return (list) => list.length > 0;
  const wanted = (Array.isArray(value) ? value : [value]).map((item) => normal(item, `${path}.${op}`));
  return op === 'contains' ? (list) => wanted.every((w) => list.includes(w))
    : (list) => !wanted.some((w) => list.includes(w));
}

// ---- dates ----

const day = (ms) => Math.floor(ms / DAY);

function relativeDate(word, now) {
  const at = new Date(now);
  switch (word) {
    case 'today': break;
    case 'tomorrow': at.setUTCDate(at.getUTCDate() + 1); break;
    case 'yesterday': at.setUTCDate(at.getUTCDate() - 1); break;
    case 'one_week_ago': at.setUTCDate(at.getUTCDate() - 7); break;
    case 'one_week_from_now': at.setUTCDate(at.getUTCDate() + 7); break;
    case 'one_month_ago': at.setUTCMonth(at.getUTCMonth() - 1); break;
    case 'one_month_from_now': at.setUTCMonth(at.getUTCMonth() + 1); break;
    default: return null;
  }
  return { ms: day(at.getTime()) * DAY, dateOnly: true };
}

function span(op, now) {
  const today = day(now) * DAY;
  const shift = (months) => {
    const at = new Date(today);
    at.setUTCMonth(at.getUTCMonth() + months);
    return at.getTime();
  };
  switch (op) {
    case 'this_week': {
      const start = today - new Date(today).getUTCDay() * DAY;
      return [start, start + 7 * DAY];
    }
    case 'past_week': return [today - 7 * DAY, today + DAY];
    case 'past_month': return [shift(-1), today + DAY];
    case 'past_year': return [shift(-12), today + DAY];
    case 'next_week': return [today, today + 8 * DAY];
    case 'next_month': return [today, shift(1) + DAY];
    default: return [today, shift(12) + DAY];
  }
}

// Compares to the millisecond when the bound has a time, by days when it has none.
function dateTest(given, path, store) {
  const [op, value] = onlyCondition(given, path, new Set([...DATE_BOUNDS, ...DATE_SPANS]));
  const now = store.clock.now();
  if (op === 'is_empty') return (ms) => ms === null;
  if (op === 'is_not_empty') return (ms) => ms !== null;
  if (DATE_SPANS.has(op)) {
    mustBeObject(value, `${path}.${op}`);
    const [from, to] = span(op, now);
    return (ms) => ms !== null && ms >= from && ms < to;
  }
  const bound = parseDate(value) ?? relativeDate(value, now);
  if (bound === null) throw bad(`${path}.${op}`, 'a valid ISO 8601 date string', value);
  const unit = bound.dateOnly ? day : (ms) => ms;
  const at = unit(bound.ms);
  switch (op) {
    case 'equals': return (ms) => ms !== null && unit(ms) === at;
    case 'before': return (ms) => ms !== null && unit(ms) < at;
    case 'after': return (ms) => ms !== null && unit(ms) > at;
    case 'on_or_before': return (ms) => ms !== null && unit(ms) <= at;
    default: return (ms) => ms !== null && unit(ms) >= at;
  }
}

const timeOf = (key) => (key === 'created_time' ? (page) => floorMinute(page.created) : (page, view) => floorMinute(view.edited));

// ---- filters ----

// Returns how the value of a property is read for its test.
function reader(p) {
  const { id } = p;
  switch (p.type) {
    case 'title':
    case 'rich_text': return (page, view) => plainText(view.values.get(id));
    case 'url':
    case 'email':
    case 'phone_number': return (page, view) => view.values.get(id) ?? '';
    case 'number':
    case 'unique_id': return (page, view) => view.values.get(id) ?? null;
    case 'checkbox': return (page, view) => view.values.get(id) ?? false;
    case 'select': return (page, view) => p.optionById.get(view.values.get(id))?.name ?? null;
    case 'status': return (page, view) => (p.optionById.get(view.values.get(id)) ?? defaultStatus(p))?.name ?? null;
    case 'multi_select': return (page, view) =>
      (view.values.get(id) ?? []).map((o) => p.optionById.get(o)?.name.toLowerCase());
    case 'date': return (page, view) => view.values.get(id)?.ms ?? null;
    case 'people':
    case 'relation':
    case 'files': return (page, view) => view.values.get(id) ?? [];
    case 'created_time':
    case 'last_edited_time': return timeOf(p.type);
    case 'created_by': return (page) => [page.createdBy];
    case 'last_edited_by': return (page, view) => [view.editedBy];
    default: return () => null;
  }
}

function testOf(store, p, given, path, ctx) {
  const fold = store.settings.text_filter === 'insensitive' ? (s) => s.toLowerCase() : (s) => s;
  const userId = (item, at) => (item === 'me' ? ctx.userId : mustBeId(item, at));
  switch (p.type) {
    case 'title':
    case 'rich_text':
    case 'url':
    case 'email':
    case 'phone_number': return textTest(given, path, fold);
    case 'number':
    case 'unique_id': return numberTest(given, path);
    case 'checkbox': return checkboxTest(given, path);
    case 'select':
    case 'status': return optionTest(given, path);
    case 'multi_select': return listTest(given, path, (item, at) => operand(item, 'string', at).toLowerCase());
    case 'date':
    case 'created_time':
    case 'last_edited_time': return dateTest(given, path, store);
    case 'people':
    case 'created_by':
    case 'last_edited_by': return listTest(given, path, userId);
    case 'relation': return listTest(given, path, mustBeId);
    case 'files': return listTest(given, path, () => { throw bad(path, '`is_empty` or `is_not_empty`', given); });
    default:
      // values of formulas and rollups are not computed here, so nothing can match
      mustBeObject(given, path);
      return () => false;
  }
}

function mustBeId(value, path) {
  const id = uuidOf(value);
  if (id === null) throw bad(path, 'a valid uuid', value);
  return id;
}

function propertyFilter(store, source, given, path, ctx) {
  operand(given.property, 'string', `${path}.property`);
  const p = findProperty(source, given.property);
  if (!p) throw invalid(`Could not find property with name or id: ${given.property}`);
  const types = Object.keys(given).filter((key) => key !== 'property' && key !== 'type');
  if (types.length === 0) throw bad(`${path}.${p.type}`, 'defined', undefined);
  if (types.length > 1) throw bad(`${path}.${types[1]}`, 'not present', given[types[1]]);
  const [type] = types;
  if (type !== p.type) {
    throw invalid('The property type in the database does not match the property type of the filter ' +
      `provided: database property ${p.type} does not match filter ${type}`);
  }
  const test = testOf(store, p, given[type], `${path}.${type}`, ctx);
  const read = reader(p);
  return (page, view) => test(read(page, view));
}

function timestampFilter(store, given, path) {
  const key = given.timestamp;
  if (!TIMESTAMPS.has(key)) throw bad(`${path}.timestamp`, '`"created_time"` or `"last_edited_time"`', key);
  onlyKeys(given, path, new Set(['timestamp', 'type', key]));
  const test = dateTest(given[key], `${path}.${key}`, store);
  const read = timeOf(key);
  return (page, view) => test(read(page, view));
}

// A group of equals-conditions on the same text is looked up in a set: that is how rows are found
// by their keys, a hundred at a time.
function keyLookup(store, source, list, joined) {
  if (joined !== 'or' || list.length < 4 || store.settings.text_filter !== 'exact') return null;
  const name = list[0]?.property;
  const p = typeof name === 'string' && findProperty(source, name);
  if (!p || (p.type !== 'rich_text' && p.type !== 'title' && p.type !== 'number')) return null;
  const wanted = new Set();
  for (const item of list) {
    const condition = item?.property === name && item[p.type];
    if (!condition || Object.keys(item).length !== 2 || Object.keys(condition).length !== 1) return null;
    if (typeof condition.equals !== (p.type === 'number' ? 'number' : 'string')) return null;
    wanted.add(condition.equals);
  }
  const read = reader(p);
  return (page, view) => wanted.has(read(page, view));
}

// Returns a function (page, view) that tells whether the page passes.
export function compileFilter(store, source, given, path, ctx, depth = 0) {
  mustBeObject(given, path);
  for (const joined of ['and', 'or']) {
    const list = given[joined];
    if (list === undefined) continue;
    onlyKeys(given, path, new Set([joined]));
    if (depth >= MAX_NESTING) throw bad(`${path}.${joined}`, 'not present', list);
    mustBeArray(list, `${path}.${joined}`, MAX_CONDITIONS);
    const fast = keyLookup(store, source, list, joined);
    if (fast) return fast;
    const tests = list.map((item, i) => compileFilter(store, source, item, `${path}.${joined}[${i}]`, ctx, depth + 1));
    return joined === 'and' ? (page, view) => tests.every((t) => t(page, view))
      : (page, view) => tests.some((t) => t(page, view));
  }
  if (given.timestamp !== undefined) return timestampFilter(store, given, path);
  if (given.property !== undefined) return propertyFilter(store, source, given, path, ctx);
  throw bad(`${path}.or`, 'defined', undefined);
}

// ---- sorts ----

const text = (a, b) => {
  const x = a.toLowerCase();
  const y = b.toLowerCase();
  return x < y ? -1 : x > y ? 1 : a < b ? -1 : a > b ? 1 : 0;
};
const numeric = (a, b) => a - b;

// Returns {read, compare}: the key of a page, null for empty, and the order of keys.
function sortKey(p) {
  const read = reader(p);
  switch (p.type) {
    case 'title':
    case 'rich_text':
    case 'url':
    case 'email':
    case 'phone_number': return { read: (page, view) => read(page, view) || null, compare: text };
    case 'select':
    case 'status': {
      const order = (page, view) => {
        const name = read(page, view);
        return name === null ? null : p.options.findIndex((o) => o.name === name);
      };
      return { read: order, compare: numeric };
    }
    case 'checkbox': return { read: (page, view) => Number(read(page, view)), compare: numeric };
    case 'multi_select':
    case 'people':
    case 'relation':
    case 'files':
    case 'created_by':
    case 'last_edited_by': return { read: (page, view) => read(page, view)[0] ?? null, compare: (a, b) => text(String(a), String(b)) };
    default: return { read, compare: numeric };
  }
}

// Returns [{read, compare, down}] of the sorts of a request.
export function compileSorts(source, given, path) {
  if (given === undefined) return [];
  mustBeArray(given, path);
  return given.map((item, i) => {
    const at = `${path}[${i}]`;
    mustBeObject(item, at);
    onlyKeys(item, at, new Set(['property', 'timestamp', 'direction']));
    if (item.direction !== 'ascending' && item.direction !== 'descending') {
      throw bad(`${at}.direction`, '`"ascending"` or `"descending"`', item.direction);
    }
    const down = item.direction === 'descending';
    if (item.timestamp !== undefined) {
      if (!TIMESTAMPS.has(item.timestamp)) throw bad(`${at}.timestamp`, '`"created_time"` or `"last_edited_time"`', item.timestamp);
      return { read: timeOf(item.timestamp), compare: numeric, down };
    }
    operand(item.property, 'string', `${at}.property`);
    const p = findProperty(source, item.property);
    if (!p) throw invalid(`Could not find sort property with name or id: ${item.property}`);
    return { ...sortKey(p), down };
  });
}
