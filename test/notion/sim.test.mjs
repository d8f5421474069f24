// sim.test.mjs
//	The simulator against section 17 of the reference of the API: transport, values, schema, trash.
//	The numbers in the names are the points of that section. See sim-query.test.mjs for queries and
//	sim-faults.test.mjs for limits, faults and control.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Bench, NEW, OLD, PARENT, text } from './testing.mjs';

let bench;

before(async () => {
  bench = await Bench.start();
});
after(() => bench.stop());
beforeEach(() => bench.reset());

// ---- 17.1 headers, JSON, ids, envelope ----

test('17.1 a wrong, absent or revoked token is 401', async () => {
  const bad = [401, 'unauthorized', 'API token is invalid.', 'GET', '/v1/users/me', undefined];
  await bench.refused(...bad, { Authorization: 'Bearer other' });
  await bench.refused(...bad, { Authorization: 'ntn_test' });
  await bench.ctl('POST', 'tokens', { token: 'ntn_test', revoked: true });
  await bench.refused(...bad);
  await bench.ctl('POST', 'tokens', { token: 'ntn_test', revoked: false });
  await bench.ok('GET', '/v1/users/me');
});

test('17.1 with --token no other token is good', async () => {
  const one = await Bench.start({ tokens: ['ntn_test'] });
  await one.ok('GET', '/v1/users/me');
  const other = { Authorization: 'Bearer ntn_other' };
  await one.refused(401, 'unauthorized', 'API token is invalid.', 'GET', '/v1/users/me', undefined, other);
  await one.stop();
});

test('17.1 the version header is mandatory and must be known', async () => {
  bench.version = undefined;
  const res = await bench.api('GET', '/v1/users/me', undefined, { 'Notion-Version': '' });
  assert.equal(res.status, 400);
  bench.version = '2031-01-01';
  await bench.refused(400, 'validation_error', /^Notion-Version header failed validation/, 'GET', '/v1/users/me');
});

test('17.1 without the version header the code is missing_version', async () => {
  const { call } = await import('./testing.mjs');
  const res = await call(bench.url, 'GET', '/v1/users/me', undefined, { Authorization: 'Bearer ntn_test' });
  assert.equal(res.json.code, 'missing_version');
  assert.equal(res.json.message, 'Notion-Version header failed validation: Notion-Version header should be defined, instead was `undefined`.');
});

test('17.1 an unknown path and a wrong method are the same error', async () => {
  for (const [method, path] of [['GET', '/v1/nothing'], ['PUT', `/v1/pages/${PARENT}`], ['GET', '/v2/users/me'],
    ['POST', `/v1/databases/${PARENT}/query`], ['GET', '/v1/pages/']]) {
    await bench.refused(400, 'invalid_request_url', 'Invalid request URL.', method, path, method === 'GET' ? undefined : {});
  }
});

test('17.1 bad JSON, bad UTF-8 and what is no object', async () => {
  await bench.refused(400, 'invalid_json', 'Error parsing JSON body.', 'POST', '/v1/search', '{"query":');
  await bench.refused(400, 'invalid_json', 'Error parsing JSON body.', 'POST', '/v1/search', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]));
  await bench.refused(400, 'validation_error', /body should be an object/, 'POST', '/v1/search', '[1]');
});

test('17.1 ids in paths: with or without dashes, else the error of the service', async () => {
  const page = await bench.ok('GET', `/v1/pages/${PARENT.replace(/-/g, '')}`);
  assert.equal(page.id, PARENT);
  await bench.refused(400, 'validation_error', 'path failed validation: path.page_id should be a valid uuid, instead was `"abc"`.', 'GET', '/v1/pages/abc');
  await bench.refused(404, 'object_not_found', /^Could not find page with ID: 99999999-9999-4999-8999-999999999999\. Make sure/, 'GET', '/v1/pages/99999999-9999-4999-8999-999999999999');
});

test('17.1 database and data source ids are not the same', async () => {
  const { database, ds } = await bench.table();
  await bench.ok('GET', `/v1/databases/${database}`);
  await bench.refused(404, 'object_not_found', /Could not find database/, 'GET', `/v1/databases/${ds}`);
  await bench.refused(404, 'object_not_found', /Could not find data source/, 'GET', `/v1/data_sources/${database}`);
});

test('17.1 good answers carry a request id in header and body', async () => {
  const res = await bench.api('GET', '/v1/users/me');
  assert.equal(res.headers['x-notion-request-id'], res.json.request_id);
  assert.equal(res.json.type, 'bot');
});

test('17.1 fields that do not exist are refused', async () => {
  const { ds } = await bench.table();
  await bench.refused(400, 'validation_error', 'body failed validation: body.colour should be not present, instead was `"red"`.', 'POST', '/v1/pages', { parent: { data_source_id: ds }, colour: 'red' });
  await bench.refused(400, 'validation_error', 'body failed validation: body.parent should be defined, instead was `undefined`.', 'POST', '/v1/pages', {});
});

test('a capability that is missing is 403', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'tokens', { token: 'ntn_test', capabilities: ['read_content'] });
  await bench.refused(403, 'restricted_resource', /Insufficient permissions/, 'POST', '/v1/pages', { parent: { data_source_id: ds } });
  await bench.ok('GET', `/v1/data_sources/${ds}`);
});

// ---- 17.5 writes ----

test('17.5 a write changes what it names and replaces arrays', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, { Name: { title: text('a') }, Score: { number: 1 }, Tags: { multi_select: [{ name: 'x' }, { name: 'y' }] } });
  const later = await bench.patch(page.id, { Tags: { multi_select: [{ name: 'z' }] } });
  assert.equal(later.properties.Score.number, 1);
  assert.deepEqual(later.properties.Tags.multi_select.map((o) => o.name), ['z']);
  assert.equal(later.properties.Name.title[0].plain_text, 'a');
});

test('17.5 a refused write changes nothing, options included', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, { Score: { number: 1 } });
  await bench.refused(400, 'validation_error', null, 'PATCH', `/v1/pages/${page.id}`, {
    properties: { Score: { number: 2 }, Kind: { select: { name: 'brand new' } }, Nothing: { number: 1 } },
  });
  assert.equal((await bench.ok('GET', `/v1/pages/${page.id}`)).properties.Score.number, 1);
  const source = await bench.ok('GET', `/v1/data_sources/${ds}`);
  assert.deepEqual(source.properties.Kind.select.options.map((o) => o.name), ['urgent', 'later']);
});

test('17.5 select options: made by a write, found whatever their case, no commas', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, { Kind: { select: { name: 'URGENT' } }, Tags: { multi_select: [{ name: 'New' }, { name: 'new' }] } });
  assert.equal(page.properties.Kind.select.name, 'urgent');
  assert.equal(page.properties.Kind.select.color, 'blue');
  assert.deepEqual(page.properties.Tags.multi_select.map((o) => o.name), ['New']);
  const source = await bench.ok('GET', `/v1/data_sources/${ds}`);
  assert.equal(source.properties.Tags.multi_select.options.length, 1);
  await bench.refused(400, 'validation_error', 'Invalid select option, commas not allowed: a,b', 'PATCH', `/v1/pages/${page.id}`, { properties: { Kind: { select: { name: 'a,b' } } } });
});

test('17.5 status: unknown options are refused, null becomes the default', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, {});
  assert.equal(page.properties.State.status.name, 'Not started');
  const done = await bench.patch(page.id, { State: { status: { name: 'done' } } });
  assert.equal(done.properties.State.status.name, 'Done');
  await bench.refused(400, 'validation_error', null, 'PATCH', `/v1/pages/${page.id}`, { properties: { State: { status: { name: 'Perhaps' } } } });
  const cleared = await bench.patch(page.id, { State: { status: null } });
  assert.equal(cleared.properties.State.status.name, 'Not started');
});

test('17.5 read-only, unknown and wrongly typed properties', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  const refused = (properties, message) => bench.refused(400, 'validation_error', message, 'PATCH', `/v1/pages/${id}`, { properties });
  await refused({ Created: { created_time: '2026-01-01' } }, /read-only/);
  await refused({ Foo: { number: 1 } }, 'Foo is not a property that exists.');
  await refused({ Foo: { number: 1 }, Bar: { number: 1 } }, 'Foo is not a property that exists. Bar is not a property that exists.');
  await refused({ Score: { rich_text: text('1') } }, 'Score is expected to be number.');
  await refused({ Score: { number: '12' } }, 'body failed validation: body.properties.Score.number should be a number or `null`, instead was `"12"`.');
  await refused({ Done: { checkbox: null } }, /checkbox should be a boolean/);
  await refused({ Link: { url: '' } }, /length should be ≥ `1`/);
  await refused({ Who: { people: [{ id: PARENT }] } }, /Could not find user/);
});

test('17.5 text: 2000 units an item, 100 items', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  const refused = (rich, message) => bench.refused(400, 'validation_error', message, 'PATCH', `/v1/pages/${id}`, { properties: { pk: { rich_text: rich } } });
  await refused(text('x'.repeat(2001)), 'body failed validation: body.properties.pk.rich_text[0].text.content.length should be ≤ `2000`, instead was `2001`.');
  await refused(text('\u{1f600}'.repeat(1001)), /instead was `2002`/);
  await refused(Array.from({ length: 101 }, () => text('x')[0]), 'body failed validation: body.properties.pk.rich_text.length should be ≤ `100`, instead was `101`.');
  const full = await bench.patch(id, { pk: { rich_text: Array.from({ length: 100 }, (_, i) => text(String(i % 10).repeat(2000))[0]) } });
  assert.equal(full.properties.pk.rich_text.map((t) => t.plain_text).join('').length, 200000);
});

test('17.5 a body above the limit is refused', async () => {
  const { ds } = await bench.table();
  const items = Array.from({ length: 100 }, () => text('ä'.repeat(2000))[0]);
  await bench.row(ds, { pk: { rich_text: items } });
  await bench.refused(400, 'validation_error', /body\.length should be ≤ `500000`/, 'POST', '/v1/pages', { parent: { data_source_id: ds }, properties: { pk: { rich_text: items }, Name: { title: items } } });
  await bench.ctl('POST', 'settings', { oversize_status: 413 });
  assert.equal((await bench.api('POST', '/v1/pages', 'x'.repeat(5000000))).status, 413);
});

test('17.5 a title: cleared by an empty array, absent in a create', async () => {
  const { ds } = await bench.table();
  const page = await bench.ok('POST', '/v1/pages', { parent: { data_source_id: ds } });
  assert.deepEqual(page.properties.Name.title, []);
  await bench.patch(page.id, { title: { title: text('by id') } });
  const cleared = await bench.patch(page.id, { Name: { title: [] } });
  assert.deepEqual(cleared.properties.Name.title, []);
});

test('17.5 relations show 25 references, the rest by property items', async () => {
  const target = await bench.table({ Name: { title: {} } }, 'targets');
  const { ds, ids } = await bench.table({ Name: { title: {} }, Links: { relation: { data_source_id: target.ds, single_property: {} } } });
  const rows = await Promise.all(Array.from({ length: 101 }, () => bench.row(target.ds)));
  const refs = rows.map((r) => ({ id: r.id }));
  await bench.refused(400, 'validation_error', /relation\.length should be ≤ `100`/, 'POST', '/v1/pages', { parent: { data_source_id: ds }, properties: { Links: { relation: refs } } });
  const page = await bench.row(ds, { Links: { relation: refs.slice(0, 60) } });
  assert.equal(page.properties.Links.relation.length, 25);
  assert.equal(page.properties.Links.has_more, true);
  const path = `/v1/pages/${page.id}/properties/${ids.Links}`;
  const first = await bench.ok('GET', `${path}?page_size=50`);
  assert.equal(first.results.length, 50);
  assert.equal(first.type, 'property_item');
  const second = await bench.ok('GET', `${path}?page_size=50&start_cursor=${first.next_cursor}`);
  assert.equal(second.has_more, false);
  assert.deepEqual([...first.results, ...second.results].map((r) => r.relation), refs.slice(0, 60));
  await bench.refused(400, 'validation_error', 'The start_cursor provided is invalid: nonsense', 'GET', `${path}?start_cursor=nonsense`);
  await bench.refused(400, 'validation_error', 'query failed validation: query.page_size should be ≤ `100` or `undefined`, instead was `101`.', 'GET', `${path}?page_size=101`);
  // a short list says that it is whole
  const short = await bench.patch(page.id, { Links: { relation: refs.slice(0, 25) } });
  assert.equal(short.properties.Links.has_more, false);
});

test('17.5 people beyond 25 are missing without a sign', async () => {
  const { ds } = await bench.table();
  const users = (await bench.ok('GET', '/v1/users')).results;
  await bench.ctl('POST', 'settings', { truncate_refs: 2 });
  const page = await bench.row(ds, { Who: { people: users.map((u) => ({ id: u.id })) } });
  assert.equal(page.properties.Who.people.length, 2);
  assert.equal('has_more' in page.properties.Who, false);
});

test('a relation takes only pages of its target', async () => {
  const target = await bench.table({ Name: { title: {} } }, 'targets');
  const { ds } = await bench.table({ Name: { title: {} }, Links: { relation: { data_source_id: target.ds, single_property: {} } } });
  const own = await bench.row(ds);
  await bench.refused(400, 'validation_error', /not a page of the related data source/, 'PATCH', `/v1/pages/${own.id}`, { properties: { Links: { relation: [{ id: own.id }] } } });
  await bench.refused(404, 'object_not_found', /Could not find page/, 'PATCH', `/v1/pages/${own.id}`, { properties: { Links: { relation: [{ id: '99999999-9999-4999-8999-999999999999' }] } } });
});

test('a relation with two sides shows both', async () => {
  const target = await bench.table({ Name: { title: {} } }, 'targets');
  const { ds } = await bench.table({ Name: { title: {} }, Up: { relation: { data_source_id: target.ds, dual_property: { synced_property_name: 'Down' } } } });
  const parent = await bench.row(target.ds);
  const child = await bench.row(ds, { Up: { relation: [{ id: parent.id }] } });
  const seen = await bench.ok('GET', `/v1/pages/${parent.id}`);
  assert.deepEqual(seen.properties.Down.relation, [{ id: child.id }]);
  await bench.patch(child.id, { Up: { relation: [] } });
  assert.deepEqual((await bench.ok('GET', `/v1/pages/${parent.id}`)).properties.Down.relation, []);
});

// ---- 17.12 what comes back ----

test('17.12 text comes back merged, with annotations, plain_text and href', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, { pk: { rich_text: [...text('one '), ...text('two '), ...text('bold', { annotations: { bold: true } }), { text: { content: 'link', link: { url: 'https://example.com' } } }] } });
  const items = page.properties.pk.rich_text;
  assert.deepEqual(items.map((i) => i.plain_text), ['one two ', 'bold', 'link']);
  assert.equal(items[0].annotations.color, 'default');
  assert.equal(items[1].annotations.bold, true);
  assert.equal(items[2].href, 'https://example.com/');
  await bench.ctl('POST', 'settings', { merge_text: false });
  const apart = await bench.patch(page.id, { pk: { rich_text: [...text('one '), ...text('two')] } });
  assert.equal(apart.properties.pk.rich_text.length, 2);
});

test('17.12 half a pair of surrogates is lost', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, { pk: { rich_text: text('a\ud83d') } });
  assert.equal(page.properties.pk.rich_text[0].plain_text, 'a\ufffd');
});

test('17.12 dates come back written differently', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  const when = async (date) => (await bench.patch(id, { When: { date } })).properties.When.date;
  assert.deepEqual(await when({ start: '2026-11-01' }), { start: '2026-11-01', end: null, time_zone: null });
  assert.equal((await when({ start: '2026-11-01T10:09:42Z' })).start, '2026-11-01T10:09:00.000+00:00');
  assert.equal((await when({ start: '2026-11-01T10:09:00-05:30' })).start, '2026-11-01T10:09:00.000-05:30');
  assert.deepEqual(await when({ start: '2026-07-01T10:00:00', end: '2026-12-01T10:00:00', time_zone: 'Europe/Berlin' }),
    { start: '2026-07-01T10:00:00.000+02:00', end: '2026-12-01T10:00:00.000+01:00', time_zone: 'Europe/Berlin' });
  await bench.ctl('POST', 'settings', { date_precision: 'ms' });
  assert.equal((await when({ start: '2026-11-01T10:09:42.5Z' })).start, '2026-11-01T10:09:42.500+00:00');
  for (const start of ['infinity', '2026-02-30', '0044-03-15 BC', '12026-01-01']) {
    await bench.refused(400, 'validation_error', /valid ISO 8601 date/, 'PATCH', `/v1/pages/${id}`, { properties: { When: { date: { start } } } });
  }
});

test('17.12 links of files change with each read', async () => {
  const { ds } = await bench.table();
  const page = await bench.row(ds, { Files: { files: [{ name: 'a', file: { url: 'https://files.example.com/a' } }, { name: 'b', external: { url: 'https://example.com/b' } }] } });
  const again = await bench.ok('GET', `/v1/pages/${page.id}`);
  assert.notEqual(page.properties.Files.files[0].file.url, again.properties.Files.files[0].file.url);
  assert.deepEqual(page.properties.Files.files[1], again.properties.Files.files[1]);
});

test('17.12 trailing space may be lost', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'settings', { trim_text: true });
  const page = await bench.row(ds, { pk: { rich_text: text('a \n') } });
  assert.equal(page.properties.pk.rich_text[0].plain_text, 'a');
});

// ---- 17.6 trash, restore, purge, archive, move, share ----

const ARCHIVED = "Can't edit block that is archived. You must unarchive the block before editing.";

test('17.6 a page in the trash can be read and restored, not edited', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds, { Score: { number: 1 } });
  assert.equal((await bench.ok('PATCH', `/v1/pages/${id}`, { in_trash: true })).in_trash, true);
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).in_trash, true);
  assert.deepEqual((await bench.query(ds)).results, []);
  const refused = (body) => bench.refused(400, 'validation_error', ARCHIVED, 'PATCH', `/v1/pages/${id}`, body);
  await refused({ properties: { Score: { number: 2 } } });
  await refused({ in_trash: true });
  await refused({ in_trash: false, properties: { Score: { number: 2 } } });
  assert.equal((await bench.ok('PATCH', `/v1/pages/${id}`, { in_trash: false })).in_trash, false);
  assert.equal((await bench.query(ds)).results.length, 1);
});

test('17.6 a purged page is gone', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  await bench.edit({ op: 'purge', page_id: id });
  await bench.refused(404, 'object_not_found', /Could not find page/, 'GET', `/v1/pages/${id}`);
});

test('17.6 archived rows are asked for by themselves', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  await bench.edit({ op: 'archive', page_id: id });
  assert.equal((await bench.query(ds)).results.length, 0);
  const [page] = (await bench.query(ds, { is_archived: true })).results;
  assert.equal(page.is_archived, true);
  assert.equal(page.in_trash, false);
});

test('17.6 a page that is moved out keeps its id and loses what does not fit', async () => {
  const a = await bench.table({ Name: { title: {} }, Score: { number: {} }, Kind: { select: { options: [{ name: 'x' }, { name: 'only here' }] } } }, 'a');
  const b = await bench.table({ Titel: { title: {} }, Kind: { select: { options: [{ name: 'X' }] } } }, 'b');
  const page = await bench.row(a.ds, { Name: { title: text('t') }, Score: { number: 1 }, Kind: { select: { name: 'x' } } });
  await bench.edit({ op: 'move', page_id: page.id, data_source_id: b.ds });
  const moved = await bench.ok('GET', `/v1/pages/${page.id}`);
  assert.equal(moved.parent.data_source_id, b.ds);
  assert.equal(moved.parent.database_id, b.database);
  assert.equal(moved.properties.Titel.title[0].plain_text, 't');
  assert.equal(moved.properties.Kind.select.name, 'X');
  assert.equal(moved.properties.Score, undefined);
  assert.equal((await bench.query(a.ds)).results.length, 0);
  const back = await bench.ok('POST', `/v1/pages/${page.id}/move`, { parent: { type: 'data_source_id', data_source_id: a.ds } });
  assert.equal(back.parent.data_source_id, a.ds);
});

test('17.6 what is not shared is 404 and absent from lists', async () => {
  const { ds } = await bench.table();
  const [one, two] = [await bench.row(ds), await bench.row(ds)];
  await bench.edit({ op: 'unshare', page_id: one.id });
  await bench.refused(404, 'object_not_found', null, 'GET', `/v1/pages/${one.id}`);
  await bench.refused(404, 'object_not_found', null, 'PATCH', `/v1/pages/${one.id}`, { properties: {} });
  assert.deepEqual((await bench.query(ds)).results.map((p) => p.id), [two.id]);
  await bench.edit({ op: 'share', page_id: one.id });
  await bench.ok('GET', `/v1/pages/${one.id}`);
  // above: everything below goes, too
  await bench.edit({ op: 'unshare', id: PARENT });
  await bench.refused(404, 'object_not_found', /data source/, 'POST', `/v1/data_sources/${ds}/query`, {});
  await bench.refused(404, 'object_not_found', null, 'GET', `/v1/pages/${two.id}`);
  assert.deepEqual((await bench.ok('POST', '/v1/search', { query: 'table' })).results, []);
});

test('17.6 a connection can lose what another keeps', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'tokens', { token: 'ntn_two', name: 'two' });
  await bench.edit({ op: 'unshare', data_source_id: ds, connection: 'two' });
  await bench.ok('GET', `/v1/data_sources/${ds}`);
  await bench.refused(404, 'object_not_found', /integration "two"/, 'GET', `/v1/data_sources/${ds}`, undefined, { Authorization: 'Bearer ntn_two' });
});

test('17.6 a relation to something not shared looks empty and leaves the schema', async () => {
  const target = await bench.table({ Name: { title: {} } }, 'targets');
  const { ds } = await bench.table({ Name: { title: {} }, Links: { relation: { data_source_id: target.ds, single_property: {} } } });
  const [a, b] = [await bench.row(target.ds), await bench.row(target.ds)];
  const { id } = await bench.row(ds, { Links: { relation: [{ id: a.id }, { id: b.id }] } });
  await bench.edit({ op: 'unshare', page_id: a.id });
  assert.deepEqual((await bench.ok('GET', `/v1/pages/${id}`)).properties.Links.relation, [{ id: b.id }]);
  await bench.edit({ op: 'unshare', database_id: target.database });
  assert.equal((await bench.ok('GET', `/v1/data_sources/${ds}`)).properties.Links, undefined);
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).properties.Links, undefined);
});

test('17.6 a trashed database takes its rows along', async () => {
  const { ds, database } = await bench.table();
  const { id } = await bench.row(ds);
  await bench.ok('PATCH', `/v1/databases/${database}`, { in_trash: true });
  assert.equal((await bench.ok('GET', `/v1/data_sources/${ds}`)).in_trash, true);
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).in_trash, true);
  await bench.refused(400, 'validation_error', ARCHIVED, 'PATCH', `/v1/pages/${id}`, { properties: { Score: { number: 1 } } });
  await bench.refused(400, 'validation_error', ARCHIVED, 'POST', '/v1/pages', { parent: { data_source_id: ds } });
  assert.deepEqual((await bench.query(ds)).results, []);
  await bench.ok('PATCH', `/v1/databases/${database}`, { in_trash: false });
  assert.equal((await bench.query(ds)).results.length, 1);
});

// ---- 17.7 schema ----

test('17.7 ids of properties need encoding and are used as they came', async () => {
  const { ds, ids } = await bench.table();
  const odd = Object.entries(ids).filter(([name, id]) => id.includes('%') && name !== 'Created');
  assert.ok(odd.length >= 4, JSON.stringify(ids));
  const page = await bench.row(ds, { [ids.Score]: { number: 5 } });
  assert.equal(page.properties.Score.number, 5);
  const [, id] = odd[0];
  const item = await bench.ok('GET', `/v1/pages/${page.id}/properties/${id}`);
  assert.equal(item.object, page.properties[odd[0][0]].type === 'rich_text' ? 'list' : 'property_item');
  await bench.refused(404, 'object_not_found', /property/, 'GET', `/v1/pages/${page.id}/properties/${encodeURIComponent(id)}`);
  const found = await bench.query(ds, { filter: { property: ids.Score, number: { equals: 5 } } });
  assert.equal(found.results.length, 1);
});

test('17.7 rename keeps id and values, by the API and by a person', async () => {
  const { ds, ids } = await bench.table();
  const { id } = await bench.row(ds, { Score: { number: 5 } });
  await bench.ok('PATCH', `/v1/data_sources/${ds}`, { properties: { [ids.Score]: { name: 'Points' } } });
  await bench.edit({ op: 'rename_property', data_source_id: ds, property: 'Points', name: 'Marks' });
  const page = await bench.ok('GET', `/v1/pages/${id}`);
  assert.equal(page.properties.Marks.number, 5);
  assert.equal(page.properties.Marks.id, ids.Score);
  await bench.refused(400, 'validation_error', 'Score is not a property that exists.', 'PATCH', `/v1/pages/${id}`, { properties: { Score: { number: 6 } } });
  await bench.patch(id, { [ids.Score]: { number: 6 } });
});

test('17.7 delete and add again gives another id', async () => {
  const { ds, ids } = await bench.table();
  const { id } = await bench.row(ds, { Score: { number: 5 } });
  await bench.ok('PATCH', `/v1/data_sources/${ds}`, { properties: { Score: null } });
  const source = await bench.ok('PATCH', `/v1/data_sources/${ds}`, { properties: { Score: { number: {} } } });
  assert.notEqual(source.properties.Score.id, ids.Score);
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).properties.Score.number, null);
  await bench.refused(400, 'validation_error', /title property cannot be removed/, 'PATCH', `/v1/data_sources/${ds}`, { properties: { Name: null } });
});

test('17.7 retype casts values', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds, { Score: { number: 5 }, pk: { rich_text: text('17') }, Kind: { select: { name: 'later' } } });
  await bench.edit({ op: 'retype_property', data_source_id: ds, property: 'Score', type: 'rich_text' });
  await bench.edit({ op: 'retype_property', data_source_id: ds, property: 'pk', type: 'number' });
  await bench.ok('PATCH', `/v1/data_sources/${ds}`, { properties: { Kind: { multi_select: {} } } });
  const page = await bench.ok('GET', `/v1/pages/${id}`);
  assert.equal(page.properties.Score.rich_text[0].plain_text, '5');
  assert.equal(page.properties.pk.number, 17);
  assert.deepEqual(page.properties.Kind.multi_select.map((o) => o.name), ['later']);
});

test('17.7 options are replaced; what exists keeps name and color', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds, { Kind: { select: { name: 'later' } } });
  const source = await bench.ok('PATCH', `/v1/data_sources/${ds}`, { properties: { Kind: { select: { options: [{ name: 'Urgent', color: 'red' }, { name: 'soon' }] } } } });
  assert.deepEqual(source.properties.Kind.select.options.map((o) => [o.name, o.color === 'blue']), [['urgent', true], ['soon', source.properties.Kind.select.options[1].color === 'blue']]);
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).properties.Kind.select, null);
  await bench.refused(400, 'validation_error', /options\.length should be ≤ `100`/, 'PATCH', `/v1/data_sources/${ds}`, { properties: { Kind: { select: { options: Array.from({ length: 101 }, (_, i) => ({ name: `o${i}` })) } } } });
});

test('17.7 an option that a person renames is renamed in all rows', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds, { Kind: { select: { name: 'later' } } });
  await bench.edit({ op: 'rename_option', data_source_id: ds, property: 'Kind', option: 'later', name: 'someday' });
  assert.equal((await bench.ok('GET', `/v1/pages/${id}`)).properties.Kind.select.name, 'someday');
});

test('17.7 a refused change of a schema leaves nothing behind', async () => {
  const target = await bench.table({ Name: { title: {} } }, 'targets');
  const { ds, source } = await bench.table();
  await bench.refused(400, 'validation_error', null, 'PATCH', `/v1/data_sources/${ds}`, { properties: {
    Extra: { number: {} }, Up: { relation: { data_source_id: target.ds, dual_property: { synced_property_name: 'Down' } } },
    Kind: { select: { options: [{ name: 'a,b' }] } },
  } });
  assert.deepEqual((await bench.ok('GET', `/v1/data_sources/${ds}`)).properties, source.properties);
  assert.deepEqual(Object.keys((await bench.ok('GET', `/v1/data_sources/${target.ds}`)).properties), ['Name']);
});

test('17.7 databases: a title is needed, top-level properties have no effect', async () => {
  await bench.refused(400, 'validation_error', 'Title is not provided', 'POST', '/v1/databases', { parent: { type: 'page_id', page_id: PARENT }, initial_data_source: { properties: { A: { number: {} } } } });
  const database = await bench.ok('POST', '/v1/databases', { parent: { type: 'page_id', page_id: PARENT }, properties: { Name: { title: {} }, A: { number: {} } } });
  assert.equal(database.properties, undefined);
  const source = await bench.ok('GET', `/v1/data_sources/${database.data_sources[0].id}`);
  assert.deepEqual(Object.keys(source.properties), ['Name']);
});

test('a second data source makes the database no parent of pages', async () => {
  const { database, ds } = await bench.table();
  await bench.ok('POST', '/v1/pages', { parent: { type: 'database_id', database_id: database } });
  const second = await bench.ok('POST', '/v1/data_sources', { parent: { type: 'database_id', database_id: database }, properties: { Name: { title: {} } }, title: text('second') });
  const error = await bench.refused(400, 'validation_error', null, 'POST', '/v1/pages', { parent: { type: 'database_id', database_id: database } });
  assert.deepEqual(error.additional_data.child_data_source_ids, [ds, second.id]);
  assert.equal(error.additional_data.error_type, 'multiple_data_sources_for_database');
});

// ---- 17.3 time, 17.11 versions ----

test('17.3 times are rounded down to the minute on a clock that tests set', async () => {
  const { ds } = await bench.table();
  await bench.ctl('POST', 'clock', { set: '2026-11-01T10:02:59.999Z', freeze: true });
  const page = await bench.row(ds);
  assert.equal(page.created_time, '2026-11-01T10:02:00.000Z');
  await bench.ctl('POST', 'clock', { advance: 300000 });
  const res = await bench.api('PATCH', `/v1/pages/${page.id}`, { properties: {} });
  assert.equal(res.json.created_time, '2026-11-01T10:02:00.000Z');
  assert.equal(res.json.last_edited_time, '2026-11-01T10:07:00.000Z');
  assert.equal(res.headers.date, 'Sun, 01 Nov 2026 10:07:59 GMT');
});

test('17.11 archived is of the old version alone', async () => {
  const { ds, database } = await bench.table();
  const { id } = await bench.row(ds);
  const page = await bench.ok('GET', `/v1/pages/${id}`);
  assert.equal('archived' in page, false);
  await bench.refused(400, 'validation_error', 'body failed validation: body.archived should be not present, instead was `true`.', 'PATCH', `/v1/pages/${id}`, { archived: true });
  bench.version = OLD;
  for (const path of [`/v1/pages/${id}`, `/v1/databases/${database}`, `/v1/data_sources/${ds}`]) {
    const seen = await bench.ok('GET', path);
    assert.equal(seen.archived, false);
    assert.equal(seen.in_trash, false);
  }
  const trashed = await bench.ok('PATCH', `/v1/pages/${id}`, { archived: true });
  assert.equal(trashed.in_trash, true);
  assert.equal(trashed.archived, true);
});

test('17.11 after is of the old version alone', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  const children = [{ paragraph: { rich_text: text('one') } }, { paragraph: { rich_text: text('two') } }];
  const added = await bench.ok('PATCH', `/v1/blocks/${id}/children`, { children });
  const body = { children: [{ paragraph: { rich_text: text('between') } }], after: added.results[0].id };
  await bench.refused(400, 'validation_error', /body\.after should be not present/, 'PATCH', `/v1/blocks/${id}/children`, body);
  bench.version = OLD;
  await bench.ok('PATCH', `/v1/blocks/${id}/children`, body);
  const list = await bench.ok('GET', `/v1/blocks/${id}/children`);
  assert.deepEqual(list.results.map((b) => b.paragraph.rich_text[0].plain_text), ['one', 'between', 'two']);
  bench.version = NEW;
  await bench.ok('PATCH', `/v1/blocks/${id}/children`, { children: [children[0]], position: { type: 'start' } });
});

// ---- bodies and comments ----

test('a row and its body are made in one request and read back as Markdown', async () => {
  const { ds } = await bench.table();
  const markdown = '# Title\nText\n- [x] done\n- item\n```sql\nSELECT 1;\n```';
  const page = await bench.ok('POST', '/v1/pages', { parent: { data_source_id: ds }, markdown });
  assert.equal((await bench.ok('GET', `/v1/pages/${page.id}/markdown`)).markdown, markdown);
  const changed = await bench.ok('PATCH', `/v1/pages/${page.id}/markdown`, { type: 'update_content', update_content: { content_updates: [{ old_str: 'Text', new_str: 'Words' }] } });
  assert.match(changed.markdown, /\nWords\n/);
  await bench.refused(400, 'validation_error', null, 'PATCH', `/v1/pages/${page.id}/markdown`, { type: 'update_content', update_content: { content_updates: [{ old_str: 'absent', new_str: '' }] } });
  await bench.refused(400, 'validation_error', 'body failed validation: body.children.length should be ≤ `100`, instead was `101`.', 'POST', '/v1/pages', { parent: { data_source_id: ds }, children: Array.from({ length: 101 }, () => ({ divider: {} })) });
});

test('comments stand on pages', async () => {
  const { ds } = await bench.table();
  const { id } = await bench.row(ds);
  const comment = await bench.ok('POST', '/v1/comments', { parent: { page_id: id }, rich_text: text('note') });
  const list = await bench.ok('GET', `/v1/comments?block_id=${id}`);
  assert.deepEqual(list.results.map((c) => c.id), [comment.id]);
  assert.equal((await bench.ok('GET', `/v1/comments/${comment.id}`)).rich_text[0].plain_text, 'note');
});
