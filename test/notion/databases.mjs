// databases.mjs
//	Databases (containers) and data sources (schema and rows), users, and what stands around them.
import {
  archived, badCursor, bad, invalid, mustBeBoolean, mustBeObject, mustBeUuid, notFound, onlyKeys, pathUuid,
  queryPageSize, readIcon, readRichText, showRichText,
} from './checks.mjs';
import { checkSize, createSchema, indexOptions, patchProperty, reindex, showProperties } from './schema.mjs';
import { pageUrl, showTime } from './store.mjs';

const CREATE_KEYS = new Set(['parent', 'title', 'description', 'is_inline', 'initial_data_source', 'icon', 'cover',
  'properties']);
const UPDATE_KEYS = new Set(['parent', 'title', 'description', 'is_inline', 'icon', 'cover', 'in_trash', 'is_locked']);
const SOURCE_CREATE_KEYS = new Set(['parent', 'properties', 'title', 'icon']);
const SOURCE_UPDATE_KEYS = new Set(['title', 'icon', 'properties', 'in_trash', 'parent']);
const withOld = (keys) => new Set([...keys, 'archived']);
const UPDATE_KEYS_OLD = withOld(UPDATE_KEYS);
const SOURCE_UPDATE_KEYS_OLD = withOld(SOURCE_UPDATE_KEYS);

// ---- finding ----

export function findDatabase(ctx, text) {
  const id = pathUuid(text, 'database_id');
  const database = ctx.store.databases.get(id);
  if (!database || !ctx.store.visible(database, ctx.connection)) throw notFound('database', id, ctx.connection);
  return database;
}

export function findSource(ctx, text) {
  const id = pathUuid(text, 'data_source_id');
  const source = ctx.store.dataSources.get(id);
  if (!source || !ctx.store.visible(source, ctx.connection)) throw notFound('data source', id, ctx.connection);
  return source;
}

export function showSource(store, source, ctx) {
  const database = store.databases.get(source.databaseId);
  const trashed = store.inTrash(source);
  const shown = {
    object: 'data_source', id: source.id, title: showRichText(source.title),
    description: showRichText(database.description), parent: store.showParent(source),
    database_parent: store.showParent(database), is_inline: database.inline, in_trash: trashed,
    created_time: showTime(source.created), last_edited_time: showTime(source.edited),
    created_by: { object: 'user', id: source.createdBy }, last_edited_by: { object: 'user', id: source.editedBy },
    properties: showProperties(store, source, ctx.connection), icon: source.icon, cover: database.cover,
    url: pageUrl(source.id), public_url: null,
  };
  if (ctx.withArchived) shown.archived = trashed;
  return shown;
}

// ---- databases ----

function readPageParent(ctx, given, path) {
  mustBeObject(given, path);
  if (given.workspace !== undefined) throw invalid('Internal connections cannot put databases at the top of a workspace.');
  const id = mustBeUuid(given.page_id, `${path}.page_id`);
  const page = ctx.store.pages.get(id);
  if (!page || !ctx.store.visible(page, ctx.connection)) throw notFound('page', id, ctx.connection);
  if (ctx.store.inTrash(page)) throw archived();
  return page;
}

function putDatabase(database, body) {
  if (body.title !== undefined) database.title = readRichText(body.title, 'body.title');
  if (body.description !== undefined) database.description = readRichText(body.description, 'body.description');
  if (body.is_inline !== undefined) database.inline = mustBeBoolean(body.is_inline, 'body.is_inline');
  if (body.is_locked !== undefined) database.locked = mustBeBoolean(body.is_locked, 'body.is_locked');
  if (body.icon !== undefined) database.icon = readIcon(body.icon, 'body.icon');
  if (body.cover !== undefined) database.cover = readIcon(body.cover, 'body.cover');
}

// A schema is tried on a copy first, so that a refused request leaves nothing behind. What is marked
// as a trial leaves other data sources alone.
function tried(store, source, work) {
  const copy = {
    ...source, trial: true, pages: new Set(),
    properties: source.properties.map((p) => ({ ...p, options: p.options && p.options.map((o) => ({ ...o })) })),
  };
  for (const p of copy.properties) if (p.options) indexOptions(p);
  reindex(copy);
  const chance = store.chance.state;
  work(copy);
  checkSize(copy);
  store.chance.state = chance;
}

export function createDatabase(ctx) {
  const { store, body } = ctx;
  ctx.need('insert_content');
  onlyKeys(body, 'body', CREATE_KEYS);
  const parent = readPageParent(ctx, body.parent, 'body.parent');
  const initial = body.initial_data_source;
  if (initial !== undefined) {
    mustBeObject(initial, 'body.initial_data_source');
    onlyKeys(initial, 'body.initial_data_source', new Set(['properties']));
  }
  // `properties` at the top belongs to an old version: it is taken and has no effect
  const path = 'body.initial_data_source.properties';
  const draft = { title: '' };
  putDatabase(draft, body);
  const blank = { id: 'draft', databaseId: 'draft', title: draft.title, properties: [], byKey: new Map(), pages: new Set() };
  tried(store, blank, (copy) => createSchema(store, copy, initial?.properties, path, ctx));
  const database = store.addDatabase('page', parent.id, ctx.userId);
  putDatabase(database, body);
  const source = store.addDataSource(database, database.title, ctx.userId);
  createSchema(store, source, initial?.properties, path, ctx);
  store.event('database.created', database, {}, ctx.userId);
  store.event('data_source.created', source, {}, ctx.userId);
  ctx.changed(database);
  return store.showDatabase(database, ctx);
}

export function getDatabase(ctx, id) {
  ctx.need('read_content');
  return ctx.store.showDatabase(findDatabase(ctx, id), ctx);
}

export function updateDatabase(ctx, id) {
  const { store, body } = ctx;
  ctx.need('update_content');
  const database = findDatabase(ctx, id);
  onlyKeys(body, 'body', ctx.withArchived ? UPDATE_KEYS_OLD : UPDATE_KEYS);
  const trash = readTrash(store, database, body);
  putDatabase({ ...database }, body);
  if (body.parent !== undefined) {
    database.parentId = readPageParent(ctx, body.parent, 'body.parent').id;
    database.parentType = 'page';
  }
  putDatabase(database, body);
  if (trash !== undefined) setTrash(store, database, trash, ctx.userId);
  store.changed(database, ctx.userId);
  ctx.changed(database);
  return store.showDatabase(database, ctx);
}

// Returns the wanted state of the trash, undefined for none; refuses other changes of what is in it.
function readTrash(store, object, body) {
  const trash = body.in_trash ?? body.archived;
  if (trash !== undefined) mustBeBoolean(trash, 'body.in_trash');
  if (store.aboveInTrash(object) || (object.trashed && !(trash === false && Object.keys(body).length === 1))) throw archived();
  return trash;
}

export function setTrash(store, object, on, userId) {
  if (object.trashed === on) return;
  object.trashed = on;
  store.changed(object, userId);
  store.event(`${object.kind}.${on ? 'deleted' : 'undeleted'}`, object, {}, userId);
}

// ---- data sources ----

export function createSource(ctx) {
  const { store, body } = ctx;
  ctx.need('insert_content');
  onlyKeys(body, 'body', SOURCE_CREATE_KEYS);
  mustBeObject(body.parent, 'body.parent');
  const databaseId = mustBeUuid(body.parent.database_id, 'body.parent.database_id');
  const database = store.databases.get(databaseId);
  if (!database || !store.visible(database, ctx.connection)) throw notFound('database', databaseId, ctx.connection);
  if (store.inTrash(database)) throw archived();
  if (body.properties === undefined) throw bad('body.properties', 'defined', undefined);
  const title = body.title === undefined ? '' : readRichText(body.title, 'body.title');
  const icon = body.icon === undefined ? null : readIcon(body.icon, 'body.icon');
  const blank = { id: 'draft', databaseId, title, properties: [], byKey: new Map(), pages: new Set() };
  tried(store, blank, (copy) => createSchema(store, copy, body.properties, 'body.properties', ctx));
  const source = store.addDataSource(database, title, ctx.userId);
  source.icon = icon;
  createSchema(store, source, body.properties, 'body.properties', ctx);
  store.event('data_source.created', source, {}, ctx.userId);
  ctx.changed(source);
  return showSource(store, source, ctx);
}

export function getSource(ctx, id) {
  ctx.need('read_content');
  return showSource(ctx.store, findSource(ctx, id), ctx);
}

export function updateSource(ctx, id) {
  const { store, body } = ctx;
  ctx.need('update_content');
  const source = findSource(ctx, id);
  onlyKeys(body, 'body', ctx.withArchived ? SOURCE_UPDATE_KEYS_OLD : SOURCE_UPDATE_KEYS);
  const trash = readTrash(store, source, body);
  const title = body.title === undefined ? source.title : readRichText(body.title, 'body.title');
  const icon = body.icon === undefined ? source.icon : readIcon(body.icon, 'body.icon');
  const given = body.properties === undefined ? {} : mustBeObject(body.properties, 'body.properties');
  const apply = (target) => Object.keys(given).map((key) =>
    patchProperty(store, target, key, given[key], `body.properties.${key}`, ctx));
  if (Object.keys(given).length) tried(store, source, apply);
  source.title = title;
  source.icon = icon;
  const updated = apply(source);
  if (trash !== undefined) setTrash(store, source, trash, ctx.userId);
  store.changed(source, ctx.userId);
  if (updated.length) store.event('data_source.schema_updated', source, { updated_properties: updated }, ctx.userId);
  ctx.changed(source);
  return showSource(store, source, ctx);
}

export function listTemplates(ctx, id) {
  ctx.need('read_content');
  findSource(ctx, id);
  return { templates: [], has_more: false, next_cursor: null };
}

// ---- users ----

export function getMe(ctx) {
  return ctx.store.showMe(ctx.connection);
}

export function getUser(ctx, text) {
  ctx.need('user_info');
  const id = pathUuid(text, 'user_id');
  if (!ctx.store.users.has(id)) throw notFound('user', id, ctx.connection);
  return ctx.store.showUser(id);
}

export function listUsers(ctx) {
  ctx.need('user_info');
  const params = new URLSearchParams(ctx.query);
  const size = queryPageSize(params.get('page_size'));
  const ids = [...ctx.store.users.keys()];
  const cursor = params.get('start_cursor');
  const start = cursor ? ids.indexOf(cursor) : 0;
  if (start < 0) throw badCursor(cursor);
  const next = ids[start + size] ?? null;
  return {
    object: 'list', results: ids.slice(start, start + size).map((id) => ctx.store.showUser(id)), next_cursor: next,
    has_more: next !== null, type: 'user', user: {},
  };
}
