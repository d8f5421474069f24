// values.mjs
//	Values of properties: what a page write may send (reference, section 9), the short form that is
//	kept, and what is read back, which often differs from what was sent.
//
//	Kept: title, rich_text: string or array of items (checks.mjs); number; checkbox; select, status:
//	id of the option; multi_select: array of option ids; date: {start,end,time_zone} as shown, with
//	the instant in ms; url, email, phone_number: string; people: array of user ids; files: array as
//	shown; relation: array of page ids; place: object. Absent means empty.
import {
  bad, invalid, mustBeArray, mustBeBoolean, mustBeObject, mustBeString, mustBeUuid, notFound, onlyKeys,
  plainText, readRichText, showRichText, wellFormed,
} from './checks.mjs';
import {
  READ_ONLY, addOption, checkOptionName, defaultStatus, findProperty, indexOptions, newOption,
} from './schema.mjs';
import { showTime } from './store.mjs';

// ---- dates ----

const DATE = /^\d{4}-\d{2}-\d{2}$/;
const DATE_TIME = /^(\d{4}-\d{2}-\d{2})[T ](\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,9}))?)?(Z|[+-]\d{2}:?\d{2})?$/;

// Returns {ms, offset (minutes), dateOnly} of a date as requests write it, or null.
export function parseDate(text, zone) {
  if (typeof text !== 'string') return null;
  if (DATE.test(text)) {
    const ms = Date.parse(`${text}T00:00:00Z`);
    return Number.isNaN(ms) || new Date(ms).toISOString().slice(0, 10) !== text ? null : { ms, offset: 0, dateOnly: true };
  }
  const m = DATE_TIME.exec(text);
  if (!m) return null;
  const frac = (m[5] ?? '').padEnd(3, '0').slice(0, 3) || '000';
  const local = Date.parse(`${m[1]}T${m[2]}:${m[3]}:${m[4] ?? '00'}.${frac}Z`);
  if (Number.isNaN(local)) return null;
  let offset = 0;
  if (m[6] && m[6] !== 'Z') {
    offset = Number(m[6].slice(1, 3)) * 60 + Number(m[6].slice(-2));
    if (m[6][0] === '-') offset = -offset;
  } else if (!m[6] && zone) {
    offset = zoneOffset(zone, local);
    offset = zoneOffset(zone, local - offset * 60000);
  }
  return { ms: local - offset * 60000, offset, dateOnly: false, hasOffset: m[6] !== undefined };
}

const zones = new Map();

// Returns the offset of a named zone at a time, in minutes; throws RangeError for unknown zones.
function zoneOffset(zone, ms) {
  let format = zones.get(zone);
  if (!format) {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone: zone, hourCycle: 'h23', year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit',
      minute: '2-digit', second: '2-digit',
    });
    zones.set(zone, format);
  }
  const p = Object.fromEntries(format.formatToParts(ms).map((part) => [part.type, part.value]));
  const local = Date.UTC(p.year, p.month - 1, p.day, p.hour, p.minute, p.second);
  return Math.round((local - Math.floor(ms / 1000) * 1000) / 60000);
}

// Returns the date as it is read back: always milliseconds, always an offset.
function formatDate(d) {
  if (d.dateOnly) return new Date(d.ms).toISOString().slice(0, 10);
  const local = new Date(d.ms + d.offset * 60000).toISOString().slice(0, 23);
  const sign = d.offset < 0 ? '-' : '+';
  const abs = Math.abs(d.offset);
  const two = (n) => String(n).padStart(2, '0');
  return `${local}${sign}${two(Math.floor(abs / 60))}:${two(abs % 60)}`;
}

function readDatePart(text, path, zone, settings) {
  const d = parseDate(text, zone);
  if (d === null) throw bad(path, 'a valid ISO 8601 date string', text);
  if (zone && d.hasOffset) throw invalid(`body failed validation: ${path} should not have an offset when time_zone is given.`);
  if (!d.dateOnly && settings.date_precision === 'minute') d.ms -= ((d.ms % 60000) + 60000) % 60000;
  return d;
}

function readDate(given, path, settings) {
  mustBeObject(given, path);
  onlyKeys(given, path, new Set(['start', 'end', 'time_zone']));
  const zone = given.time_zone ?? null;
  if (zone !== null) {
    mustBeString(zone, `${path}.time_zone`, 1, 100);
    try {
      zoneOffset(zone, 0);
    } catch (e) {
      if (e instanceof RangeError) throw bad(`${path}.time_zone`, 'a valid time zone', zone);
      throw e;
    }
  }
  if (given.start === undefined) throw bad(`${path}.start`, 'defined', undefined);
  const start = readDatePart(given.start, `${path}.start`, zone, settings);
  const end = given.end === undefined || given.end === null ? null
    : readDatePart(given.end, `${path}.end`, zone, settings);
  if (end && end.dateOnly !== start.dateOnly) throw invalid(`${path}: start and end must both have a time or both none.`);
  if (end && end.ms < start.ms) throw invalid(`${path}.end should be after ${path}.start.`);
  return {
    start: formatDate(start), end: end ? formatDate(end) : null, time_zone: start.dateOnly ? null : zone,
    ms: start.ms, dateOnly: start.dateOnly,
  };
}

// ---- reading what a request sends ----

const VALUE_KEYS = new Set(['id', 'type']);

// Returns the stored form of a value that a request sends for the property. `pending` collects
// options that come into being only when the whole request is good.
export function readValue(store, p, value, path, pending, ctx) {
  if (value === undefined || value === null || typeof value !== 'object') throw bad(path, 'an object', value);
  if (READ_ONLY.has(p.type)) throw invalid(`${p.name} is a read-only property (${p.type}) and cannot be set.`);
  // the older short form: an array in place of the title's object
  if (p.type === 'title' && Array.isArray(value)) value = { title: value };
  const given = value[p.type];
  if (given === undefined) throw invalid(`${p.name} is expected to be ${p.type}.`);
  for (const key in value) {
    if (key !== p.type && !VALUE_KEYS.has(key)) throw bad(`${path}.${key}`, 'not present', value[key]);
  }
  if (value.type !== undefined && value.type !== p.type) throw bad(`${path}.type`, `\`"${p.type}"\` or \`undefined\``, value.type);
  return readers[p.type](given, `${path}.${p.type}`, { store, p, pending, ctx, settings: store.settings });
}

function readText(given, path, x) {
  let text = readRichText(given, path, x.settings.merge_text);
  if (x.settings.trim_text && typeof text === 'string') text = text.trimEnd();
  return text;
}

const shortText = (max) => (given, path) => (given === null ? null : wellFormed(mustBeString(given, path, 1, max)));

// Finds the option by id or by name, whatever its case; creates it where the type allows that.
function readOption(given, path, x) {
  mustBeObject(given, path);
  onlyKeys(given, path, new Set(['id', 'name', 'color', 'description']));
  const { p, pending } = x;
  if (given.id !== undefined) {
    const known = p.optionById.get(given.id);
    if (known) return known.id;
    if (given.name === undefined) throw invalid(`${path}: no option with id ${given.id} exists.`);
  }
  if (given.name === undefined) throw bad(`${path}.name`, 'defined', undefined);
  const name = wellFormed(checkOptionName(given.name, `${path}.name`));
  const lower = name.toLowerCase();
  const known = p.optionByName.get(lower);
  if (known) return known.id;
  if (p.type === 'status') {
    throw invalid(`Status option "${name}" does not exist in property ${p.name}.`);
  }
  let mine = pending.get(p);
  if (!mine) pending.set(p, mine = new Map());
  let option = mine.get(lower);
  if (!option) mine.set(lower, option = newOption(name, x.store.chance, given.color, given.description));
  return option.id;
}

function readPeople(given, path, x) {
  mustBeArray(given, path);
  return unique(given.map((item, i) => {
    mustBeObject(item, `${path}[${i}]`);
    const id = mustBeUuid(item.id, `${path}[${i}].id`);
    if (!x.store.users.has(id)) throw invalid(`Could not find user with ID: ${id}.`);
    return id;
  }));
}

function readFiles(given, path) {
  mustBeArray(given, path);
  return given.map((item, i) => {
    const at = `${path}[${i}]`;
    mustBeObject(item, at);
    const kind = item.external !== undefined ? 'external' : item.file !== undefined ? 'file' : null;
    if (!kind) throw bad(`${at}.external`, 'defined', undefined);
    mustBeObject(item[kind], `${at}.${kind}`);
    const url = mustBeString(item[kind].url, `${at}.${kind}.url`, 1, 2000);
    return { name: mustBeString(item.name, `${at}.name`, 1, 100), type: kind, url };
  });
}

// Pages that a relation names must exist, be shared, and be rows of its target.
function readRelation(given, path, x) {
  // a write of the API names at most 100 pages; what a person collects is bounded by the product
  mustBeArray(given, path, x.ctx.connection ? 100 : 10000);
  return unique(given.map((item, i) => {
    mustBeObject(item, `${path}[${i}]`);
    onlyKeys(item, `${path}[${i}]`, new Set(['id']));
    const id = mustBeUuid(item.id, `${path}[${i}].id`);
    const page = x.store.pages.get(id);
    if (!page || (x.ctx.connection && !x.store.visible(page, x.ctx.connection))) {
      throw notFound('page', id, x.ctx.connection ?? { name: 'person' });
    }
    if (page.parentType !== 'data_source' || page.parentId !== x.p.target) {
      throw invalid(`${x.p.name}: page ${id} is not a page of the related data source ${x.p.target}.`);
    }
    return id;
  }));
}

function readPlace(given, path) {
  if (given === null) return null;
  mustBeObject(given, path);
  for (const key of ['lat', 'lon']) if (typeof given[key] !== 'number') throw bad(`${path}.${key}`, 'a number', given[key]);
  const { lat, lon, name = null, address = null } = given;
  return { lat, lon, name, address, aws_place_id: given.aws_place_id ?? null, google_place_id: given.google_place_id ?? null };
}

const unique = (ids) => (ids.length < 2 ? ids : [...new Set(ids)]);

const readers = {
  title: readText,
  rich_text: readText,
  number(given, path) {
    if (given !== null && (typeof given !== 'number' || !Number.isFinite(given))) throw bad(path, 'a number or `null`', given);
    return given;
  },
  checkbox: mustBeBoolean,
  select: (given, path, x) => (given === null ? null : readOption(given, path, x)),
  status: (given, path, x) => (given === null ? null : readOption(given, path, x)),
  multi_select(given, path, x) {
    mustBeArray(given, path);
    return unique(given.map((item, i) => readOption(item, `${path}[${i}]`, x)));
  },
  date: (given, path, x) => (given === null ? null : readDate(given, path, x.settings)),
  url: shortText(2000),
  email: shortText(100),
  phone_number: shortText(100),
  people: readPeople,
  files: readFiles,
  relation: readRelation,
  place: readPlace,
};

// Reads `properties` of a page write into [[property, stored value]]. Nothing is changed.
export function readProperties(store, source, given, path, pending, ctx) {
  mustBeObject(given, path);
  const changes = [];
  let unknown = '';
  for (const key in given) {
    const p = findProperty(source, key);
    if (!p) {
      unknown += `${unknown && ' '}${key} is not a property that exists.`;
      continue;
    }
    if (unknown) continue;
    changes.push([p, readValue(store, p, given[key], `${path}.${key}`, pending, ctx)]);
  }
  if (unknown) throw invalid(unknown);
  return changes;
}

// ---- writing ----

// Makes options that a good request asked for. Returns the properties that got some.
export function commitOptions(store, source, pending, userId) {
  if (pending.size === 0) return [];
  for (const [p, options] of pending) for (const option of options.values()) addOption(p, option);
  store.changed(source, userId);
  return [...pending.keys()];
}

// Puts values into a page. Relations that have a mirror are written on the other side, too: that
// does not count as an edit of the other page.
export function putValues(store, page, changes) {
  for (const [p, value] of changes) {
    if (p.type === 'relation' && p.mirror) mirrorRelation(store, page, p, value);
    if (value === null || value === '' || (Array.isArray(value) && value.length === 0)) page.values.delete(p.id);
    else page.values.set(p.id, value);
  }
}

function mirrorRelation(store, page, p, value) {
  const before = page.values.get(p.id) ?? [];
  const after = value ?? [];
  const change = (id, make) => {
    const other = store.pages.get(id);
    if (!other) return;
    const list = make(other.values.get(p.mirror) ?? []);
    store.beforeWrite(other);
    if (list.length) other.values.set(p.mirror, list);
    else other.values.delete(p.mirror);
    store.touch(other);
  };
  for (const id of before) if (!after.includes(id)) change(id, (list) => list.filter((x) => x !== page.id));
  for (const id of after) if (!before.includes(id)) change(id, (list) => [...list.filter((x) => x !== page.id), page.id]);
}

// Casts the values of all pages after the type of a property changed.
export function retypeValues(store, source, old, p) {
  for (const page of source.pages) {
    const value = page.values.get(old.id);
    if (value === undefined) continue;
    store.beforeWrite(page);
    const text = simpleText(store, old, value);
    const cast = text === '' ? null : castText(store, p, text, old, value);
    if (cast === null || cast === '') page.values.delete(p.id);
    else page.values.set(p.id, cast);
    store.touch(page);
  }
}

function castText(store, p, text, old, value) {
  switch (p.type) {
    case 'title':
    case 'rich_text': return old.type === 'title' || old.type === 'rich_text' ? value : text;
    case 'number': return Number.isFinite(Number(text)) ? Number(text) : null;
    case 'checkbox': return text === 'true' || text === 'Yes' ? true : null;
    case 'date': {
      const d = parseDate(text);
      return d ? { start: formatDate(d), end: null, time_zone: null, ms: d.ms, dateOnly: d.dateOnly } : null;
    }
    case 'url':
    case 'email':
    case 'phone_number': return text;
    case 'select': return castOption(store, p, text.split(',')[0].trim());
    case 'multi_select': return unique(text.split(',').map((t) => castOption(store, p, t.trim())).filter((id) => id));
    case 'status': return p.optionByName.get(text.toLowerCase())?.id ?? null;
    default: return null;
  }
}

function castOption(store, p, name) {
  if (name === '') return null;
  if (!p.optionById) indexOptions(p);
  const known = p.optionByName.get(name.slice(0, 100).toLowerCase());
  if (known) return known.id;
  const option = newOption(name.slice(0, 100), store.chance);
  addOption(p, option);
  return option.id;
}

// Returns a value as plain text: for casts, for people's pages and for tests.
export function simpleText(store, p, value) {
  const simple = simpleValue(store, p, value);
  if (simple === null || simple === undefined) return '';
  return Array.isArray(simple) ? simple.join(', ') : typeof simple === 'object' ? simple.start : String(simple);
}

// Returns a value in its simplest form: text, number, boolean, name of an option, list of names.
export function simpleValue(store, p, value) {
  switch (p.type) {
    case 'title':
    case 'rich_text': return plainText(value);
    case 'select': return p.optionById.get(value)?.name ?? null;
    case 'status': return (p.optionById.get(value) ?? defaultStatus(p))?.name ?? null;
    case 'multi_select': return (value ?? []).map((id) => p.optionById.get(id)?.name).filter((n) => n !== undefined);
    case 'checkbox': return value ?? false;
    case 'date': return value ? { start: value.start, end: value.end, time_zone: value.time_zone } : null;
    case 'people':
    case 'relation': return value ?? [];
    case 'files': return (value ?? []).map((file) => file.url);
    default: return value ?? null;
  }
}

// ---- showing ----

const option = (p, id) => {
  const o = p.optionById.get(id);
  return o ? { id: o.id, name: o.name, color: o.color } : null;
};

// Links of files that Notion keeps itself carry a signature that differs at each read.
function showFile(store, file) {
  if (file.type === 'external') return { name: file.name, type: 'external', external: { url: file.url } };
  const now = store.clock.now();
  return {
    name: file.name, type: 'file',
    file: {
      url: `${file.url}?X-Amz-Date=${now}&X-Amz-Signature=${store.chance.bits().toString(16)}`,
      expiry_time: new Date(now + 3600000).toISOString(),
    },
  };
}

// Returns the ids of a relation that the connection may see.
export function visibleRelation(store, value, connection) {
  if (!value) return [];
  return value.filter((id) => {
    const page = store.pages.get(id);
    return page !== undefined && (!connection || !page.hidden || store.visible(page, connection));
  });
}

// Returns {id, type, <type>: value} of a page's property as page objects carry it.
export function showValue(store, page, view, p, ctx) {
  const value = view.values.get(p.id);
  switch (p.type) {
    case 'title': return { id: p.eid, type: 'title', title: showRichText(value) };
    case 'rich_text': return { id: p.eid, type: 'rich_text', rich_text: showRichText(value) };
    case 'number': return { id: p.eid, type: 'number', number: value ?? null };
    case 'checkbox': return { id: p.eid, type: 'checkbox', checkbox: value ?? false };
    case 'relation': {
      const all = visibleRelation(store, value, ctx.connection);
      const max = store.settings.truncate_refs;
      const ids = all.length > max ? all.slice(0, max) : all;
      return { id: p.eid, type: 'relation', relation: ids.map((id) => ({ id })), has_more: all.length > max };
    }
    default: return { id: p.eid, type: p.type, [p.type]: showOther(store, page, view, p, value) };
  }
}

function showOther(store, page, view, p, value) {
  switch (p.type) {
    case 'select': return value === undefined ? null : option(p, value);
    case 'status': return option(p, value) ?? option(p, defaultStatus(p)?.id);
    case 'multi_select': return value === undefined ? [] : value.map((id) => option(p, id)).filter((o) => o !== null);
    case 'date': return value ? { start: value.start, end: value.end, time_zone: value.time_zone } : null;
    case 'people': return (value ?? []).slice(0, store.settings.truncate_refs).map((id) => store.showUser(id));
    case 'files': return (value ?? []).map((file) => showFile(store, file));
    case 'unique_id': return { prefix: p.prefix, number: value ?? null };
    case 'created_time': return showTime(page.created);
    case 'last_edited_time': return showTime(view.edited);
    case 'created_by': return store.showUser(page.createdBy);
    case 'last_edited_by': return store.showUser(view.editedBy);
    case 'formula': return { type: 'unsupported', unsupported: {} };
    case 'rollup': return { type: 'unsupported', unsupported: {}, function: p.rollup.function };
    case 'button': return {};
    default: return value ?? null;
  }
}
