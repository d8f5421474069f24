// edit.mjs
//	What a person does in Notion: changes, adds, copies, trashes, restores and moves rows, takes
//	pages away from a connection, empties the trash, changes a schema. Each edit is in the ledger
//	with `by: "human"`. Values may be given in the API's form or simply: "text", 7, true, ["a","b"].
import { ApiError, readRichText, uuidOf } from './checks.mjs';
import { textItems } from './content.mjs';
import { setTrash } from './databases.mjs';
import { editValues, makePage, relocate, setTrashed, sourceOf } from './pages.mjs';
import {
  addOption, addProperty, createSchema, findProperty, newOption, removeProperty, renameProperty, retypeProperty,
} from './schema.mjs';
import { commitOptions, readProperties, simpleValue } from './values.mjs';

export class EditError extends Error {}

// Returns the API's form of a value that was given simply.
function fullValue(p, value) {
  if (value !== null && typeof value === 'object' && !Array.isArray(value) && p.type in value) return value;
  const list = (v) => (v === null || v === '' ? [] : Array.isArray(v) ? v : String(v).split(',').map((s) => s.trim()).filter(Boolean));
  const full = (v) => ({ [p.type]: v });
  switch (p.type) {
    case 'title':
    case 'rich_text': return full(Array.isArray(value) ? value : textItems(value === null ? '' : String(value)));
    case 'number': return full(value === '' || value === null ? null : Number(value));
    case 'checkbox': return full(value === true || value === 'true');
    case 'select':
    case 'status': return full(value === null || value === '' ? null : typeof value === 'string' ? { name: value } : value);
    case 'multi_select': return full(list(value).map((v) => (typeof v === 'string' ? { name: v } : v)));
    case 'date': return full(value === null || value === '' ? null : typeof value === 'string' ? dateOf(value) : value);
    case 'people':
    case 'relation': return full(list(value).map((v) => (typeof v === 'string' ? { id: v } : v)));
    case 'files': return full(list(value).map((v) => (typeof v === 'string' ? { name: v.slice(-100), external: { url: v } } : v)));
    default: return full(value === '' ? null : value);
  }
}

// "2026-11-01" or "2026-11-01 → 2026-11-03", as the web page shows it.
function dateOf(text) {
  const [start, end] = text.split('→').map((s) => s.trim());
  return end ? { start, end } : { start };
}

// ---- finding what an edit names ----

function page(store, edit) {
  const found = store.pages.get(uuidOf(edit.page_id));
  if (!found) throw new EditError(`there is no page ${edit.page_id}`);
  return found;
}

// By id, or by title when only one has it.
function source(store, name) {
  const id = uuidOf(name);
  if (id !== null) {
    const found = store.dataSources.get(id) ?? store.dataSources.get(store.databases.get(id)?.dataSourceIds[0]);
    if (found) return found;
  }
  const named = [...store.dataSources.values()].filter((s) => s.title === name);
  if (named.length !== 1) throw new EditError(`${named.length} data sources are called ${name}`);
  return named[0];
}

const sourceIn = (store, edit) => source(store, edit.data_source_id ?? edit.data_source ?? edit.database_id);

function anything(store, id) {
  const key = uuidOf(id);
  const found = store.pages.get(key) ?? store.dataSources.get(key) ?? store.databases.get(key);
  if (!found) throw new EditError(`there is nothing with id ${id}`);
  return found;
}

const thing = (store, edit) => anything(store, edit.id ?? edit.page_id ?? edit.data_source_id ?? edit.database_id);

function property(src, name) {
  const found = findProperty(src, name);
  if (!found) throw new EditError(`there is no property ${name}`);
  return found;
}

function option(p, name) {
  const found = p.optionById?.get(name) ?? p.optionByName?.get(String(name).toLowerCase());
  if (!found) throw new EditError(`there is no option ${name}`);
  return found;
}

// ---- rows ----

function changes(store, src, given, userId) {
  const full = {};
  for (const key in given) {
    const p = property(src, key);
    full[p.name] = fullValue(p, given[key]);
  }
  const pending = new Map();
  const ctx = { userId, connection: null };
  const read = readProperties(store, src, full, 'properties', pending, ctx);
  commitOptions(store, src, pending, userId);
  return read;
}

function set(store, edit, userId) {
  const target = page(store, edit);
  editValues(store, target, changes(store, sourceOf(store, target), edit.properties ?? {}, userId), userId);
  return { page: target };
}

function add(store, edit, userId) {
  if (edit.parent_page_id !== undefined) {
    const added = makePage(store, 'page', page(store, { page_id: edit.parent_page_id }).id, [], userId);
    added.values.set('title', String(edit.title ?? ''));
    return { page: added };
  }
  const src = sourceIn(store, edit);
  return { page: makePage(store, 'data_source', src.id, changes(store, src, edit.properties ?? {}, userId), userId) };
}

// A copy has all values of the original, its key included, and a new id.
function duplicate(store, edit, userId) {
  const original = page(store, edit);
  const src = sourceOf(store, original);
  const copied = [];
  for (const p of src.properties) {
    const value = original.values.get(p.id);
    if (value !== undefined && p.type !== 'unique_id') copied.push([p, value]);
  }
  return { page: makePage(store, original.parentType, original.parentId, copied, userId) };
}

function trash(on) {
  return (store, edit, userId) => {
    const target = thing(store, edit);
    if (target.kind === 'page') setTrashed(store, target, on, userId);
    else setTrash(store, target, on, userId);
    return { page: target.kind === 'page' ? target : null, object: target };
  };
}

// Emptying the trash: gone for good, with everything below.
function purge(store, edit) {
  const target = thing(store, edit);
  const sources = target.kind === 'data_source' ? [target]
    : target.kind === 'database' ? target.dataSourceIds.map((id) => store.dataSources.get(id)) : [];
  for (const src of sources) {
    for (const row of [...src.pages]) store.purge(row);
    store.dataSources.delete(src.id);
    src.purged = true;
    store.touch(src);
    const database = store.databases.get(src.databaseId);
    database.dataSourceIds = database.dataSourceIds.filter((id) => id !== src.id);
    store.touch(database);
  }
  if (target.kind === 'page') {
    store.purge(target);
  } else if (target.kind === 'database') {
    store.databases.delete(target.id);
    target.purged = true;
    store.touch(target);
  }
  return { page: target.kind === 'page' ? target : null, object: target };
}

function move(store, edit, userId) {
  const target = page(store, edit);
  if (edit.parent_page_id !== undefined) {
    relocate(store, target, 'page', page(store, { page_id: edit.parent_page_id }).id, userId);
  } else {
    relocate(store, target, 'data_source', sourceIn(store, edit).id, userId);
  }
  return { page: target };
}

function archive(store, edit, userId) {
  const target = page(store, edit);
  store.beforeWrite(target);
  target.archivedFlag = edit.on ?? true;
  store.afterWrite(target, userId);
  return { page: target };
}

// Takes something away from all connections, or from one (by its fingerprint or name).
function unshare(store, edit) {
  const target = thing(store, edit);
  const one = edit.connection && [...store.connections.values()].find((c) =>
    c.fingerprint === edit.connection || c.name === edit.connection);
  if (edit.connection && !one) throw new EditError(`there is no connection ${edit.connection}`);
  if (!one) target.hidden = true;
  else if (target.hidden !== true) target.hidden = new Set([...(target.hidden ?? []), one.id]);
  store.touch(target);
  return { page: target.kind === 'page' ? target : null, object: target };
}

function share(store, edit) {
  const target = thing(store, edit);
  target.hidden = null;
  if (target.kind === 'page' && target.parentType === 'workspace') target.shared = true;
  store.touch(target);
  return { page: target.kind === 'page' ? target : null, object: target };
}

// ---- schema ----

const schemaEdit = (change) => (store, edit, userId) => {
  const src = sourceIn(store, edit);
  const ctx = { userId, connection: null };
  const updated = change(store, src, edit, ctx);
  store.changed(src, userId);
  store.event('data_source.schema_updated', src, { updated_properties: [updated] }, userId);
  return { object: src, property_id: updated.id };
};

const told = (p, action) => ({ id: p.eid, name: p.name, action });

function configOf(edit, p) {
  const type = edit.type ?? p?.type;
  if (type === undefined) throw new EditError('an edit of a schema needs type');
  return { type, [type]: edit.config ?? {} };
}

const schemaEdits = {
  rename_property(store, src, edit) {
    const p = property(src, edit.property);
    renameProperty(src, p, edit.name, 'name');
    return told(p, 'updated');
  },
  delete_property(store, src, edit, ctx) {
    const p = property(src, edit.property);
    removeProperty(store, src, p, ctx.userId);
    return told(p, 'deleted');
  },
  add_property(store, src, edit, ctx) {
    return told(addProperty(store, src, edit.name, configOf(edit), 'property', ctx), 'created');
  },
  retype_property(store, src, edit, ctx) {
    const p = property(src, edit.property);
    retypeProperty(store, src, p, configOf(edit), 'property', ctx);
    return told(p, 'updated');
  },
  rename_option(store, src, edit) {
    const p = property(src, edit.property);
    const o = option(p, edit.option);
    p.optionByName.delete(o.name.toLowerCase());
    o.name = edit.name;
    p.optionByName.set(o.name.toLowerCase(), o);
    return told(p, 'updated');
  },
  add_option(store, src, edit) {
    const p = property(src, edit.property);
    const o = newOption(edit.name, store.chance, edit.color);
    if (p.type === 'status') o.group = edit.group ?? 'To-do';
    addOption(p, o);
    return told(p, 'updated');
  },
  delete_option(store, src, edit) {
    const p = property(src, edit.property);
    const o = option(p, edit.option);
    p.options = p.options.filter((x) => x !== o);
    p.optionById.delete(o.id);
    p.optionByName.delete(o.name.toLowerCase());
    return told(p, 'updated');
  },
};

// A person makes a database below a page.
function addDatabase(store, edit, userId) {
  const parent = page(store, { page_id: edit.parent_page_id });
  const database = store.addDatabase('page', parent.id, userId);
  database.title = readRichText(textItems(edit.title ?? ''), 'title');
  const src = store.addDataSource(database, database.title, userId);
  createSchema(store, src, edit.properties, 'properties', { userId, connection: null });
  return { object: database, data_source_id: src.id };
}

function retitle(store, edit, userId) {
  const target = thing(store, edit);
  target.title = readRichText(textItems(edit.title), 'title');
  store.changed(target, userId);
  return { object: target };
}

const edits = {
  set, add, duplicate, purge, move, archive, unshare, share, retitle,
  trash: trash(true),
  restore: trash(false),
  add_database: addDatabase,
  ...Object.fromEntries(Object.entries(schemaEdits).map(([name, change]) => [name, schemaEdit(change)])),
};

// Does one edit or, with `edits`, several; returns what came of it. Throws EditError.
export function applyEdit(sim, edit) {
  if (edit === null || typeof edit !== 'object') throw new EditError('an edit is an object');
  if (Array.isArray(edit.edits)) return { ok: true, results: edit.edits.map((one) => applyEdit(sim, one)) };
  const { store } = sim;
  const work = Object.hasOwn(edits, edit.op) ? edits[edit.op] : null;
  if (!work) throw new EditError(`there is no edit ${edit.op}; there are: ${Object.keys(edits).join(', ')}`);
  const userId = edit.user ?? store.person;
  if (!store.users.has(userId)) throw new EditError(`there is no user ${userId}`);
  let done;
  try {
    done = work(store, edit, userId);
  } catch (e) {
    if (e instanceof ApiError) throw new EditError(e.message);
    throw e;
  }
  const resource = (done.page ?? done.object)?.id ?? null;
  const entry = sim.log.addHuman(edit, resource, done.page?.id ?? null, 200);
  const { page: changedPage, object, ...more } = done;
  return {
    ok: true, seq: entry.ledgerSeq, id: resource, ...(changedPage ? { page_id: changedPage.id } : {}), ...more,
    ...(object?.dataSourceIds ? { database_id: object.id } : {}),
  };
}

// Returns a page as tests want it: plain values by name.
export function plainPage(store, target) {
  const values = {};
  const src = sourceOf(store, target);
  for (const p of src.properties) values[p.name] = simpleValue(store, p, target.values.get(p.id));
  return {
    id: target.id, parent: store.showParent(target), in_trash: store.inTrash(target), is_archived: target.archivedFlag,
    created: new Date(target.created).toISOString(), edited: new Date(target.edited).toISOString(),
    created_by: target.createdBy, last_edited_by: target.editedBy, shared: target.hidden === null, values,
  };
}
