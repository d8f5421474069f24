// cases.mjs
//	What the official client does with the simulator. Each case has a simulator of its own; the
//	judge looks at all that goes over the wire meanwhile (client.mjs).
import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import { iteratePaginatedAPI, isFullPage, verifyWebhookSignature } from '@notionhq/client';
import { PARENT, text } from './client.mjs';

const PROPERTIES = {
  Name: { title: {} }, Note: { rich_text: {} }, Score: { number: { format: 'number' } }, Done: { checkbox: {} },
  Kind: { select: { options: [{ name: 'urgent', color: 'blue' }] } }, Tags: { multi_select: { options: [] } }, State: { status: {} },
  When: { date: {} }, Link: { url: {} }, Mail: { email: {} }, Phone: { phone_number: {} }, Who: { people: {} }, Files: { files: {} },
  Made: { created_time: {} }, Maker: { created_by: {} }, Edited: { last_edited_time: {} }, Editor: { last_edited_by: {} },
  Number: { unique_id: { prefix: 'T' } },
};

const plain = (property) => property[property.type].map((item) => item.plain_text).join('');

export async function whoAmI(bot) {
  const me = await bot.client.users.me({});
  assert.equal(me.type, 'bot');
  const users = await bot.client.users.list({});
  assert.ok(users.results.some((user) => user.type === 'person'));
  const one = await bot.client.users.retrieve({ user_id: users.results[0].id });
  assert.equal(one.id, users.results[0].id);
}

export async function makesAndChangesADatabase(bot) {
  const { database, ds, source } = await bot.table(PROPERTIES, 'decisions');
  assert.deepEqual(Object.keys(source.properties).sort(), Object.keys(PROPERTIES).sort());
  const again = await bot.client.databases.retrieve({ database_id: database.id });
  assert.equal(again.data_sources[0].id, ds);
  const renamed = await bot.client.databases.update({ database_id: database.id, title: text('memories'), description: text('d') });
  assert.equal(renamed.title[0].plain_text, 'memories');
  const second = await bot.client.dataSources.create({
    parent: { type: 'database_id', database_id: database.id }, properties: { Name: { title: {} } }, title: text('second'),
  });
  assert.equal(second.parent.database_id, database.id);
  await bot.client.dataSources.listTemplates({ data_source_id: ds });
}

export async function changesASchema(bot) {
  const { ds, source } = await bot.table(PROPERTIES);
  const { id } = source.properties.Score;
  const changed = await bot.client.dataSources.update({ data_source_id: ds, properties: {
    [id]: { name: 'Points' }, Phone: null, Extra: { rich_text: {} }, Link: { type: 'rich_text', rich_text: {} },
    Kind: { select: { options: [{ name: 'urgent' }, { name: 'later', color: 'red' }] } },
  } });
  assert.equal(changed.properties.Points.id, id);
  assert.equal(changed.properties.Phone, undefined);
  assert.equal(changed.properties.Link.type, 'rich_text');
  assert.deepEqual(changed.properties.Kind.select.options.map((o) => o.name), ['urgent', 'later']);
}

export async function writesAndReadsEveryType(bot) {
  const { ds, source } = await bot.table(PROPERTIES);
  const person = bot.started.sim.store.person;
  const page = await bot.row(ds, {
    Name: { title: text('first') }, Note: { rich_text: [...text('a'), { text: { content: 'b' }, annotations: { bold: true } }] },
    [source.properties.Score.id]: { number: 1.5 }, Done: { checkbox: true }, Kind: { select: { name: 'Urgent' } },
    Tags: { multi_select: [{ name: 'x' }, { name: 'y' }] }, State: { status: { name: 'Done' } },
    When: { date: { start: '2026-11-01T10:00:00Z', end: '2026-11-02T10:00:00Z' } }, Link: { url: 'https://example.com/a' },
    Mail: { email: 'a@example.com' }, Phone: { phone_number: '+1 2' }, Who: { people: [{ id: person }] },
    Files: { files: [{ name: 'f', external: { url: 'https://example.com/f' } }] },
  });
  assert.ok(isFullPage(page));
  assert.equal(plain(page.properties.Note), 'ab');
  assert.equal(page.properties.Kind.select.name, 'urgent');
  assert.equal(page.properties.Score.number, 1.5);
  for (const [name, property] of Object.entries(source.properties)) {
    const item = await bot.client.pages.properties.retrieve({ page_id: page.id, property_id: property.id });
    assert.ok(['property_item', 'list'].includes(item.object), name);
  }
  const cleared = await bot.client.pages.update({ page_id: page.id, properties: {
    Name: { title: [] }, Note: { rich_text: [] }, Score: { number: null }, Done: { checkbox: false }, Kind: { select: null },
    Tags: { multi_select: [] }, State: { status: null }, When: { date: null }, Link: { url: null }, Mail: { email: null },
    Phone: { phone_number: null }, Who: { people: [] }, Files: { files: [] },
  } });
  assert.equal(cleared.properties.Score.number, null);
  assert.equal(cleared.properties.State.status.name, 'Not started');
  const got = await bot.client.pages.retrieve({ page_id: page.id, filter_properties: [source.properties.Score.id] });
  assert.deepEqual(Object.keys(got.properties), ['Score']);
}

// The types know places in schema writes and in pages, not in the schema that is read.
export async function writesAPlace(bot) {
  const { ds } = await bot.table({ Name: { title: {} }, Spot: { place: {} } });
  assert.equal(bot.wrong.length, 1);
  assert.match(bot.wrong.pop(), /^answer GET \/v1\/data_sources\/\S+: \/properties\/Spot/);
  const page = await bot.row(ds, { Spot: { place: { lat: 1, lon: 2, name: 'here' } } });
  assert.equal(page.properties.Spot.place.lat, 1);
  const cleared = await bot.client.pages.update({ page_id: page.id, properties: { Spot: { place: null } } });
  assert.equal(cleared.properties.Spot.place, null);
}

export async function pagesThroughAQuery(bot) {
  const { ds } = await bot.table({ Name: { title: {} }, Score: { number: {} } });
  for (let i = 0; i < 25; i++) await bot.row(ds, { Name: { title: text(`row ${i}`) }, Score: { number: i } });
  const seen = [];
  for await (const page of iteratePaginatedAPI(bot.client.dataSources.query, {
    data_source_id: ds, page_size: 10, sorts: [{ property: 'Score', direction: 'descending' }],
    filter: { and: [{ property: 'Score', number: { greater_than: 1 } },
      { timestamp: 'last_edited_time', last_edited_time: { on_or_after: '2020-01-01T00:00:00Z' } }] },
  })) seen.push(page.properties.Score.number);
  assert.deepEqual(seen, Array.from({ length: 23 }, (_, i) => 24 - i));
  const one = await bot.client.dataSources.query({ data_source_id: ds, filter: { property: 'Name', title: { equals: 'row 7' } }, filter_properties: ['Score'] });
  assert.equal(one.results[0].properties.Score.number, 7);
}

export async function saysWhenAQueryIsIncomplete(bot) {
  const { ds } = await bot.table({ Name: { title: {} } });
  for (let i = 0; i < 6; i++) await bot.row(ds, {});
  await bot.ctl('POST', 'settings', { query_cap: 4 });
  const list = await bot.client.dataSources.query({ data_source_id: ds });
  assert.equal(list.results.length, 4);
  assert.equal(list.has_more, false);
  assert.equal(list.request_status.incomplete_reason, 'query_result_limit_reached');
}

export async function linksRows(bot) {
  const target = await bot.table({ Name: { title: {} } }, 'target');
  const { ds } = await bot.table({ Name: { title: {} },
    One: { relation: { data_source_id: target.ds, type: 'single_property', single_property: {} } },
    Two: { relation: { data_source_id: target.ds, type: 'dual_property', dual_property: {} } } }, 'source');
  const ids = [];
  for (let i = 0; i < 30; i++) ids.push((await bot.row(target.ds, { Name: { title: text(`t${i}`) } })).id);
  const page = await bot.row(ds, { One: { relation: ids.map((id) => ({ id })) }, Two: { relation: [{ id: ids[0] }] } });
  assert.equal(page.properties.One.relation.length, 25);
  assert.equal(page.properties.One.has_more, true);
  const all = [];
  for await (const item of iteratePaginatedAPI(bot.client.pages.properties.retrieve, {
    page_id: page.id, property_id: page.properties.One.id, page_size: 20,
  })) all.push(item.relation.id);
  assert.deepEqual(all, ids);
  const other = await bot.client.pages.retrieve({ page_id: ids[0] });
  assert.ok(Object.values(other.properties).some((p) => p.type === 'relation' && p.relation[0].id === page.id));
}

export async function trashesRestoresAndMoves(bot) {
  const a = await bot.table({ Name: { title: {} } }, 'a');
  const b = await bot.table({ Name: { title: {} } }, 'b');
  const page = await bot.row(a.ds, { Name: { title: text('x') } });
  assert.equal((await bot.client.pages.update({ page_id: page.id, in_trash: true })).in_trash, true);
  assert.equal((await bot.client.dataSources.query({ data_source_id: a.ds })).results.length, 0);
  const error = await bot.refused('validation_error', 400, () => bot.client.pages.update({
    page_id: page.id, properties: { Name: { title: [] } } }));
  assert.match(error.message, /archived/);
  assert.equal((await bot.client.pages.update({ page_id: page.id, in_trash: false })).in_trash, false);
  const moved = await bot.client.pages.move({ page_id: page.id, parent: { type: 'data_source_id', data_source_id: b.ds } });
  assert.equal(moved.parent.data_source_id, b.ds);
}

export async function writesBodiesAndComments(bot) {
  const { ds } = await bot.table({ Name: { title: {} } });
  const page = await bot.row(ds, {}, { children: [{ object: 'block', type: 'paragraph', paragraph: { rich_text: text('body') } }] });
  await bot.client.blocks.children.append({ block_id: page.id, children: [
    { heading_1: { rich_text: text('head') } }, { to_do: { rich_text: text('do'), checked: true } },
    { bulleted_list_item: { rich_text: text('item') } }, { code: { rich_text: text('x'), language: 'c' } },
    { quote: { rich_text: text('q') } }, { divider: {} }] });
  const blocks = await bot.client.blocks.children.list({ block_id: page.id });
  assert.equal(blocks.results.length, 7);
  await bot.client.blocks.retrieve({ block_id: blocks.results[0].id });
  await bot.client.blocks.delete({ block_id: blocks.results[6].id });
  const markdown = await bot.client.pages.retrieveMarkdown({ page_id: page.id });
  assert.match(markdown.markdown, /^body\n# head/);
  await bot.client.pages.updateMarkdown({ page_id: page.id, type: 'replace_content', replace_content: { new_str: 'new' } });
  const comment = await bot.client.comments.create({ parent: { page_id: page.id }, rich_text: text('hello') });
  const comments = await bot.client.comments.list({ block_id: page.id });
  assert.equal(comments.results[0].id, comment.id);
  await bot.client.comments.retrieve({ comment_id: comment.id });
}

export async function finds(bot) {
  const { ds } = await bot.table({ Name: { title: {} } }, 'needle');
  await bot.row(ds, { Name: { title: text('needle in a row') } });
  const sources = await bot.client.search({ query: 'needle', filter: { property: 'object', value: 'data_source' } });
  assert.deepEqual(sources.results.map((r) => r.id), [ds]);
  const both = await bot.client.search({ query: 'needle', sort: { timestamp: 'last_edited_time', direction: 'descending' } });
  assert.equal(both.results.length, 2);
}

export async function isRefused(bot) {
  const { ds } = await bot.table(PROPERTIES);
  const nobody = '0e5f22ea-c460-4846-9628-c92de2e07e8b';
  bot.mayBreakTypes = true;
  const row = (properties) => () => bot.row(ds, properties);
  await bot.refused('unauthorized', 401, () => bot.make({ auth: 'wrong' }).users.me({}));
  await bot.refused('object_not_found', 404, () => bot.client.pages.retrieve({ page_id: nobody }));
  await bot.refused('validation_error', 400, () => bot.client.pages.retrieve({ page_id: 'abc' }));
  await bot.refused('validation_error', 400, row({ Nothing: { number: 1 } }));
  await bot.refused('validation_error', 400, row({ Score: { number: '1' } }));
  await bot.refused('validation_error', 400, row({ Made: { created_time: '2026-11-01' } }));
  await bot.refused('validation_error', 400, row({ State: { status: { name: 'nowhere' } } }));
  await bot.refused('validation_error', 400, row({ Kind: { select: { name: 'a,b' } } }));
  await bot.refused('validation_error', 400, row({ Note: { rich_text: text('x'.repeat(2001)) } }));
  await bot.refused('validation_error', 400, () => bot.client.dataSources.query({ data_source_id: ds, page_size: 101 }));
  await bot.refused('validation_error', 400, () => bot.client.dataSources.query({ data_source_id: ds, start_cursor: 'x' }));
  await bot.refused('invalid_request_url', 400, () => bot.client.request({ path: 'nothing', method: 'get' }));
}

export async function waitsAndTriesAgain(bot) {
  const { ds } = await bot.table({ Name: { title: {} } });
  await bot.ctl('POST', 'faults', { method: 'POST', path: '^/v1/pages$', count: 1, action: '429', retry_after: 1 });
  const patient = bot.make({ retry: { maxRetries: 2, initialRetryDelayMs: 10 } });
  const before = Date.now();
  await patient.pages.create({ parent: { type: 'data_source_id', data_source_id: ds }, properties: {} });
  assert.ok(Date.now() - before >= 900);
  await bot.ctl('POST', 'faults', { method: 'GET', path: '^/v1/users/me$', count: 1, action: '503' });
  await patient.users.me({});
  await bot.ctl('POST', 'faults', { method: 'POST', path: '^/v1/pages$', count: 1, action: '503_committed' });
  const error = await bot.refused('service_unavailable', 503, () => bot.row(ds, {}));
  const made = JSON.parse(error.body).additional_data.committed_resource_id;
  assert.equal((await bot.client.pages.retrieve({ page_id: made })).id, made);
}

export async function isLimited(bot) {
  await bot.ctl('POST', 'limits', { limit: 3, window: 'fixed_first' });
  for (let i = 0; i < 3; i++) await bot.client.users.me({});
  const error = await bot.refused('rate_limited', 429, () => bot.client.users.me({}));
  const wait = Number(error.headers.get('retry-after'));
  assert.ok(wait > 0 && wait <= 60);
  assert.equal(JSON.parse(error.body).additional_data.retry_after, String(wait));
}

// Returns a receiver of events: {url, events, all(n), close}.
async function receiver() {
  const events = [];
  const server = http.createServer((req, res) => {
    const chunks = [];
    req.on('data', (chunk) => chunks.push(chunk));
    req.on('end', () => {
      const body = Buffer.concat(chunks).toString();
      events.push({ body, json: JSON.parse(body), signature: req.headers['x-notion-signature'] });
      res.end();
      server.emit('event');
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const until = async (type) => {
    while (!events.some((e) => e.json.type === type)) await once(server, 'event', { signal: AbortSignal.timeout(5000) });
  };
  return { url: `http://127.0.0.1:${server.address().port}/`, events, until, close: () => server.close() };
}

export async function signsItsEvents(bot) {
  const hook = await receiver();
  const { verification_token: verificationToken } = await bot.ctl('POST', 'webhooks', { url: hook.url });
  const { database, ds } = await bot.table({ Name: { title: {} } });
  const page = await bot.row(ds, { Name: { title: text('x') } });
  await bot.client.pages.update({ page_id: page.id, properties: { Name: { title: text('y') } } });
  await bot.client.blocks.children.append({ block_id: page.id, children: [{ divider: {} }] });
  await bot.client.comments.create({ parent: { page_id: page.id }, rich_text: text('c') });
  await bot.client.dataSources.update({ data_source_id: ds, properties: { Extra: { number: {} } } });
  await bot.client.pages.update({ page_id: page.id, in_trash: true });
  await bot.client.pages.update({ page_id: page.id, in_trash: false });
  await bot.client.databases.update({ database_id: database.id, in_trash: true });
  await hook.until('database.deleted');
  hook.close();
  const [handshake, ...events] = hook.events;
  assert.equal(handshake.json.verification_token, verificationToken);
  for (const { body, json, signature } of events) {
    assert.equal(bot.schemas.answer('Event', json), null, json.type);
    assert.ok(await verifyWebhookSignature({ body, signature, verificationToken }), json.type);
    assert.equal(await verifyWebhookSignature({ body: `${body} `, signature, verificationToken }), false);
  }
  assert.deepEqual([...new Set(events.map((e) => e.json.type))].sort(), ['comment.created', 'data_source.created', 'data_source.schema_updated',
    'database.created', 'database.deleted', 'page.content_updated', 'page.created', 'page.deleted', 'page.properties_updated', 'page.undeleted']);
}
