// schema.mjs
//	Properties of a data source: their types, ids and options, and the changes that a schema can go
//	through, by the API or by a person. A property has a raw id of four characters; the API shows
//	it URL-encoded (`eid`), and many need encoding, as in Notion.
import { randomUUID } from 'node:crypto';
import {
  bad, invalid, mustBeArray, mustBeObject, mustBeString, mustBeUuid, notFound, onlyKeys, wellFormed,
} from './checks.mjs';
import { retypeValues } from './values.mjs';

// Types that a page write may set, and those that Notion fills in itself.
export const WRITABLE = new Set(['title', 'rich_text', 'number', 'checkbox', 'select', 'multi_select', 'status',
  'date', 'url', 'email', 'phone_number', 'people', 'files', 'relation', 'place']);
export const READ_ONLY = new Set(['unique_id', 'created_time', 'created_by', 'last_edited_time',
  'last_edited_by', 'formula', 'rollup', 'button']);
const KNOWN = new Set([...WRITABLE, ...READ_ONLY]);
const COLORS = ['default', 'gray', 'brown', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'red'];
const ID_ALPHABET = ':;<=>?@[\\]^_`{|}~ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const COMMON_KEYS = new Set(['id', 'name', 'type', 'description', ...KNOWN]);
const OPTION_KEYS = new Set(['id', 'name', 'color', 'description', 'group']);
const STATUS_GROUPS = [['To-do', 'gray'], ['In progress', 'blue'], ['Complete', 'green']];
const STATUS_DEFAULTS = ['Not started', 'In progress', 'Done'];
const MAX_PROPERTIES = 500;

// ---- finding ----

export const typeOf = (config) => {
  for (const key in config) if (KNOWN.has(key)) return key;
  return undefined;
};

// Returns the property that a request calls by name, id as shown, or id; names come first.
export const findProperty = (source, key) => source.byKey.get(key);

export const titleOf = (source) => source.properties.find((p) => p.type === 'title');

export function reindex(source) {
  source.byKey = new Map();
  for (const p of source.properties) source.byKey.set(p.id, p);
  for (const p of source.properties) source.byKey.set(p.eid, p);
  for (const p of source.properties) source.byKey.set(p.name, p);
}

function newPropertyId(source, chance, type) {
  if (type === 'title') return 'title';
  for (;;) {
    let id = '';
    for (let i = 0; i < 4; i++) id += ID_ALPHABET[chance.below(ID_ALPHABET.length)];
    if (!source.properties.some((p) => p.id === id)) return id;
  }
}

// ---- options ----

export function indexOptions(property) {
  property.optionById = new Map();
  property.optionByName = new Map();
  for (const option of property.options) {
    property.optionById.set(option.id, option);
    property.optionByName.set(option.name.toLowerCase(), option);
  }
}

// Returns an option that is not yet part of the property: see addOption.
export function newOption(name, chance, color, description = null) {
  return {
    id: randomUUID(), name: wellFormed(name), color: color ?? COLORS[1 + chance.below(COLORS.length - 1)], description,
  };
}

export function addOption(property, option) {
  property.options.push(option);
  property.optionById.set(option.id, option);
  property.optionByName.set(option.name.toLowerCase(), option);
}

// Names of options: no commas, at most 100 characters.
export function checkOptionName(name, path) {
  mustBeString(name, path, 1, 100);
  if (name.includes(',')) throw invalid(`Invalid select option, commas not allowed: ${name}`);
  return name;
}

// Returns the list of options that a schema write asks for. It replaces: what is not named goes.
// An option that exists keeps its name and color whatever is sent.
function readOptions(given, path, old, chance) {
  const options = [];
  const names = new Set();
  mustBeArray(given, path);
  given.forEach((item, i) => {
    const at = `${path}[${i}]`;
    mustBeObject(item, at);
    onlyKeys(item, at, OPTION_KEYS);
    if (item.color !== undefined && !COLORS.includes(item.color)) throw bad(`${at}.color`, 'a color', item.color);
    const known = (item.id !== undefined && old?.optionById.get(item.id)) ||
      (item.name !== undefined && old?.optionByName.get(String(item.name).toLowerCase()));
    const option = known || newOption(checkOptionName(item.name, `${at}.name`), chance, item.color,
      item.description ?? null);
    if (names.has(option.name.toLowerCase())) {
      throw invalid(`Invalid select options: duplicate name ${option.name}`);
    }
    names.add(option.name.toLowerCase());
    if (item.group !== undefined) option.group = item.group;
    options.push(option);
  });
  return options;
}

// Replaces the options of a property; returns true when some went away.
function setOptions(property, options) {
  const kept = new Set(options.map((o) => o.id));
  const removed = property.options.some((o) => !kept.has(o.id));
  property.options = options;
  indexOptions(property);
  if (property.type === 'status') groupStatus(property);
  return removed;
}

// Puts each status option into one of the three groups; the first is the default of new pages.
function groupStatus(property) {
  property.groups ??= STATUS_GROUPS.map(([name, color]) => ({ id: randomUUID(), name, color }));
  property.options.forEach((option, i) => {
    if (!STATUS_GROUPS.some(([name]) => name === option.group)) {
      option.group = property.options.length === 1 ? 'To-do'
        : i === 0 ? 'To-do' : i === property.options.length - 1 ? 'Complete' : 'In progress';
    }
  });
}

export function defaultStatus(property) {
  return property.options.find((o) => o.group === 'To-do') ?? property.options[0];
}

// ---- reading property configurations ----

// Sets what belongs to the type, from a request's configuration. `path` names it in messages.
function configure(store, source, property, config, path, ctx) {
  const type = property.type;
  const given = mustBeObject(config, `${path}.${type}`);
  switch (type) {
    case 'number':
      onlyKeys(given, `${path}.number`, new Set(['format']));
      property.format = given.format === undefined ? property.format ?? 'number'
        : mustBeString(given.format, `${path}.number.format`, 1, 100);
      return;
    case 'select':
    case 'multi_select':
    case 'status':
      onlyKeys(given, `${path}.${type}`, new Set(['options', 'groups']));
      configureOptions(store, property, given, `${path}.${type}`);
      return;
    case 'relation':
      configureRelation(store, source, property, given, `${path}.relation`, ctx);
      return;
    case 'unique_id':
      onlyKeys(given, `${path}.unique_id`, new Set(['prefix']));
      property.prefix = given.prefix ?? null;
      return;
    case 'formula':
      onlyKeys(given, `${path}.formula`, new Set(['expression']));
      property.expression = mustBeString(given.expression ?? '', `${path}.formula.expression`, 0, 2000);
      return;
    case 'rollup':
      property.rollup = readRollup(source, given, `${path}.rollup`);
      return;
    default:
      onlyKeys(given, `${path}.${type}`, new Set());
  }
}

function configureOptions(store, property, given, path) {
  if (property.options === undefined) {
    property.options = [];
    indexOptions(property);
  }
  let wanted = given.options;
  if (wanted === undefined && property.type === 'status') {
    if (property.options.length > 0) return;
    wanted = STATUS_DEFAULTS.map((name, i) => ({ name, color: ['default', 'blue', 'green'][i] }));
  }
  setOptions(property, readOptions(wanted ?? [], `${path}.options`, property, store.chance));
}

function readRollup(source, given, path) {
  const relation = findProperty(source, given.relation_property_id ?? given.relation_property_name);
  if (!relation || relation.type !== 'relation') throw bad(`${path}.relation_property_name`, 'a relation', given.relation_property_name);
  return {
    function: mustBeString(given.function, `${path}.function`, 1, 100),
    relation: relation.id,
    property: given.rollup_property_id ?? given.rollup_property_name,
  };
}

function configureRelation(store, source, property, given, path, ctx) {
  const id = mustBeUuid(given.data_source_id, `${path}.data_source_id`);
  const target = store.dataSources.get(id);
  if (!target || (ctx.connection && !store.visible(target, ctx.connection))) {
    throw notFound('data source', id, ctx.connection ?? { name: 'person' });
  }
  onlyKeys(given, path, new Set(['data_source_id', 'database_id', 'type', 'single_property', 'dual_property']));
  if (given.single_property === undefined && given.dual_property === undefined) {
    throw bad(`${path}.single_property`, 'defined', undefined);
  }
  property.target = id;
  if (given.dual_property === undefined) {
    property.mirror = null;
    return;
  }
  // the mirror: a relation in the target that always shows the other direction
  const name = given.dual_property.synced_property_name ??
    `Related to ${typeof source.title === 'string' ? source.title : 'rows'} (${property.name})`;
  if (findProperty(target, name)) throw invalid(`Property ${name} already exists in the related data source`);
  if (source.trial) return;
  const mirror = {
    id: newPropertyId(target, store.chance, 'relation'), name, type: 'relation', description: null,
    target: source.id, mirror: property.id,
  };
  mirror.eid = encodeURIComponent(mirror.id);
  property.mirror = mirror.id;
  target.properties.push(mirror);
  reindex(target);
  store.changed(target, ctx.userId);
}

// ---- showing ----

function showOption(option) {
  return { id: option.id, name: option.name, color: option.color, description: option.description ?? null };
}

function showConfig(store, source, p) {
  switch (p.type) {
    case 'number': return { format: p.format };
    case 'select':
    case 'multi_select': return { options: p.options.map(showOption) };
    case 'status': return {
      options: p.options.map(showOption),
      groups: p.groups.map((g) => ({
        id: g.id, name: g.name, color: g.color,
        option_ids: p.options.filter((o) => o.group === g.name).map((o) => o.id),
      })),
    };
    case 'relation': {
      const target = store.dataSources.get(p.target);
      const mirror = p.mirror && target.properties.find((m) => m.id === p.mirror);
      const base = { database_id: target.databaseId, data_source_id: p.target };
      return mirror
        ? { ...base, type: 'dual_property', dual_property: { synced_property_id: mirror.eid, synced_property_name: mirror.name } }
        : { ...base, type: 'single_property', single_property: {} };
    }
    case 'unique_id': return { prefix: p.prefix };
    case 'formula': return { expression: p.expression };
    case 'rollup': return showRollup(store, source, p);
    default: return {};
  }
}

function showRollup(store, source, p) {
  const relation = source.properties.find((r) => r.id === p.rollup.relation);
  const target = relation && store.dataSources.get(relation.target);
  const property = target && findProperty(target, p.rollup.property);
  return {
    function: p.rollup.function,
    relation_property_name: relation?.name ?? '', relation_property_id: relation?.eid ?? '',
    rollup_property_name: property?.name ?? '', rollup_property_id: property?.eid ?? '',
  };
}

// True when the connection sees the property: a relation to something not shared is left out.
export function propertyVisible(store, p, connection) {
  if (p.type !== 'relation') return true;
  const target = store.dataSources.get(p.target);
  return target !== undefined && (!connection || store.visible(target, connection));
}

export function showProperties(store, source, connection) {
  const shown = {};
  for (const p of source.properties) {
    if (!propertyVisible(store, p, connection)) continue;
    shown[p.name] = {
      id: p.eid, name: p.name, description: p.description, type: p.type, [p.type]: showConfig(store, source, p),
    };
  }
  return shown;
}

// ---- changing ----

// Adds a property from its configuration in a request.
export function addProperty(store, source, name, config, path, ctx) {
  mustBeObject(config, path);
  onlyKeys(config, path, COMMON_KEYS);
  const type = config.type ?? typeOf(config);
  if (!KNOWN.has(type)) throw bad(`${path}.rich_text`, 'defined', undefined);
  if (type === 'button') throw invalid('Button properties cannot be created through the API.');
  if (type === 'title' && titleOf(source)) throw invalid('A data source has exactly one title property.');
  if (source.properties.length >= MAX_PROPERTIES) throw invalid(`A data source has at most ${MAX_PROPERTIES} properties.`);
  mustBeString(name, `${path}.name`, 1, 2000);
  const property = {
    id: newPropertyId(source, store.chance, type), name: wellFormed(name), type,
    description: readDescription(config.description, path) ?? null,
  };
  property.eid = encodeURIComponent(property.id);
  configure(store, source, property, config[type], path, ctx);
  source.properties.push(property);
  reindex(source);
  // rows that are there already get their numbers in the order in which they were made
  if (type === 'unique_id') for (const page of source.pages) page.values.set(property.id, ++source.uniqueIds);
  return property;
}

function readDescription(given, path) {
  if (given === undefined || given === null) return given;
  return mustBeString(given, `${path}.description`, 1, 280);
}

export function renameProperty(source, property, name, path) {
  mustBeString(name, path, 1, 2000);
  const other = source.properties.find((p) => p.name === name);
  if (other && other !== property) throw invalid(`Property ${name} already exists.`);
  property.name = wellFormed(name);
  reindex(source);
}

export function removeProperty(store, source, property, userId) {
  if (property.type === 'title') throw invalid('The title property cannot be removed.');
  source.properties = source.properties.filter((p) => p !== property);
  for (const page of source.pages) page.values.delete(property.id);
  const target = !source.trial && property.mirror && store.dataSources.get(property.target);
  const mirror = target && target.properties.find((p) => p.id === property.mirror);
  if (mirror) {
    mirror.mirror = null;
    removeProperty(store, target, mirror, userId);
    store.changed(target, userId);
  }
  reindex(source);
}

// Makes another type of a property; values are cast as far as they can be.
export function retypeProperty(store, source, property, config, path, ctx) {
  const type = config.type ?? typeOf(config);
  if (property.type === 'title' || type === 'title') throw invalid('The type of the title property cannot be changed.');
  const old = { ...property };
  for (const key of ['options', 'optionById', 'optionByName', 'groups', 'format', 'target', 'mirror', 'prefix',
    'expression', 'rollup']) delete property[key];
  property.type = type;
  configure(store, source, property, config[type] ?? {}, path, ctx);
  retypeValues(store, source, old, property);
}

// One entry of `properties` of PATCH /v1/data_sources/{id}. Returns what happened, for the event.
export function patchProperty(store, source, key, config, path, ctx) {
  const property = findProperty(source, key);
  if (config === null) {
    if (!property) throw invalid(`Could not find property with name or id: ${key}`);
    removeProperty(store, source, property, ctx.userId);
    return { id: property.eid, name: property.name, action: 'deleted' };
  }
  mustBeObject(config, path);
  if (!property) {
    const added = addProperty(store, source, config.name ?? key, config, path, ctx);
    return { id: added.eid, name: added.name, action: 'created' };
  }
  onlyKeys(config, path, COMMON_KEYS);
  const type = config.type ?? typeOf(config);
  if (config.name !== undefined) renameProperty(source, property, config.name, `${path}.name`);
  if (config.description !== undefined) property.description = readDescription(config.description, path);
  if (type !== undefined && type !== property.type) {
    if (!KNOWN.has(type)) throw bad(`${path}.${type}`, 'not present', config[type]);
    retypeProperty(store, source, property, config, path, ctx);
  } else if (type !== undefined && !(type === 'relation' && config.relation?.data_source_id === property.target)) {
    configure(store, source, property, config[type], path, ctx);
  }
  return { id: property.eid, name: property.name, action: 'updated' };
}

// Builds the schema of a new data source. Without properties there is a title called Name.
export function createSchema(store, source, given, path, ctx) {
  if (given === undefined) {
    addProperty(store, source, 'Name', { title: {} }, path, ctx);
    return;
  }
  mustBeObject(given, path);
  const names = Object.keys(given);
  if (!names.some((name) => given[name] && typeof given[name] === 'object' && 'title' in given[name])) {
    throw invalid('Title is not provided');
  }
  for (const name of names) addProperty(store, source, name, given[name], `${path}.${name}`, ctx);
  checkSize(source);
}

// Refuses a schema above 50 KB, naming the largest property.
export function checkSize(source) {
  let total = 0;
  let largest = null;
  let most = 0;
  for (const p of source.properties) {
    const size = p.name.length + (p.options ? p.options.reduce((n, o) => n + o.name.length + 60, 0) : 60);
    total += size;
    if (size > most) [most, largest] = [size, p];
  }
  if (total > 1500000) {
    throw invalid(`Database schema is too large. The largest property is ${largest.name}.`);
  }
}
