// checks.mjs
//	Errors of the API and the checks of request bodies, in the service's own words (reference,
//	section 6). An ApiError is thrown by handlers and becomes the error envelope in server.mjs; it
//	is no Error, because taking a stack for each refused request would cost more than the request.

export class ApiError {
  constructor(status, code, message, additional, retryAfter) {
    this.status = status;
    this.code = code;
    this.message = message;
    this.additional = additional;
    this.retryAfter = retryAfter;
  }
}

export const invalid = (message, additional) => new ApiError(400, 'validation_error', message, additional);

export const ARCHIVED = "Can't edit block that is archived. You must unarchive the block before editing.";

export const archived = () => invalid(ARCHIVED);

export function notFound(what, id, connection) {
  return new ApiError(404, 'object_not_found', `Could not find ${what} with ID: ${id}. Make sure the ` +
    `relevant pages and databases are shared with your integration "${connection.name}".`);
}

export const restricted = (message, additional) =>
  new ApiError(403, 'restricted_resource', message, additional);

// Returns the value as the service quotes it in a message.
export function show(value) {
  if (value === undefined) return '`undefined`';
  const text = JSON.stringify(value);
  return '`' + (text.length > 200 ? text.slice(0, 200) + '...' : text) + '`';
}

export const bad = (path, should, value) =>
  invalid(`body failed validation: ${path} should be ${should}, instead was ${show(value)}.`);

export function mustBeObject(value, path) {
  if (value === undefined) throw bad(path, 'defined', value);
  if (value === null || typeof value !== 'object' || Array.isArray(value)) throw bad(path, 'an object', value);
  return value;
}

export function mustBeArray(value, path, max = 100) {
  if (value === undefined) throw bad(path, 'defined', value);
  if (!Array.isArray(value)) throw bad(path, 'an array', value);
  if (value.length > max) throw bad(`${path}.length`, `≤ \`${max}\``, value.length);
  return value;
}

export function mustBeString(value, path, min, max) {
  if (value === undefined) throw bad(path, 'defined', value);
  if (typeof value !== 'string') throw bad(path, 'a string', value);
  if (value.length < min) throw bad(`${path}.length`, `≥ \`${min}\``, value.length);
  if (value.length > max) throw bad(`${path}.length`, `≤ \`${max}\``, value.length);
  return value;
}

export function mustBeBoolean(value, path) {
  if (typeof value !== 'boolean') throw bad(path, 'a boolean', value);
  return value;
}

// Refuses fields that the service does not know: its requests allow no additional ones.
export function onlyKeys(object, path, known) {
  for (const key in object) {
    if (!known.has(key)) throw bad(`${path}.${key}`, 'not present', object[key]);
  }
}

const UUID = /^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$/i;
const DASHED = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

// Returns the id with dashes and in lower case, or null when it is no uuid.
export function uuidOf(text) {
  if (typeof text !== 'string') return null;
  if (text.length === 36 && DASHED.test(text)) return text;
  if (!UUID.test(text)) return null;
  const hex = text.replace(/-/g, '').toLowerCase();
  return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`;
}

export function mustBeUuid(value, path) {
  if (value === undefined) throw bad(path, 'defined', value);
  const id = uuidOf(value);
  if (id === null) throw bad(path, 'a valid uuid', value);
  return id;
}

export function pathUuid(value, name) {
  const id = uuidOf(value);
  if (id === null) {
    throw invalid(`path failed validation: path.${name} should be a valid uuid, instead was ${show(value)}.`);
  }
  return id;
}

// Returns page_size as given in a body; 0 and absence mean the default.
export function bodyPageSize(value) {
  if (value === undefined || value === 0) return 100;
  if (typeof value !== 'number') throw bad('body.page_size', 'a number or `undefined`', value);
  if (!Number.isInteger(value)) throw bad('body.page_size', 'an integer or `undefined`', value);
  if (value > 100) throw bad('body.page_size', '≤ `100` or `undefined`', value);
  if (value < 0) throw bad('body.page_size', '≥ `0` or `undefined`', value);
  return value;
}

export function queryPageSize(text) {
  if (text === null || text === undefined || text === '') return 100;
  const value = Number(text);
  const should = !Number.isInteger(value) ? 'a number or `undefined`'
    : value > 100 ? '≤ `100` or `undefined`' : value < 0 ? '≥ `0` or `undefined`' : null;
  if (should) {
    throw invalid(`query failed validation: query.page_size should be ${should}, instead was ` +
      `\`${Number.isInteger(value) ? value : JSON.stringify(text)}\`.`);
  }
  return value === 0 ? 100 : value;
}

export const badCursor = (cursor) => invalid(`The start_cursor provided is invalid: ${cursor}`);

// ---- rich text ----

const PLAIN = Object.freeze({
  bold: false, italic: false, strikethrough: false, underline: false, code: false, color: 'default',
});
const COLORS = new Set(['default', 'gray', 'brown', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink',
  'red'].flatMap((c) => [c, `${c}_background`]));
const ITEM_KEYS = new Set(['type', 'text', 'mention', 'equation', 'annotations', 'plain_text', 'href']);
const TEXT_KEYS = new Set(['content', 'link']);
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

// Half of a pair of surrogates is no character: it comes back as U+FFFD, as from any UTF-8 store.
export function wellFormed(text) {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c >= 0xd800 && c <= 0xdfff) return text.replace(LONE, '\ufffd');
  }
  return text;
}

function readAnnotations(given, path) {
  if (given === undefined) return PLAIN;
  mustBeObject(given, path);
  let plain = true;
  const all = { ...PLAIN };
  for (const key in given) {
    if (!(key in PLAIN)) throw bad(`${path}.${key}`, 'not present', given[key]);
    if (key === 'color') {
      if (!COLORS.has(given.color)) throw bad(`${path}.color`, 'a color', given.color);
    } else {
      mustBeBoolean(given[key], `${path}.${key}`);
    }
    if (given[key] !== PLAIN[key]) plain = false;
    all[key] = given[key];
  }
  return plain ? PLAIN : all;
}

// The service writes a link to a bare host with a slash at its end.
function normalLink(url) {
  return /^https?:\/\/[^/?#]+$/i.test(url) ? `${url}/` : url;
}

function readTextItem(item, path, annotations) {
  const text = mustBeObject(item.text, `${path}.text`);
  onlyKeys(text, `${path}.text`, TEXT_KEYS);
  const content = mustBeString(text.content, `${path}.text.content`, 0, 2000);
  let link = null;
  if (text.link !== undefined && text.link !== null) {
    mustBeObject(text.link, `${path}.text.link`);
    link = normalLink(mustBeString(text.link.url, `${path}.text.link.url`, 1, 2000));
  }
  return { type: 'text', content: wellFormed(content), link, annotations };
}

function readItem(item, path) {
  mustBeObject(item, path);
  onlyKeys(item, path, ITEM_KEYS);
  const annotations = readAnnotations(item.annotations, `${path}.annotations`);
  if (item.text !== undefined) return readTextItem(item, path, annotations);
  if (item.equation !== undefined) {
    mustBeObject(item.equation, `${path}.equation`);
    const expression = mustBeString(item.equation.expression, `${path}.equation.expression`, 1, 1000);
    return { type: 'equation', expression, annotations };
  }
  if (item.mention !== undefined) {
    mustBeObject(item.mention, `${path}.mention`);
    const kind = ['user', 'page', 'database', 'date'].find((k) => item.mention[k] !== undefined);
    if (!kind) throw bad(`${path}.mention.user`, 'defined', undefined);
    return { type: 'mention', kind, target: mustBeObject(item.mention[kind], `${path}.mention.${kind}`), annotations };
  }
  throw bad(`${path}.text`, 'defined', undefined);
}

// Returns what is stored for an array of rich text: a string when all of it is plain text, else an
// array of items. Neighbours of the same style become one, as the service may do it (merge).
export function readRichText(given, path, merge = true) {
  mustBeArray(given, path);
  const items = [];
  for (let i = 0; i < given.length; i++) {
    const item = readItem(given[i], `${path}[${i}]`);
    const last = items[items.length - 1];
    if (item.type === 'text' && item.content === '') continue;
    if (merge && last && last.type === 'text' && item.type === 'text' && last.link === item.link &&
        (last.annotations === item.annotations ||
         JSON.stringify(last.annotations) === JSON.stringify(item.annotations))) {
      last.content += item.content;
    } else {
      items.push(item);
    }
  }
  if (items.length === 0) return '';
  if (items.length === 1 && items[0].type === 'text' && items[0].link === null &&
      items[0].annotations === PLAIN) return items[0].content;
  return items;
}

function showItem(item, state) {
  if (item.type === 'text') {
    return {
      type: 'text', text: { content: item.content, link: item.link ? { url: item.link } : null },
      annotations: item.annotations, plain_text: item.content, href: item.link,
    };
  }
  if (item.type === 'equation') {
    return {
      type: 'equation', equation: { expression: item.expression }, annotations: item.annotations,
      plain_text: item.expression, href: null,
    };
  }
  return {
    type: 'mention', mention: { type: item.kind, [item.kind]: showMention(item, state) },
    annotations: item.annotations, plain_text: plainItem(item), href: null,
  };
}

function showMention(item) {
  if (item.kind === 'user') return { object: 'user', id: item.target.id };
  if (item.kind === 'date') {
    return { start: item.target.start, end: item.target.end ?? null, time_zone: item.target.time_zone ?? null };
  }
  return { id: item.target.id };
}

function plainItem(item) {
  if (item.type === 'text') return item.content;
  if (item.type === 'equation') return item.expression;
  return item.kind === 'date' ? item.target.start : `@${item.target.id}`;
}

// Returns stored rich text as it is read through the API.
export function showRichText(stored) {
  if (stored === undefined || stored === '' || stored === null) return [];
  if (typeof stored === 'string') {
    return [{
      type: 'text', text: { content: stored, link: null }, annotations: PLAIN, plain_text: stored, href: null,
    }];
  }
  return stored.map(showItem);
}

export function plainText(stored) {
  if (stored === undefined || stored === null) return '';
  return typeof stored === 'string' ? stored : stored.map(plainItem).join('');
}

// ---- icons and covers ----

// Returns an icon or cover as it is stored and shown, null for none.
export function readIcon(given, path) {
  if (given === null) return null;
  mustBeObject(given, path);
  if (given.emoji !== undefined) {
    return { type: 'emoji', emoji: mustBeString(given.emoji, `${path}.emoji`, 1, 32) };
  }
  if (given.external !== undefined) {
    mustBeObject(given.external, `${path}.external`);
    return { type: 'external', external: { url: mustBeString(given.external.url, `${path}.external.url`, 1, 2000) } };
  }
  if (given.icon !== undefined) {
    mustBeObject(given.icon, `${path}.icon`);
    return {
      type: 'icon',
      icon: { name: mustBeString(given.icon.name, `${path}.icon.name`, 1, 100), color: given.icon.color ?? 'gray' },
    };
  }
  throw bad(`${path}.emoji`, 'defined', undefined);
}
