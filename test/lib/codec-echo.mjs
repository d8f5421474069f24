// codec-echo.mjs
//	Plays Notion for single values: reads what angles writes, refuses what Notion refuses, and answers
//	the property as Notion would read it back (reference, section 17.12): text merged and cut anew,
//	annotations, ids and colours added, numbers in another form, dates with another offset.
//
//	node codec-echo.mjs SEED < IN > OUT
//	IN: a line {"id","type","write"} each; OUT: {"id","property"} or {"id","refused"} each.
import { readFileSync } from 'node:fs';

let seed = Number(process.argv[2] ?? 1) >>> 0;
// mulberry32
function chance() {
  seed = (seed + 0x6d2b79f5) >>> 0;
  let t = seed;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const below = (n) => Math.floor(chance() * n);
const oneOf = (list) => list[below(list.length)];
const COLORS = ['default', 'gray', 'red', 'blue_background'];
const LONE = /[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?<![\uD800-\uDBFF])[\uDC00-\uDFFF]/;

function refuse(condition, reason) {
  if (condition) throw new RangeError(reason);
}

function checkKeys(object, allowed, where) {
  for (const key of Object.keys(object)) refuse(!allowed.includes(key), `${where} has ${key}`);
}

function richText(items) {
  refuse(!Array.isArray(items) || items.length > 100, 'more than 100 items');
  let text = '';
  for (const item of items) {
    checkKeys(item, ['text'], 'item');
    checkKeys(item.text, ['content'], 'text');
    const { content } = item.text;
    refuse(typeof content !== 'string' || content.length > 2000, 'content over 2000 units');
    refuse(content.length === 0, 'an empty item');
    refuse(LONE.test(content), 'half of a surrogate pair');
    text += content;
  }
  return cut(text).map((content) => {
    const styled = chance() < 0.3;
    const item = {
      type: 'text', text: { content, link: null },
      annotations: { bold: styled, italic: false, strikethrough: false, underline: false, code: false, color: styled ? oneOf(COLORS) : 'default' },
      plain_text: content, href: null,
    };
    if (chance() < 0.05) { delete item.text; item.type = 'mention'; item.mention = { type: 'page', page: { id: 'x' } }; }
    return item;
  });
}

// The same text in other pieces: one, or cut between any two characters.
function cut(text) {
  if (text === '') return [];
  if (chance() < 0.4) return [text];
  const points = [...text];
  const pieces = [];
  for (let at = 0; at < points.length;) {
    const n = 1 + below(chance() < 0.5 ? Math.min(points.length, 5) : points.length);
    pieces.push(points.slice(at, at + n).join(''));
    at += n;
    if (pieces.length > 150) { pieces.push(points.slice(at).join('')); break; }
  }
  return pieces.filter((piece) => piece !== '');
}

function option(given) {
  if (given === null) return null;
  checkKeys(given, ['name'], 'option');
  refuse(given.name.length < 1 || given.name.length > 100 || given.name.includes(','), 'name of an option');
  return { id: `o${below(1e9)}`, name: given.name, color: oneOf(COLORS), description: null };
}

function multiSelect(given) {
  refuse(given.length > 100, 'more than 100 values');
  refuse(new Set(given.map((o) => o.name.toLowerCase())).size !== given.length, 'an option twice');
  return given.map(option).sort(() => chance() - 0.5);
}

function date(given) {
  if (given === null) return null;
  checkKeys(given, ['start', 'end', 'time_zone'], 'date');
  const { start } = given;
  refuse(Number.isNaN(Date.parse(start)), 'no date');
  if (start.length === 10) return { start, end: null, time_zone: null };
  const ms = Date.parse(start);
  const year = new Date(ms).getUTCFullYear();
  const shift = year < 2 || year > 9998 ? 0 : oneOf([0, 0, 0, 330, -210, 840, -720]);
  if (year > 1960 && year < 2037 && chance() < 0.2) {
    return { start: new Date(ms + 540 * 60000).toISOString().slice(0, 23), end: null, time_zone: 'Asia/Tokyo' };
  }
  const two = (n) => String(n).padStart(2, '0');
  const at = Math.abs(shift);
  const offset = shift === 0 && chance() < 0.3 ? 'Z' : `${shift < 0 ? '-' : '+'}${two(Math.floor(at / 60))}:${two(at % 60)}`;
  let local = new Date(ms + shift * 60000).toISOString().slice(0, 23);
  if (local.endsWith('.000') && chance() < 0.3) local = local.slice(0, 19);
  if (local.endsWith(':00') && chance() < 0.3) local = local.slice(0, 16);
  return { start: local + offset, end: null, time_zone: null };
}

// A double in one of the ways in which JSON may write it.
function number(given) {
  if (given === null) return 'null';
  refuse(typeof given !== 'number' || !Number.isFinite(given), 'no number');
  const forms = [JSON.stringify(given), given.toExponential(), given.toExponential(20), given.toPrecision(17)];
  return oneOf(forms.filter((form) => Object.is(Number(form), given) || Number(form) === given));
}

function short(max) {
  return (given) => {
    refuse(given !== null && (given.length < 1 || given.length > max || LONE.test(given)), 'length');
    return given;
  };
}

const readers = {
  title: richText, rich_text: richText, checkbox: (given) => { refuse(typeof given !== 'boolean', 'no boolean'); return given; },
  select: option, status: option, multi_select: multiSelect, date, url: short(2000), email: short(100), phone_number: short(100),
};

function echo({ id, type, write }) {
  try {
    refuse(Buffer.byteLength(write) > 500000, 'a body over 500 KB');
    const value = JSON.parse(write);
    refuse(Object.keys(value).join() !== type, 'keys of the value object');
    const json = type === 'number' ? number(value.number) : JSON.stringify(readers[type](value[type]));
    return `{"id":${id},"property":{"id":"%3AUPp","type":"${type}","${type}":${json}}}`;
  } catch (e) {
    if (!(e instanceof RangeError) && !(e instanceof SyntaxError) && !(e instanceof TypeError)) throw e;
    return JSON.stringify({ id, refused: e.message });
  }
}

// not readline, for which U+2028 ends a line
for (const line of readFileSync(0, 'utf8').split('\n')) {
  if (line !== '') process.stdout.write(`${echo(JSON.parse(line))}\n`);
}
