// disk.mjs
//	The workspace on disk (--state FILE): a journal of JSON lines, one for each object that changed,
//	the last line of an object counts. Written in the background, so that no request waits for a
//	disk; a simulator that is killed loses what it did in the last moments, one that is ended does
//	not. The ledger is not kept: it begins anew with each start.
import fs from 'node:fs';
import { Page } from './store.mjs';
import { indexOptions, reindex } from './schema.mjs';

const FLUSH_MS = 50;

// Appends text to a file in the background, in order.
export class Appender {
  constructor(file) {
    this.fd = fs.openSync(file, 'a');
    this.waiting = '';
    this.timer = null;
    this.busy = false;
    this.closed = null;
  }

  write(text) {
    this.waiting += text;
    if (this.timer === null && !this.busy) this.timer = setTimeout(() => this.flush(), 20);
  }

  flush() {
    const text = this.waiting;
    this.waiting = '';
    clearTimeout(this.timer);
    this.timer = null;
    this.busy = true;
    this.writeAll(Buffer.from(text), 0);
  }

  writeAll(buffer, from) {
    fs.write(this.fd, buffer, from, (error, written) => {
      if (error) throw error;
      if (from + written < buffer.length) {
        this.writeAll(buffer, from + written);
        return;
      }
      this.busy = false;
      if (this.waiting) this.flush();
      else if (this.closed) this.closed();
    });
  }

  // Calls back when everything is in the file.
  close(then) {
    this.closed = then;
    if (this.busy) return;
    if (this.waiting === '') then();
    else this.flush();
  }
}

// ---- objects as lines ----

const packHidden = (hidden) => (hidden instanceof Set ? [...hidden] : hidden);
const unpackHidden = (hidden) => (Array.isArray(hidden) ? new Set(hidden) : hidden);

function pack(object) {
  if (object.purged) return { kind: object.kind, id: object.id, purged: true };
  const { history, byKey, pages, ...kept } = object;
  if (object.hidden !== undefined) kept.hidden = packHidden(object.hidden);
  if (object.kind === 'page') kept.values = [...object.values];
  if (object.kind === 'data_source') {
    kept.properties = object.properties.map(({ optionById, optionByName, ...p }) => p);
  }
  return kept;
}

function unpack(store, kept) {
  kept.hidden = unpackHidden(kept.hidden);
  if (kept.kind === 'page') {
    const page = new Page(kept.id, kept.parentType, kept.parentId, kept.created, kept.createdBy, kept.shuffleKey);
    Object.assign(page, kept, { values: new Map(kept.values) });
    store.pages.set(page.id, page);
  } else if (kept.kind === 'data_source') {
    for (const p of kept.properties) if (p.options) indexOptions(p);
    Object.assign(kept, { byKey: new Map(), pages: new Set() });
    reindex(kept);
    store.dataSources.set(kept.id, kept);
  } else {
    const map = { database: store.databases, block: store.blocks, comment: store.comments }[kept.kind];
    map.set(kept.id, kept);
  }
}

// Returns {lines, objects}: how many lines the file has, and the last state of each object.
function read(file) {
  const objects = new Map();
  let lines = 0;
  const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : '';
  // a line without its end was being written when the simulator was killed
  for (const line of text.slice(0, text.lastIndexOf('\n') + 1).split('\n')) {
    if (line === '') continue;
    lines++;
    const kept = JSON.parse(line);
    if (kept.purged) objects.delete(kept.id);
    else objects.set(kept.id, kept);
  }
  return { lines, objects, whole: text.endsWith('\n') || text === '' };
}

export class Disk {
  constructor(store, file) {
    this.store = store;
    this.file = file;
    const { lines, objects, whole } = read(file);
    if (objects.size) {
      for (const kept of objects.values()) unpack(store, kept);
      for (const page of store.pages.values()) {
        if (page.parentType === 'data_source') store.dataSources.get(page.parentId)?.pages.add(page);
      }
      store.createdPages = store.pages.size;
    }
    store.dirty = new Set();
    if (!whole || lines > 2 * objects.size || objects.size === 0) this.rewrite();
    this.appender = new Appender(file);
    this.timer = setInterval(() => this.flush(), FLUSH_MS);
    this.timer.unref();
  }

  everything() {
    const { store } = this;
    return [store.pages, store.databases, store.dataSources, store.blocks, store.comments].flatMap((map) => [...map.values()]);
  }

  // Writes the file anew, with one line for each object.
  rewrite() {
    const fd = fs.openSync(`${this.file}.new`, 'w');
    for (const object of this.everything()) fs.writeSync(fd, `${JSON.stringify(pack(object))}\n`);
    fs.closeSync(fd);
    fs.renameSync(`${this.file}.new`, this.file);
    this.store.dirty.clear();
  }

  // After a reset nothing of the old workspace may come back.
  restart() {
    const { appender } = this;
    appender.close(() => fs.closeSync(appender.fd));
    this.rewrite();
    this.appender = new Appender(this.file);
  }

  flush() {
    const { dirty } = this.store;
    if (dirty.size === 0) return;
    let text = '';
    for (const object of dirty) text += `${JSON.stringify(pack(object))}\n`;
    dirty.clear();
    this.appender.write(text);
  }

  close(then) {
    clearInterval(this.timer);
    this.flush();
    this.appender.close(then);
  }
}
