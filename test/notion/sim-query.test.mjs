// sim-query.test.mjs
//	Queries and search of the simulator: points 3 and 4 of section 17 of the reference.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Bench, text } from './testing.mjs';

let bench;

before(async () => {
  bench = await Bench.start();
});
after(() => bench.stop());
beforeEach(() => bench.reset());

const names = (pages) => pages.map((p) => p.properties.Name.title.map((t) => t.plain_text).join(''));
const titled = (name, more = {}) => ({ Name: { title: text(name) }, ...more });

// Makes rows a, b, c, ... with values; returns the table.
async function filled(rows) {
  const table = await bench.table();
  for (const [name, values] of Object.entries(rows)) await bench.row(table.ds, titled(name, values));
  return table;
}

async function found(ds, filter) {
  return names(await bench.all(ds, { filter })).sort().join('');
}

// ---- filters ----

test('17.4 text conditions', async () => {
  const { ds } = await filled({
    a: { pk: { rich_text: text('one') } }, b: { pk: { rich_text: text('One two') } }, c: {}, d: { Link: { url: 'https://example.com' } },
  });
  const by = (rich_text) => found(ds, { property: 'pk', rich_text });
  assert.equal(await by({ equals: 'one' }), 'a');
  assert.equal(await by({ does_not_equal: 'one' }), 'bcd');
  assert.equal(await by({ contains: 'ne' }), 'ab');
  assert.equal(await by({ does_not_contain: 'ne' }), 'cd');
  assert.equal(await by({ starts_with: 'One' }), 'b');
  assert.equal(await by({ ends_with: 'two' }), 'b');
  assert.equal(await by({ is_empty: true }), 'cd');
  assert.equal(await by({ is_not_empty: true }), 'ab');
  assert.equal(await found(ds, { property: 'Link', url: { contains: 'example' } }), 'd');
  assert.equal(await found(ds, { property: 'title', title: { equals: 'c' } }), 'c');
  await bench.ctl('POST', 'settings', { text_filter: 'insensitive' });
  assert.equal(await by({ equals: 'ONE' }), 'a');
});

test('17.4 number, checkbox, select, status, multi_select conditions', async () => {
  const { ds } = await filled({
    a: { Score: { number: 1 }, Done: { checkbox: true }, Kind: { select: { name: 'urgent' } }, Tags: { multi_select: [{ name: 'x' }, { name: 'y' }] } },
    b: { Score: { number: 2 }, State: { status: { name: 'Done' } }, Tags: { multi_select: [{ name: 'y' }] } }, c: {},
  });
  const number = (condition) => found(ds, { property: 'Score', number: condition });
  assert.equal(await number({ equals: 1 }), 'a');
  assert.equal(await number({ does_not_equal: 1 }), 'bc');
  assert.equal(await number({ greater_than: 1 }), 'b');
  assert.equal(await number({ less_than_or_equal_to: 2 }), 'ab');
  assert.equal(await number({ is_empty: true }), 'c');
  assert.equal(await found(ds, { property: 'Done', checkbox: { equals: true } }), 'a');
  assert.equal(await found(ds, { property: 'Done', checkbox: { does_not_equal: true } }), 'bc');
  assert.equal(await found(ds, { property: 'Kind', select: { equals: 'Urgent' } }), 'a');
  assert.equal(await found(ds, { property: 'Kind', select: { does_not_equal: ['urgent', 'later'] } }), 'bc');
  assert.equal(await found(ds, { property: 'State', status: { equals: 'Not started' } }), 'ac');
  assert.equal(await found(ds, { property: 'Tags', multi_select: { contains: 'y' } }), 'ab');
  assert.equal(await found(ds, { property: 'Tags', multi_select: { does_not_contain: 'x' } }), 'bc');
});

test('17.4 date, people, files, relation conditions', async () => {
  const target = await bench.table({ Name: { title: {} } }, 'targets');
  const other = await bench.row(target.ds);
  const { ds } = await filled({
    a: { When: { date: { start: '2026-11-01' } } }, b: { When: { date: { start: '2026-11-02T10:00:00+02:00' } } }, c: {},
  });
  await bench.ok('PATCH', `/v1/data_sources/${ds}`, { properties: { Links: { relation: { data_source_id: target.ds, single_property: {} } } } });
  const [person] = (await bench.ok('GET', '/v1/users')).results;
  await bench.row(ds, titled('d', {
    Links: { relation: [{ id: other.id }] }, Who: { people: [{ id: person.id }] }, Files: { files: [{ name: 'f', external: { url: 'https://example.com' } }] },
  }));
  const date = (condition) => found(ds, { property: 'When', date: condition });
  assert.equal(await date({ equals: '2026-11-02' }), 'b');
  assert.equal(await date({ before: '2026-11-02' }), 'a');
  assert.equal(await date({ on_or_after: '2026-11-01' }), 'ab');
  assert.equal(await date({ after: '2026-11-02T08:00:00Z' }), '');
  assert.equal(await date({ on_or_after: '2026-11-02T08:00:00Z' }), 'b');
  assert.equal(await date({ is_empty: true }), 'cd');
  await bench.ctl('POST', 'clock', { set: '2026-11-03T12:00:00Z', freeze: true });
  assert.equal(await date({ past_week: {} }), 'ab');
  assert.equal(await date({ on_or_after: 'yesterday' }), 'b');
  assert.equal(await found(ds, { property: 'Links', relation: { contains: other.id } }), 'd');
  assert.equal(await found(ds, { property: 'Who', people: { contains: person.id } }), 'd');
  assert.equal(await found(ds, { property: 'Who', people: { contains: 'me' } }), '');
  assert.equal(await found(ds, { property: 'Files', files: { is_not_empty: true } }), 'd');
});

test('17.4 groups: and, or, two levels, at most 100 conditions', async () => {
  const { ds } = await filled({ a: { Score: { number: 1 } }, b: { Score: { number: 2 } }, c: { Score: { number: 3 } } });
  const is = (n) => ({ property: 'Score', number: { equals: n } });
  assert.equal(await found(ds, { or: [is(1), is(3)] }), 'ac');
  assert.equal(await found(ds, { and: [{ or: [is(1), is(2)] }, { property: 'Name', title: { equals: 'b' } }] }), 'b');
  assert.equal(await found(ds, { or: Array.from({ length: 100 }, (_, i) => is(i + 2)) }), 'bc');
  const refused = (filter, message) => bench.refused(400, 'validation_error', message, 'POST', `/v1/data_sources/${ds}/query`, { filter });
  await refused({ or: Array.from({ length: 101 }, () => is(1)) }, 'body failed validation: body.filter.or.length should be ≤ `100`, instead was `101`.');
  await refused({ or: [{ and: [{ or: [is(1)] }] }] }, /body\.filter\.or\[0\]\.and\[0\]\.or should be not present/);
  await refused({ property: 'Nothing', number: { equals: 1 } }, 'Could not find property with name or id: Nothing');
  await refused({ property: 'Score', rich_text: { equals: '1' } }, 'The property type in the database does not match the property type of the filter provided: database property number does not match filter rich_text');
  await refused({ property: 'Score', number: { equals: '1' } }, /should be a number/);
  await refused({ property: 'Score', number: { resembles: 1 } }, /should be not present/);
  await refused({ property: 'Score', number: { is_empty: false } }, /should be `true`/);
});

test('17.4 keys are found a hundred at a time, also when rows are many', async () => {
  const { ds } = await bench.table();
  await Promise.all(Array.from({ length: 300 }, (_, i) => bench.row(ds, titled(`r${i}`, { pk: { rich_text: text(String(i)) } }))));
  const filter = { or: Array.from({ length: 100 }, (_, i) => ({ property: 'pk', rich_text: { equals: String(i * 4) } })) };
  const pages = await bench.all(ds, { filter });
  assert.deepEqual(pages.map((p) => Number(p.properties.pk.rich_text[0].plain_text)).sort((a, b) => a - b), Array.from({ length: 75 }, (_, i) => i * 4));
});

// ---- time ----

test('17.3 bounds compare to the millisecond against floored times', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:00:30.500Z', freeze: true });
  await bench.row(ds, titled('x'));
  const seen = async (condition) => (await bench.all(ds, { filter: { timestamp: 'last_edited_time', last_edited_time: condition } })).length;
  assert.equal(await seen({ on_or_after: '2026-11-01T10:00:00.000Z' }), 1);
  assert.equal(await seen({ after: '2026-11-01T10:00:00.000Z' }), 0);
  assert.equal(await seen({ on_or_after: '2026-11-01T10:00:00.001Z' }), 0);
  assert.equal(await seen({ on_or_after: '2026-11-01T12:00:00.000+02:00' }), 1);
  assert.equal(await seen({ after: '2026-11-01T09:59:59.999Z' }), 1);
  await bench.refused(400, 'validation_error', /should be not present/, 'POST', `/v1/data_sources/${ds}/query`, { filter: { timestamp: 'created_time', created_time: { after: '2026-01-01' }, property: 'Name' } });
});

test('17.4 a write is seen by queries after the lag, by a GET at once', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'clock', { freeze: true });
  const old = await bench.row(ds, titled('old', { Score: { number: 1 } }));
  await bench.ctl('POST', 'lag', { ms: 5000 });
  const added = await bench.row(ds, titled('new'));
  await bench.patch(old.id, { Score: { number: 2 } });
  const is = (n) => ({ property: 'Score', number: { equals: n } });
  assert.deepEqual(names(await bench.all(ds)), ['old']);
  assert.equal(await found(ds, is(2)), '');
  const [stale] = await bench.all(ds, { filter: is(1) });
  assert.equal(stale.properties.Score.number, 1);
  assert.equal((await bench.ok('GET', `/v1/pages/${old.id}`)).properties.Score.number, 2);
  await bench.ok('GET', `/v1/pages/${added.id}`);
  await bench.ctl('POST', 'clock', { advance: 4999 });
  assert.equal((await bench.all(ds)).length, 1);
  await bench.ctl('POST', 'clock', { advance: 1 });
  assert.deepEqual(names(await bench.all(ds)).sort(), ['new', 'old']);
  assert.equal(await found(ds, is(2)), 'old');
  // the trash lags, too
  await bench.ok('PATCH', `/v1/pages/${old.id}`, { in_trash: true });
  assert.equal((await bench.all(ds)).length, 2);
  await bench.ctl('POST', 'clock', { advance: 5000 });
  assert.equal((await bench.all(ds)).length, 1);
});

// ---- order ----

test('17.4 sorts: the first counts most, empties come last both ways', async () => {
  const { ds } = await filled({
    a: { Score: { number: 2 }, pk: { rich_text: text('x') } }, b: { Score: { number: 1 }, pk: { rich_text: text('x') } }, c: { Score: { number: 3 } }, d: { pk: { rich_text: text('A') } },
  });
  const order = async (sorts) => names(await bench.all(ds, { sorts, page_size: 2 })).join('');
  const up = (property) => ({ property, direction: 'ascending' });
  const down = (property) => ({ property, direction: 'descending' });
  assert.equal(await order([up('Score')]), 'bacd');
  assert.equal(await order([down('Score')]), 'cabd');
  assert.equal(await order([down('pk'), up('Score')]), 'badc');
  assert.equal(await order([up('Name')]), 'abcd');
  const refused = (sorts, message) => bench.refused(400, 'validation_error', message, 'POST', `/v1/data_sources/${ds}/query`, { sorts });
  await refused([up('Nothing')], 'Could not find sort property with name or id: Nothing');
  await refused([{ property: 'Score', direction: 'up' }], /direction should be/);
  await refused({}, 'body failed validation: body.sorts should be an array, instead was `{}`.');
});

test('17.4 without a sort no order can be relied on, but nothing is lost or doubled', async () => {
  const { ds } = await bench.table();
  await Promise.all(Array.from({ length: 40 }, (_, i) => bench.row(ds, titled(String(i)))));
  const orders = new Set();
  for (let i = 0; i < 5; i++) {
    const pages = await bench.all(ds, { page_size: 7 });
    assert.equal(new Set(pages.map((p) => p.id)).size, 40);
    orders.add(names(pages).join());
  }
  assert.equal(orders.size, 5);
  // equal keys of a sort are no order, either
  await bench.ctl('POST', 'settings', { shuffle: false });
  assert.equal(names(await bench.all(ds, { page_size: 7 })).join(), names(await bench.all(ds, { page_size: 9 })).join());
});

// ---- cursors ----

test('17.4 a row that is edited while a reader goes by edit time is met again, never lost', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:00:00Z', freeze: true });
  for (const name of ['a', 'b', 'c', 'd']) {
    await bench.row(ds, titled(name));
    await bench.ctl('POST', 'clock', { advance: 60000 });
  }
  const body = { sorts: [{ timestamp: 'last_edited_time', direction: 'ascending' }], page_size: 2 };
  const first = await bench.query(ds, body);
  assert.deepEqual(names(first.results), ['a', 'b']);
  await bench.patch(first.results[0].id, { Score: { number: 1 } });
  const second = await bench.query(ds, { ...body, start_cursor: first.next_cursor });
  assert.deepEqual(names(second.results), ['c', 'd']);
  const third = await bench.query(ds, { ...body, start_cursor: second.next_cursor });
  assert.deepEqual(names(third.results), ['a']);
  assert.equal(third.has_more, false);
  assert.equal(third.next_cursor, null);
});

test('17.4 cursors: unknown, stale, of another query', async () => {
  const { ds } = await filled({ a: {}, b: {}, c: {} });
  const path = `/v1/data_sources/${ds}/query`;
  const list = await bench.query(ds, { page_size: 1 });
  await bench.refused(400, 'validation_error', 'The start_cursor provided is invalid: abc', 'POST', path, { start_cursor: 'abc' });
  await bench.refused(400, 'validation_error', /start_cursor provided is invalid/, 'POST', path, { start_cursor: list.next_cursor, filter: { property: 'Score', number: { is_empty: true } } });
  await bench.ctl('DELETE', 'cursors');
  await bench.refused(400, 'validation_error', /start_cursor provided is invalid/, 'POST', path, { start_cursor: list.next_cursor });
  await bench.refused(400, 'validation_error', /start_cursor should be a string/, 'POST', path, { start_cursor: null });
});

test('17.4 page_size: 100 is the most, 0 means the default', async () => {
  const { ds } = await bench.table();
  const path = `/v1/data_sources/${ds}/query`;
  await bench.refused(400, 'validation_error', 'body failed validation: body.page_size should be ≤ `100` or `undefined`, instead was `101`.', 'POST', path, { page_size: 101 });
  await bench.refused(400, 'validation_error', 'body failed validation: body.page_size should be a number or `undefined`, instead was `"ten"`.', 'POST', path, { page_size: 'ten' });
  assert.deepEqual((await bench.query(ds, { page_size: 0 })).results, []);
});

test('17.4 pages may be short, even empty; only has_more ends a list', async () => {
  const { ds } = await bench.table();
  await Promise.all(Array.from({ length: 60 }, (_, i) => bench.row(ds, titled(String(i)))));
  await bench.ctl('POST', 'settings', { short_pages: { min: 0, max: 5 } });
  const sizes = [];
  const seen = new Set();
  let cursor;
  do {
    const list = await bench.query(ds, { page_size: 100, ...(cursor ? { start_cursor: cursor } : {}) });
    sizes.push(list.results.length);
    for (const page of list.results) seen.add(page.id);
    cursor = list.next_cursor ?? undefined;
  } while (cursor);
  assert.equal(seen.size, 60);
  assert.ok(sizes.includes(0), sizes.join());
  assert.ok(Math.max(...sizes) <= 5);
});

test('17.4 beyond the cap a query ends and says so on each page', async () => {
  const { ds } = await bench.table();
  await Promise.all(Array.from({ length: 30 }, (_, i) => bench.row(ds, titled(String(i)))));
  await bench.ctl('POST', 'settings', { query_cap: 25 });
  const incomplete = { type: 'incomplete', incomplete_reason: 'query_result_limit_reached' };
  const first = await bench.query(ds, { page_size: 20 });
  assert.deepEqual(first.request_status, incomplete);
  assert.equal(first.has_more, true);
  const second = await bench.query(ds, { page_size: 20, start_cursor: first.next_cursor });
  assert.deepEqual(second.request_status, incomplete);
  assert.equal(second.results.length, 5);
  assert.equal(second.has_more, false);
  assert.equal(second.next_cursor, null);
  await bench.ctl('POST', 'settings', { query_cap: 30 });
  const whole = await bench.query(ds);
  assert.equal(whole.results.length, 30);
  assert.equal('request_status' in whole, false);
});

test('17.4 filter_properties: by name or id, in queries and pages', async () => {
  const { ds, ids } = await filled({ a: { Score: { number: 1 } } });
  const list = await bench.ok('POST', `/v1/data_sources/${ds}/query?filter_properties=${encodeURIComponent(ids.Score)}&filter_properties[]=title`, {});
  assert.deepEqual(Object.keys(list.results[0].properties), ['Name', 'Score']);
  const page = await bench.ok('GET', `/v1/pages/${list.results[0].id}?filter_properties=Done`);
  assert.deepEqual(Object.keys(page.properties), ['Done']);
  await bench.refused(400, 'validation_error', 'Could not find property with name or id: zzzz', 'GET', `/v1/pages/${page.id}?filter_properties=zzzz`);
});

test('17.4 in_trash is no field of a query of the new version', async () => {
  const { ds } = await bench.table();
  await bench.refused(400, 'validation_error', /in_trash should be not present/, 'POST', `/v1/data_sources/${ds}/query`, { in_trash: true });
});

// ---- search ----

test('search finds titles of pages and data sources, lags, and pages through', async () => {
  const { ds } = await bench.table(undefined, 'decisions');
  await bench.row(ds, titled('a decision'));
  const all = await bench.ok('POST', '/v1/search', { query: 'DECISION' });
  assert.deepEqual(all.results.map((r) => r.object).sort(), ['data_source', 'page']);
  const sources = await bench.ok('POST', '/v1/search', { query: 'decision', filter: { property: 'object', value: 'data_source' }, page_size: 1 });
  assert.deepEqual(sources.results.map((r) => r.id), [ds]);
  await bench.ctl('POST', 'lag', { ms: 60000 });
  await bench.row(ds, titled('decision two'));
  assert.equal((await bench.ok('POST', '/v1/search', { query: 'decision two' })).results.length, 0);
  await bench.refused(400, 'validation_error', /filter\.value should be/, 'POST', '/v1/search', { filter: { property: 'object', value: 'database' } });
});
