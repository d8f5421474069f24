// pages.mjs
//	Pages: create, read, change, trash and restore, move, and the values of one property at a time.
//	The verbs that a person's edits need, too, are exported and take no request.
import {
  ApiError, archived, bad, badCursor, invalid, mustBeBoolean, mustBeObject, mustBeString, mustBeUuid,
  notFound, onlyKeys, pathUuid, queryPageSize, readIcon, restricted, showRichText,
} from './checks.mjs';
import { checkBlocks, addBlocks, addMarkdown, removeBlocks } from './content.mjs';
import { findProperty, propertyVisible } from './schema.mjs';
import { pageUrl, showTime } from './store.mjs';
import { commitOptions, putValues, readProperties, showValue, visibleRelation } from './values.mjs';

const CREATE_KEYS = new Set(['parent', 'properties', 'icon', 'cover', 'content', 'children', 'markdown',
  'allow_async', 'template', 'position']);
const UPDATE_KEYS = new Set(['properties', 'icon', 'cover', 'is_locked', 'template', 'erase_content', 'in_trash',
  'is_archived']);
const UPDATE_KEYS_OLD = new Set([...UPDATE_KEYS, 'archived']);
const LIST_TYPES = new Set(['title', 'rich_text', 'people', 'relation']);

// A page outside of a data source has a title and no schema.
const TITLE = { id: 'title', eid: 'title', name: 'title', type: 'title' };
const NO_SCHEMA = { properties: [TITLE], byKey: new Map([['title', TITLE]]) };

export const sourceOf = (store, page) =>
  (page.parentType === 'data_source' ? store.dataSources.get(page.parentId) : NO_SCHEMA);

// ---- showing ----

// Returns the properties that filter_properties names (names or ids), or null for all.
export function readFilterProperties(source, query) {
  if (query === '' || !query.includes('filter_properties')) return null;
  const wanted = new Set();
  for (const [key, value] of new URLSearchParams(query)) {
    if (key !== 'filter_properties' && key !== 'filter_properties[]') continue;
    for (const name of value.split(',')) {
      const p = findProperty(source, name) ?? findProperty(source, value);
      if (!p) throw invalid(`Could not find property with name or id: ${name}`);
      wanted.add(p);
    }
  }
  return wanted.size ? wanted : null;
}

// Returns the page object. `view` is the page or the state that the index knows of it.
export function showPage(store, page, ctx, view = page, only = null) {
  const source = sourceOf(store, page);
  const properties = {};
  for (const p of source.properties) {
    if (only !== null && !only.has(p)) continue;
    if (p.type === 'relation' && !propertyVisible(store, p, ctx.connection)) continue;
    properties[p.name] = showValue(store, page, view, p, ctx);
  }
  const trashed = view.trashed || store.aboveInTrash(page);
  const shown = {
    object: 'page', id: page.id, created_time: showTime(page.created), last_edited_time: showTime(view.edited),
    created_by: { object: 'user', id: page.createdBy }, last_edited_by: { object: 'user', id: view.editedBy },
    cover: page.cover, icon: page.icon, parent: store.showParent(page), in_trash: trashed,
    is_archived: view.archivedFlag, is_locked: page.locked, properties, url: pageUrl(page.id), public_url: null,
  };
  if (ctx.withArchived) shown.archived = trashed;
  return shown;
}

// Returns the page that a path names; throws 404 when it is gone or not shared.
export function findPage(ctx, text) {
  const id = pathUuid(text, 'page_id');
  const page = ctx.store.pages.get(id);
  if (!page || !ctx.store.visible(page, ctx.connection)) throw notFound('page', id, ctx.connection);
  return page;
}

// ---- create ----

// Returns {type, id} of the place that a body's parent names.
function readParent(ctx, given, path) {
  const { store } = ctx;
  mustBeObject(given, path);
  if (given.data_source_id !== undefined) {
    const id = mustBeUuid(given.data_source_id, `${path}.data_source_id`);
    const source = store.dataSources.get(id);
    if (!source || !store.visible(source, ctx.connection)) throw notFound('data source', id, ctx.connection);
    return { type: 'data_source', id };
  }
  if (given.database_id !== undefined) return readDatabaseParent(ctx, mustBeUuid(given.database_id, `${path}.database_id`));
  if (given.page_id !== undefined) {
    const id = mustBeUuid(given.page_id, `${path}.page_id`);
    const page = store.pages.get(id);
    if (!page || !store.visible(page, ctx.connection)) throw notFound('page', id, ctx.connection);
    return { type: 'page', id };
  }
  if (given.workspace === true) {
    throw invalid('Internal connections cannot create pages at the top of a workspace.');
  }
  throw bad(`${path}.page_id`, 'defined', undefined);
}

function readDatabaseParent(ctx, id) {
  const database = ctx.store.databases.get(id);
  if (!database || !ctx.store.visible(database, ctx.connection)) throw notFound('database', id, ctx.connection);
  const ids = database.dataSourceIds.filter((x) => ctx.store.dataSources.has(x));
  if (ids.length > 1) {
    throw invalid('Databases with multiple data sources are not supported with a database parent.', {
      error_type: 'multiple_data_sources_for_database', database_id: id, child_data_source_ids: ids,
      minimum_api_version: '2025-09-03',
    });
  }
  return { type: 'data_source', id: ids[0] };
}

const parentObject = (store, parent) => (parent.type === 'page' ? store.pages : store.dataSources).get(parent.id);

// Makes a page with values that were read before, and tells who listens.
export function makePage(store, parentType, parentId, changes, userId) {
  const page = store.addPage(parentType, parentId, userId);
  const source = sourceOf(store, page);
  for (const p of source.properties) if (p.type === 'unique_id') page.values.set(p.id, ++source.uniqueIds);
  putValues(store, page, changes);
  store.event('page.created', page, {}, userId);
  return page;
}

export function createPage(ctx) {
  const { store, body } = ctx;
  ctx.need('insert_content');
  onlyKeys(body, 'body', CREATE_KEYS);
  const parent = readParent(ctx, body.parent, 'body.parent');
  const above = parentObject(store, parent);
  if (store.inTrash(above)) throw archived();
  const source = parent.type === 'data_source' ? above : NO_SCHEMA;
  const only = readFilterProperties(source, ctx.query);
  const pending = new Map();
  const changes = body.properties === undefined ? []
    : readProperties(store, source, body.properties, 'body.properties', pending, ctx);
  const icon = body.icon === undefined ? null : readIcon(body.icon, 'body.icon');
  const cover = body.cover === undefined ? null : readIcon(body.cover, 'body.cover');
  const children = body.children ?? body.content;
  if (children !== undefined) checkBlocks(children, 'body.children');
  if (body.markdown !== undefined) {
    mustBeString(body.markdown, 'body.markdown', 0, Infinity);
    if (children !== undefined) throw invalid('body failed validation: body.markdown cannot be used with body.children.');
  }
  if (body.template !== undefined && body.template?.type !== 'none') throw invalid('This data source has no templates.');
  checkBlockLimit(store);
  commitNewOptions(ctx, source, pending);
  const page = makePage(store, parent.type, parent.id, changes, ctx.userId);
  page.icon = icon;
  page.cover = cover;
  if (children !== undefined) addBlocks(store, page, children, ctx.userId);
  if (body.markdown !== undefined) addMarkdown(store, page, body.markdown, ctx.userId);
  ctx.changed(page);
  return showPage(store, page, ctx, page, only);
}

function commitNewOptions(ctx, source, pending) {
  const changed = commitOptions(ctx.store, source, pending, ctx.userId);
  if (changed.length) {
    ctx.store.event('data_source.schema_updated', source, {
      updated_properties: changed.map((p) => ({ id: p.eid, name: p.name, action: 'updated' })),
    }, ctx.userId);
  }
}

// Free workspaces with several members may create only so many blocks in all.
function checkBlockLimit(store) {
  const limit = store.settings.block_limit;
  if (limit !== null && store.createdPages >= limit) {
    throw restricted('This workspace has reached its block limit.', { block_limit: String(limit) });
  }
}

// ---- read and change ----

export function getPage(ctx, id) {
  ctx.need('read_content');
  const page = findPage(ctx, id);
  return showPage(ctx.store, page, ctx, page, readFilterProperties(sourceOf(ctx.store, page), ctx.query));
}

// Trashes or restores a page. Returns false when that changed nothing.
export function setTrashed(store, page, on, userId) {
  if (page.trashed === on) return false;
  store.beforeWrite(page);
  page.trashed = on;
  store.afterWrite(page, userId);
  store.event(on ? 'page.deleted' : 'page.undeleted', page, {}, userId);
  return true;
}

export function updatePage(ctx, id) {
  const { store, body } = ctx;
  ctx.need('update_content');
  const page = findPage(ctx, id);
  onlyKeys(body, 'body', ctx.withArchived ? UPDATE_KEYS_OLD : UPDATE_KEYS);
  const source = sourceOf(store, page);
  const only = readFilterProperties(source, ctx.query);
  const trash = body.in_trash ?? body.archived;
  if (trash !== undefined) mustBeBoolean(trash, 'body.in_trash');
  // a page in the trash takes nothing but its restoration
  if (store.aboveInTrash(page) || (page.trashed && !(trash === false && Object.keys(body).length === 1))) throw archived();
  const pending = new Map();
  const changes = body.properties === undefined ? []
    : readProperties(store, source, body.properties, 'body.properties', pending, ctx);
  const icon = body.icon === undefined ? page.icon : readIcon(body.icon, 'body.icon');
  const cover = body.cover === undefined ? page.cover : readIcon(body.cover, 'body.cover');
  for (const key of ['is_locked', 'is_archived', 'erase_content']) {
    if (body[key] !== undefined) mustBeBoolean(body[key], `body.${key}`);
  }
  commitNewOptions(ctx, source, pending);
  if (trash === undefined || !setTrashed(store, page, trash, ctx.userId)) store.beforeWrite(page);
  page.icon = icon;
  page.cover = cover;
  if (body.is_locked !== undefined) page.locked = body.is_locked;
  if (body.is_archived !== undefined) page.archivedFlag = body.is_archived;
  if (body.erase_content) removeBlocks(store, page);
  if (changes.length) writeValues(store, page, changes, ctx.userId);
  else store.afterWrite(page, ctx.userId);
  ctx.changed(page);
  return showPage(store, page, ctx, page, only);
}

// Puts values into a page whose earlier state is already kept, and tells who listens.
function writeValues(store, page, changes, userId) {
  putValues(store, page, changes);
  store.afterWrite(page, userId);
  store.event('page.properties_updated', page, { updated_properties: changes.map(([p]) => p.eid) }, userId);
}

// Changes values of a page: a person's edit.
export function editValues(store, page, changes, userId) {
  store.beforeWrite(page);
  writeValues(store, page, changes, userId);
}

// ---- move ----

// Moves a page to another place. Values stay where the target has a property of the same name and
// type; the rest is lost.
export function relocate(store, page, parentType, parentId, userId) {
  const from = sourceOf(store, page);
  store.beforeWrite(page);
  const kept = new Map();
  const to = parentType === 'data_source' ? store.dataSources.get(parentId) : NO_SCHEMA;
  for (const p of from.properties) {
    const value = page.values.get(p.id);
    if (value === undefined) continue;
    const q = p.type === 'title' ? to.properties.find((x) => x.type === 'title') : findProperty(to, p.name);
    if (q && q.type === p.type) kept.set(q.id, translate(p, q, value));
  }
  for (const [id, value] of kept) if (value === null) kept.delete(id);
  store.place(page, parentType, parentId);
  page.values = kept;
  store.afterWrite(page, userId);
  store.event('page.moved', page, {}, userId);
}

// Options have other ids in another data source; those that it lacks are lost.
function translate(p, q, value) {
  if (p === q || !p.optionById) return value;
  const other = (id) => q.optionByName.get(p.optionById.get(id)?.name.toLowerCase())?.id;
  if (Array.isArray(value)) return value.map(other).filter((id) => id !== undefined);
  return other(value) ?? null;
}

export function movePage(ctx, id) {
  const { store, body } = ctx;
  ctx.need('update_content');
  const page = findPage(ctx, id);
  onlyKeys(body, 'body', new Set(['parent']));
  const parent = readParent(ctx, body.parent, 'body.parent');
  if (store.inTrash(page) || store.inTrash(parentObject(store, parent))) throw archived();
  relocate(store, page, parent.type, parent.id, ctx.userId);
  ctx.changed(page);
  return showPage(store, page, ctx);
}

// ---- one property ----

// The id stands in the path as it was shown: it is decoded once, so that an id encoded twice is not
// found.
export function getProperty(ctx, id, propertyText) {
  const { store } = ctx;
  ctx.need('read_content');
  const page = findPage(ctx, id);
  const source = sourceOf(store, page);
  let raw;
  try {
    raw = decodeURIComponent(propertyText);
  } catch (e) {
    if (!(e instanceof URIError)) throw e;
    throw new ApiError(400, 'invalid_request_url', 'Invalid request URL.');
  }
  const p = source.properties.find((x) => x.id === raw);
  if (!p || !propertyVisible(store, p, ctx.connection)) throw notFound('property', propertyText, ctx.connection);
  if (!LIST_TYPES.has(p.type)) return { object: 'property_item', ...showValue(store, page, page, p, ctx) };
  return propertyList(ctx, page, p);
}

function propertyList(ctx, page, p) {
  const { store } = ctx;
  const params = new URLSearchParams(ctx.query);
  const size = queryPageSize(params.get('page_size'));
  const value = page.values.get(p.id);
  const items = p.type === 'relation' ? visibleRelation(store, value, ctx.connection).map((id) => ({ id }))
    : p.type === 'people' ? (value ?? []).map((id) => store.showUser(id))
      : showRichText(value);
  const start = readCursor(params.get('start_cursor'), `${page.id}/${p.id}`, items.length);
  const end = Math.min(start + size, items.length);
  const more = end < items.length;
  const cursor = more ? Buffer.from(`${page.id}/${p.id}/${end}`).toString('base64url') : null;
  const base = `https://api.notion.com/v1/pages/${page.id}/properties/${p.eid}`;
  return {
    object: 'list',
    results: items.slice(start, end).map((item) => ({ object: 'property_item', id: p.eid, type: p.type, [p.type]: item })),
    next_cursor: cursor, has_more: more, type: 'property_item',
    property_item: {
      id: p.eid, type: p.type, [p.type]: {}, next_url: more ? `${base}?start_cursor=${cursor}` : null,
    },
  };
}

function readCursor(cursor, owner, length) {
  if (cursor === null || cursor === '') return 0;
  const text = Buffer.from(cursor, 'base64url').toString();
  const at = Number(text.slice(owner.length + 1));
  if (!text.startsWith(`${owner}/`) || !Number.isInteger(at) || at < 0 || at > length) throw badCursor(cursor);
  return at;
}

