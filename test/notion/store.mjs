// store.mjs
//	What the simulated workspace holds: connections, users, pages, databases, data sources, and the
//	clock and chance that everything uses. Handlers change objects only through the verbs here, so
//	that edit times, the query index's lag, events and the file on disk always follow.
//
//	Values of a page are kept in a short form by property id (see values.mjs), options of a select
//	as ids: a renamed option or property then needs no page to be touched, as in Notion.
import { randomUUID } from 'node:crypto';
import { showRichText } from './checks.mjs';

// Pages that are shared with every connection from the start.
export const PARENT_ID = '00000000-0000-4000-8000-000000000001';
export const SECOND_PARENT_ID = '11111111-1111-4111-8111-111111111111';
const WORKSPACE_ID = '22222222-2222-4222-8222-222222222222';

export const CAPABILITIES = ['read_content', 'update_content', 'insert_content', 'read_comments',
  'insert_comments', 'user_info'];

export const DEFAULT_SETTINGS = Object.freeze({
  query_cap: 10000,        // results of one query before it is cut off
  short_pages: null,       // {min,max}: a query's page holds by chance so many of what was asked for
  shuffle: true,           // without a sort, another order for each query
  truncate_refs: 25,       // references shown in a page object
  lag_ms: 0,               // time until a write is seen by queries and search
  merge_text: true,        // neighbours of the same style come back as one
  trim_text: false,        // white space at the end of texts is lost
  date_precision: 'minute', // or 'ms': what survives of a date with a time
  text_filter: 'exact',    // or 'insensitive': equals and contains ignore case
  oversize_status: 400,    // answer to a body above the limit; 413 was seen, too
  max_body: 500000,        // bytes
  overlap_conflict: false, // a write that meets another one to the same object (see delay) is refused: 409
  block_limit: null,       // pages that may be created in all, then 403 (free workspaces)
  workspace_name: 'Simulated workspace',
});

// The clock of the workspace: real time, moved or stopped by a test.
export class Clock {
  constructor() {
    this.offset = 0;
    this.frozen = null;
  }

  now() {
    return this.frozen ?? Date.now() + this.offset;
  }

  set(ms) {
    this.offset = ms - Date.now();
    if (this.frozen !== null) this.frozen = ms;
  }

  advance(ms) {
    this.offset += ms;
    if (this.frozen !== null) this.frozen += ms;
  }

  freeze(on) {
    if (on && this.frozen === null) this.frozen = this.now();
    if (!on && this.frozen !== null) {
      this.offset = this.frozen - Date.now();
      this.frozen = null;
    }
  }

  reset() {
    this.offset = 0;
    this.frozen = null;
  }
}

// Chance that can be repeated: the same seed gives the same orders, colours and property ids.
export class Chance {
  constructor(seed) {
    this.state = (seed >>> 0) || 0x9e3779b9;
  }

  // Returns 32 random bits (xorshift).
  bits() {
    let x = this.state;
    x ^= x << 13;
    x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state;
  }

  below(n) {
    return Math.floor((this.bits() / 4294967296) * n);
  }

  happens(probability) {
    return this.bits() / 4294967296 < probability;
  }
}

const minute = (ms) => new Date(ms - (((ms % 60000) + 60000) % 60000)).toISOString();

// Most writes of a burst fall into the same minute: its text is made once.
let minuteStart = NaN;
let minuteText = '';

// Returns a time as the API shows it: rounded down to the minute.
export function showTime(ms) {
  const start = ms - (ms % 60000);
  if (start !== minuteStart) {
    minuteText = minute(ms);
    minuteStart = start;
  }
  return minuteText;
}

export const floorMinute = (ms) => ms - (ms % 60000);

export class Page {
  constructor(id, parentType, parentId, now, userId, shuffleKey) {
    this.kind = 'page';
    this.id = id;
    this.parentType = parentType; // 'data_source', 'page', 'workspace'
    this.parentId = parentId;
    this.created = now;
    this.edited = now;
    this.createdBy = userId;
    this.editedBy = userId;
    this.trashed = false;
    this.archivedFlag = false;
    this.locked = false;
    this.icon = null;
    this.cover = null;
    this.values = new Map();
    this.blocks = null;      // ids of first-level blocks
    this.hidden = null;      // true, or a Set of connection ids: not shared
    this.shared = false;
    this.history = null;     // earlier states while the index lags
    this.shuffleKey = shuffleKey;
  }
}

export class Store {
  constructor(seed) {
    this.clock = new Clock();
    this.seed = seed;
    this.settings = { ...DEFAULT_SETTINGS };
    this.connections = new Map(); // token -> connection
    this.version = 0;             // counts changes; the web page asks for it
    this.dirty = null;            // Set of changed objects while there is a file on disk
    this.onEvent = null;          // webhooks
    this.clear();
  }

  // Empties the workspace and puts the two shared pages and the people into it.
  clear() {
    this.chance = new Chance(this.seed);
    this.pages = new Map();
    this.databases = new Map();
    this.dataSources = new Map();
    this.blocks = new Map();
    this.comments = new Map();
    this.cursors = new Map();
    this.users = new Map();
    this.createdPages = 0;
    const now = this.clock.now();
    for (const [i, name] of ['Ada', 'Ben', 'Chloe'].entries()) {
      const id = `33333333-3333-4333-8333-33333333333${i}`;
      this.users.set(id, { id, type: 'person', name, email: `${name.toLowerCase()}@example.com` });
    }
    this.person = this.users.keys().next().value;
    for (const [id, title] of [[PARENT_ID, 'angles'], [SECOND_PARENT_ID, 'Second page']]) {
      const page = new Page(id, 'workspace', null, now, this.person, this.chance.bits());
      page.values.set('title', title);
      page.shared = true;
      this.pages.set(id, page);
    }
    for (const connection of this.connections.values()) this.addBot(connection);
    this.version++;
  }

  newId() {
    return randomUUID();
  }

  addBot(connection) {
    this.users.set(connection.botId, { id: connection.botId, type: 'bot', name: connection.name });
  }

  // ---- finding and seeing ----

  parentOf(object) {
    if (object.kind === 'data_source') return this.databases.get(object.databaseId);
    if (object.kind === 'block') return this.blocks.get(object.parentId) ?? this.pages.get(object.parentId);
    if (object.parentType === 'data_source') return this.dataSources.get(object.parentId);
    if (object.parentType === 'page') return this.pages.get(object.parentId);
    return null;
  }

  // True when the connection may see the object: it stands below a shared page, and nothing on the
  // way up was taken back.
  visible(object, connection) {
    for (let at = object; at; at = this.parentOf(at)) {
      if (at.hidden === true || (at.hidden && at.hidden.has(connection.id))) return false;
      if (at.shared) return true;
    }
    return false;
  }

  // True when the object or something above it lies in the trash.
  inTrash(object) {
    for (let at = object; at; at = this.parentOf(at)) if (at.trashed) return true;
    return false;
  }

  aboveInTrash(object) {
    const parent = this.parentOf(object);
    return parent ? this.inTrash(parent) : false;
  }

  // ---- changing ----

  touch(object) {
    this.version++;
    if (this.dirty) this.dirty.add(object);
  }

  event(type, entity, data, userId) {
    if (this.onEvent) this.onEvent(type, entity, data, userId);
  }

  // Must come before any change of a page: keeps what queries still see while the index lags.
  beforeWrite(page, isNew = false) {
    const lag = this.settings.lag_ms;
    if (lag === 0) {
      page.history = null;
      return;
    }
    const now = this.clock.now();
    const history = page.history ?? (page.history = []);
    history.push({
      until: now,
      state: isNew ? null : {
        trashed: page.trashed, archivedFlag: page.archivedFlag, values: new Map(page.values),
        created: page.created, edited: page.edited, editedBy: page.editedBy,
      },
    });
    // a state that ended before the lag is of no interest to anybody
    while (history.length > 1 && history[0].until <= now - lag) history.shift();
  }

  // Must come after a change of a page through the API or by a person.
  afterWrite(page, userId) {
    page.edited = this.clock.now();
    page.editedBy = userId;
    this.touch(page);
  }

  // Returns what the index knows of the page now: the page itself, an earlier state, or null when
  // it has not heard of it yet.
  indexed(page) {
    const history = page.history;
    if (history === null) return page;
    const seen = this.clock.now() - this.settings.lag_ms;
    for (let i = 0; i < history.length; i++) {
      if (history[i].until > seen) return history[i].state;
    }
    page.history = null;
    return page;
  }

  addPage(parentType, parentId, userId) {
    const page = new Page(this.newId(), parentType, parentId, this.clock.now(), userId, this.chance.bits());
    this.pages.set(page.id, page);
    if (parentType === 'data_source') this.dataSources.get(parentId).pages.add(page);
    this.beforeWrite(page, true);
    this.createdPages++;
    this.touch(page);
    return page;
  }

  // Removes a page for good: what emptying the trash does.
  purge(page) {
    this.pages.delete(page.id);
    if (page.parentType === 'data_source') this.dataSources.get(page.parentId)?.pages.delete(page);
    page.purged = true;
    this.touch(page);
  }

  place(page, parentType, parentId) {
    if (page.parentType === 'data_source') this.dataSources.get(page.parentId)?.pages.delete(page);
    page.parentType = parentType;
    page.parentId = parentId;
    if (parentType === 'data_source') this.dataSources.get(parentId).pages.add(page);
  }

  addDatabase(parentType, parentId, userId) {
    const now = this.clock.now();
    const database = {
      kind: 'database', id: this.newId(), parentType, parentId, title: '', description: '', inline: false,
      icon: null, cover: null, trashed: false, locked: false, created: now, edited: now, createdBy: userId,
      editedBy: userId, hidden: null, shared: false, dataSourceIds: [],
    };
    this.databases.set(database.id, database);
    this.touch(database);
    return database;
  }

  addDataSource(database, title, userId) {
    const now = this.clock.now();
    const source = {
      kind: 'data_source', id: this.newId(), databaseId: database.id, title, icon: null, trashed: false,
      created: now, edited: now, createdBy: userId, editedBy: userId, hidden: null,
      properties: [], byKey: new Map(), pages: new Set(), uniqueIds: 0,
    };
    database.dataSourceIds.push(source.id);
    this.dataSources.set(source.id, source);
    this.touch(source);
    this.touch(database);
    return source;
  }

  // A change of title, schema or trash of a database or data source.
  changed(object, userId) {
    object.edited = this.clock.now();
    object.editedBy = userId;
    this.touch(object);
  }

  // ---- showing ----

  showUser(id) {
    const user = this.users.get(id);
    if (!user) return { object: 'user', id };
    const base = { object: 'user', id, name: user.name, avatar_url: null, type: user.type };
    return user.type === 'person' ? { ...base, person: { email: user.email } } : { ...base, bot: {} };
  }

  showMe(connection) {
    return {
      object: 'user', id: connection.botId, name: connection.name, avatar_url: null, type: 'bot',
      bot: {
        owner: { type: 'workspace', workspace: true },
        workspace_id: WORKSPACE_ID,
        workspace_name: this.settings.workspace_name,
        workspace_limits: { max_file_upload_size_in_bytes: 5242880 },
      },
    };
  }

  showParent(object) {
    if (object.kind === 'data_source') return { type: 'database_id', database_id: object.databaseId };
    if (object.parentType === 'data_source') {
      const source = this.dataSources.get(object.parentId);
      return { type: 'data_source_id', data_source_id: object.parentId, database_id: source.databaseId };
    }
    if (object.parentType === 'page') return { type: 'page_id', page_id: object.parentId };
    return { type: 'workspace', workspace: true };
  }

  showDatabase(database, ctx) {
    const trashed = this.inTrash(database);
    const shown = {
      object: 'database', id: database.id, title: showRichText(database.title),
      description: showRichText(database.description), parent: this.showParent(database),
      is_inline: database.inline, in_trash: trashed, is_locked: database.locked,
      created_time: showTime(database.created), last_edited_time: showTime(database.edited),
      data_sources: database.dataSourceIds.map((id) => this.dataSources.get(id))
        .filter((source) => source && this.visible(source, ctx.connection))
        .map((source) => ({ id: source.id, name: sourceName(source) })),
      icon: database.icon, cover: database.cover, url: pageUrl(database.id), public_url: null,
    };
    if (ctx.withArchived) shown.archived = trashed;
    return shown;
  }
}

export const pageUrl = (id) => `https://app.notion.com/p/${id.replace(/-/g, '')}`;

export function sourceName(source) {
  if (typeof source.title === 'string') return source.title;
  return source.title.map((item) => item.content ?? '').join('');
}
