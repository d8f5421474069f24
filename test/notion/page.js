// page.js
//	The web page of the simulator, in the browser: databases as tables whose cells a person edits.
//	Each edit goes through /_sim/edit, so it stands in the ledger as a person's. The page asks once a
//	second whether something changed, and marks the cells that did.
const PAGE = 100;
const READ_ONLY = new Set(['created_time', 'created_by', 'last_edited_time', 'last_edited_by', 'formula', 'rollup', 'unique_id', 'button', 'place']);
const TYPE_NAMES = { rich_text: 'text', multi_select: 'multi', phone_number: 'phone', created_time: 'created', last_edited_time: 'edited' };

const $ = (id) => document.getElementById(id);
const state = { tables: [], id: null, table: null, offset: 0, version: -1, cell: null, editor: null, stale: false, asked: 0, lastWrite: 0 };

// ---- talking to the simulator ----

async function ask(path, body) {
  const res = await fetch(`/_sim/${path}`, body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) });
  const json = await res.json();
  if (!res.ok) throw new Error(json.error);
  return json;
}

function say(text, error = false) {
  $('message').textContent = text;
  $('message').classList.toggle('error', error);
}

async function edit(change, said) {
  try {
    const done = await ask('edit', change);
    say(said);
    await load();
    return done;
  } catch (e) {
    say(e.message, true);
    return null;
  }
}

// ---- drawing ----

function element(tag, className, text) {
  const e = document.createElement(tag);
  if (className) e.className = className;
  if (text !== undefined) e.textContent = text;
  return e;
}

function drawTables() {
  $('tables').replaceChildren(...state.tables.map((t) => {
    const button = element('button');
    button.append(element('span', '', t.name || 'Untitled'), element('span', '', t.rows));
    button.setAttribute('aria-current', String(t.id === state.id));
    button.onclick = () => choose(t.id);
    return button;
  }));
}

function drawHead() {
  const row = element('tr');
  for (const p of state.table.properties) {
    const th = element('th', p.type === 'title' ? 'title' : '', p.name);
    th.scope = 'col';
    th.append(element('small', '', TYPE_NAMES[p.type] ?? p.type));
    row.append(th);
  }
  row.append(element('th', '', 'Edited'), element('th', '', ''));
  $('thead').replaceChildren(row);
}

const chip = (text, color) => element('span', `chip ${color ?? ''}`, text);

// Returns what a cell shows: text, or chips.
function contentOf(p, value) {
  const color = (name) => p.options?.find((o) => o.name === name)?.color;
  switch (p.type) {
    case 'checkbox': return [value ? '☑' : '☐'];
    case 'select':
    case 'status': return value ? [chip(value, color(value))] : [];
    case 'multi_select': return value.map((name) => chip(name, color(name)));
    case 'relation':
    case 'people': return value.map((item) => chip(item.text || 'Untitled'));
    case 'created_time':
    case 'last_edited_time': return [new Date(value).toLocaleString()];
    case 'files': return value.map((url) => chip(url));
    default: return value === null || value === undefined ? [] : [typeof value === 'object' ? JSON.stringify(value) : String(value)];
  }
}

function fillCell(td, p, value, fresh) {
  const key = JSON.stringify(value);
  if (td.dataset.key === key) return;
  const known = td.dataset.key !== undefined;
  td.dataset.key = key;
  td.replaceChildren(...contentOf(p, value));
  td.title = td.textContent.length > 30 ? td.textContent : '';
  if (fresh && known) flash(td);
}

function flash(e) {
  e.classList.remove('fresh');
  void e.offsetWidth; // begins the animation anew
  e.classList.add('fresh');
}

function makeRow(row) {
  const tr = element('tr');
  tr.dataset.id = row.id;
  state.table.properties.forEach((p, i) => {
    const td = element('td', p.type === 'title' ? 'title' : p.type === 'number' ? 'number' : READ_ONLY.has(p.type) ? 'readonly' : '');
    td.tabIndex = -1;
    td.dataset.column = i;
    td.setAttribute('role', 'gridcell');
    tr.append(td);
  });
  const edited = element('td', 'edge');
  const action = element('td', 'edge');
  const button = element('button', '', $('trash').checked ? 'Restore' : 'Trash');
  button.tabIndex = -1;
  button.onclick = () => trashRow(row.id);
  action.append(button);
  tr.append(edited, action);
  return tr;
}

function fillRow(tr, row, fresh) {
  state.table.properties.forEach((p, i) => fillCell(tr.children[i], p, row.cells[i], fresh));
  const edited = tr.children[state.table.properties.length];
  const text = `${new Date(row.edited).toLocaleTimeString()} ${row.human ? row.by : 'bot'}`;
  if (edited.textContent !== text) edited.textContent = text;
  edited.title = `${row.by}, ${new Date(row.edited).toLocaleString()}`;
}

// Draws the rows; those that are there already stay, so that the focus does.
function drawRows(fresh) {
  const old = new Map([...$('tbody').children].map((tr) => [tr.dataset.id, tr]));
  const rows = state.table.rows.map((row) => {
    const tr = old.get(row.id) ?? makeRow(row);
    fillRow(tr, row, fresh);
    if (fresh && !old.has(row.id)) for (const td of tr.children) flash(td);
    return tr;
  });
  const body = $('tbody');
  const wanted = new Set(rows);
  for (const tr of [...body.children]) if (!wanted.has(tr)) tr.remove();
  rows.forEach((tr, i) => { if (body.children[i] !== tr) body.insertBefore(tr, body.children[i] ?? null); });
  const { found, offset } = state.table;
  $('range').textContent = found ? `${offset + 1}–${offset + rows.length} of ${found}` : '';
  $('back').disabled = offset === 0;
  $('next').disabled = offset + rows.length >= found;
  $('empty').hidden = found > 0;
  $('empty').textContent = $('trash').checked ? 'The trash is empty.' : $('find').value ? 'Nothing found.' : 'No rows yet. Alt N makes one.';
  const first = body.querySelector('td[tabindex="0"]') ?? body.querySelector('td');
  if (first) first.tabIndex = 0;
}

function drawCounts(s) {
  $('clock').textContent = `${s.clock.now.replace('T', ' ').slice(0, 19)} UTC${s.clock.frozen ? ', stopped' : ''}`;
  $('counts').textContent = `${s.requests} requests, ${s.mutations} writes`;
}

function drawStatus(s) {
  drawCounts(s);
  $('limits').textContent = s.limits.limit ? `${s.limits.limit} requests a minute` : 'no rate limit';
}

function drawLog(entries) {
  const last = entries[entries.length - 1]?.seq ?? 0;
  if (last === state.lastWrite) return;
  state.lastWrite = last;
  $('log').replaceChildren(...entries.reverse().map((e) => {
    const li = element('li');
    const what = e.by === 'human' ? `a person: ${(e.op ?? 'edit').replace('_', ' ')}` : `${e.method} ${e.path.replace('/v1/', '').replace(/([0-9a-f]{4})[0-9a-f-]{32}/, '$1…')}`;
    li.append(element('span', '', what), element('span', e.status >= 200 && e.status < 300 ? 'status' : 'status bad', e.status || 'lost'));
    return li;
  }));
}

// ---- loading ----

async function load(fresh = true) {
  const asked = ++state.asked;
  const all = await ask('tables');
  if (asked !== state.asked) return;
  state.tables = all.tables;
  state.version = all.version;
  drawStatus(all);
  if (!state.tables.some((t) => t.id === state.id)) state.id = state.tables[0]?.id ?? null;
  drawTables();
  if (state.id === null) {
    $('name').textContent = 'No databases yet';
    $('empty').hidden = false;
    $('empty').textContent = 'They appear here when a client makes them through the API.';
    $('thead').replaceChildren();
    $('tbody').replaceChildren();
    return;
  }
  const q = new URLSearchParams({
    id: state.id, offset: state.offset, limit: PAGE, find: $('find').value, trash: $('trash').checked ? 1 : 0,
    order: $('newest').checked ? 'new' : 'old',
  });
  const table = await ask(`table?${q}`);
  if (asked !== state.asked) return;
  if (state.editor) {
    // somebody is writing: what is under his hands stays
    state.stale = true;
    return;
  }
  const shape = (t) => t && JSON.stringify([t.id, t.properties.map((p) => [p.id, p.name, p.type])]);
  const same = shape(state.table) === shape(table);
  state.table = table;
  $('name').textContent = table.name || 'Untitled';
  const at = document.activeElement.closest?.('td[data-column]');
  const place = at && [at.parentElement.dataset.id, Number(at.dataset.column)];
  if (!same) {
    drawHead();
    $('tbody').replaceChildren();
  }
  drawRows(fresh && same);
  // a schema that changed must not throw the person who works here out of the table
  if (place && !same) focusCell(rowElement(place[0])?.children[Math.min(place[1], table.properties.length - 1)]);
}

const rowElement = (id) => $('tbody').querySelector(`tr[data-id="${id}"]`);

function choose(id) {
  state.id = id;
  state.offset = 0;
  location.hash = id;
  say('');
  load(false);
}

async function poll() {
  try {
    if (!document.hidden) {
      const c = await ask('changes?since=0');
      $('offline').hidden = true;
      drawLog(c.ledger);
      drawCounts(c);
      if (c.version !== state.version) await load();
    }
  } catch {
    // the simulator is away for now: said in the page, asked again in a second
    $('offline').hidden = false;
  }
  setTimeout(poll, 1000);
}

// ---- moving ----

function focusCell(td) {
  if (!td) return;
  for (const other of $('tbody').querySelectorAll('td[tabindex="0"]')) other.tabIndex = -1;
  td.tabIndex = 0;
  td.focus({ preventScroll: true });
  td.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

function neighbour(td, down, right) {
  const rows = [...$('tbody').children];
  const row = rows.indexOf(td.parentElement) + down;
  const column = Number(td.dataset.column) + right;
  if (column < 0 || column >= state.table.properties.length) return null;
  return rows[Math.max(0, Math.min(rows.length - 1, row))]?.children[column] ?? null;
}

const MOVES = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1], PageUp: [-10, 0], PageDown: [10, 0] };

function cellKey(event) {
  const td = event.target.closest('td[data-column]');
  if (!td || state.editor) return;
  const p = state.table.properties[td.dataset.column];
  if (event.altKey && event.key === 'Delete') trashRow(td.parentElement.dataset.id);
  else if (event.ctrlKey || event.metaKey || event.altKey) return;
  else if (MOVES[event.key]) focusCell(neighbour(td, ...MOVES[event.key]));
  else if (event.key === 'Home') focusCell(td.parentElement.children[0]);
  else if (event.key === 'End') focusCell(td.parentElement.children[state.table.properties.length - 1]);
  else if (event.key === ' ' && p.type === 'checkbox') toggle(td, p);
  else if (event.key === 'Enter' || event.key === 'F2') open(td);
  else if (event.key === 'Delete' || event.key === 'Backspace') put(td, p, p.type === 'checkbox' ? false : null);
  else if (event.key.length === 1) open(td, event.key);
  else return;
  event.preventDefault();
}

// ---- editing ----

const rowOf = (td) => state.table.rows.find((r) => r.id === td.parentElement.dataset.id);

function put(td, p, value) {
  if (READ_ONLY.has(p.type)) return null;
  return edit({ op: 'set', page_id: td.parentElement.dataset.id, properties: { [p.id]: value } }, `${p.name} changed`);
}

const toggle = (td, p) => put(td, p, !rowOf(td).cells[td.dataset.column]);

function textOf(p, value) {
  if (value === null || value === undefined) return '';
  if (p.type === 'relation' || p.type === 'people') return value.map((item) => item.text).join(', ');
  return Array.isArray(value) ? value.join(', ') : String(value);
}

async function suggestions(p) {
  if (p.type === 'people') return (await ask('tables')).persons.map((u) => ({ id: u.id, text: u.name }));
  if (p.type === 'relation') {
    const target = await ask(`table?id=${p.data_source_id}&limit=500`);
    const title = target.properties.findIndex((q) => q.type === 'title');
    return target.rows.map((r) => ({ id: r.id, text: r.cells[title] }));
  }
  return (p.options ?? []).map((o) => ({ text: o.name }));
}

function makeInput(p, text) {
  if (p.type === 'status') {
    const select = element('select');
    for (const o of p.options) select.append(new Option(o.name, o.name, false, o.name === text));
    return select;
  }
  if (p.type === 'rich_text') return Object.assign(element('textarea'), { value: text });
  return Object.assign(element('input'), { value: text, type: 'text' });
}

// Opens a cell for writing; with a first letter, that replaces what was there.
async function open(td, letter) {
  const p = state.table.properties[td.dataset.column];
  if (READ_ONLY.has(p.type)) {
    say(`${p.name} is filled in by Notion`, true);
    return;
  }
  if (p.type === 'checkbox') {
    if (letter === undefined) toggle(td, p);
    return;
  }
  const value = rowOf(td).cells[td.dataset.column];
  const before = textOf(p, value);
  const input = makeInput(p, letter === undefined || p.type === 'status' ? before : letter);
  input.setAttribute('aria-label', p.name);
  const editor = { td, p, input, before, known: new Map() };
  state.editor = editor;
  td.classList.add('editing');
  td.replaceChildren(input);
  input.addEventListener('keydown', editorKey);
  input.addEventListener('blur', () => { if (state.editor === editor) close(true, false); });
  input.focus();
  if (letter === undefined && input.select) input.select();
  if (['select', 'multi_select', 'relation', 'people'].includes(p.type)) {
    const list = Object.assign(element('datalist'), { id: 'suggestions' });
    for (const s of await suggestions(p)) {
      list.append(new Option(s.text));
      if (s.id) editor.known.set(s.text, s.id);
    }
    if (state.editor === editor) {
      td.append(list);
      input.setAttribute('list', 'suggestions');
    }
  }
}

function editorKey(event) {
  const { td } = state.editor;
  if (event.key === 'Escape') {
    close(false, true);
  } else if (event.key === 'Enter' && !(event.shiftKey && event.target.tagName === 'TEXTAREA')) {
    close(true, true);
    focusCell(neighbour(td, 1, 0));
  } else if (event.key === 'Tab') {
    close(true, true);
    focusCell(neighbour(td, 0, event.shiftKey ? -1 : 1) ?? td);
  } else {
    return;
  }
  event.preventDefault();
  event.stopPropagation();
}

// Names of rows or people become their ids; throws for names that are unknown.
function idsOf({ p, known }, text) {
  return text.split(',').map((s) => s.trim()).filter(Boolean).map((name) => {
    const id = known.get(name) ?? (/^[0-9a-f-]{32,36}$/.test(name) ? name : null);
    if (!id) throw new Error(`${p.name}: there is nothing called ${name}`);
    return id;
  });
}

// Ends writing: keeps the text or lets it go.
function close(keep, refocus) {
  const { editor } = state;
  const { td, p, input, before } = editor;
  const text = input.value;
  state.editor = null;
  td.classList.remove('editing');
  const row = rowOf(td);
  delete td.dataset.key;
  if (row) fillCell(td, p, row.cells[td.dataset.column], false);
  if (refocus) focusCell(td);
  if (keep && text !== before) {
    try {
      put(td, p, p.type === 'relation' || p.type === 'people' ? idsOf(editor, text) : text);
    } catch (e) {
      say(e.message, true);
    }
  }
  if (state.stale) {
    state.stale = false;
    load();
  }
}

// ---- rows ----

async function addRow() {
  if (!state.id) return;
  $('find').value = '';
  $('trash').checked = false;
  state.offset = $('newest').checked ? 0 : Math.max(0, Math.floor(state.table.found / PAGE) * PAGE);
  const done = await edit({ op: 'add', data_source_id: state.id, properties: {} }, 'new row');
  if (!done) return;
  const tr = rowElement(done.page_id);
  const title = state.table.properties.findIndex((p) => p.type === 'title');
  if (tr) focusCell(tr.children[title]);
}

async function trashRow(id) {
  const restore = $('trash').checked;
  const tr = rowElement(id);
  const next = (tr.nextElementSibling ?? tr.previousElementSibling)?.children[0];
  await edit({ op: restore ? 'restore' : 'trash', page_id: id }, restore ? 'row restored' : 'row put into the trash');
  focusCell(next);
}

// ---- beginning ----

function turn(by) {
  state.offset = Math.max(0, state.offset + by);
  load(false);
}

let finding = null;

$('tbody').addEventListener('keydown', cellKey);
$('tbody').addEventListener('mousedown', (event) => {
  const td = event.target.closest('td[data-column]');
  if (td && !td.classList.contains('editing')) focusCell(td);
});
$('tbody').addEventListener('click', (event) => {
  const td = event.target.closest('td[data-column]');
  const p = td && state.table.properties[td.dataset.column];
  if (p?.type === 'checkbox') toggle(td, p);
});
$('tbody').addEventListener('dblclick', (event) => {
  const td = event.target.closest('td[data-column]');
  if (td && !state.editor && state.table.properties[td.dataset.column].type !== 'checkbox') open(td);
});
document.addEventListener('keydown', (event) => {
  if (event.altKey && event.code === 'KeyN') {
    event.preventDefault();
    addRow();
  }
});
$('add').onclick = addRow;
$('back').onclick = () => turn(-PAGE);
$('next').onclick = () => turn(PAGE);
for (const id of ['newest', 'trash']) {
  $(id).onchange = () => {
    state.offset = 0;
    $('tbody').replaceChildren();
    load(false);
  };
}
$('find').oninput = () => {
  clearTimeout(finding);
  finding = setTimeout(() => {
    state.offset = 0;
    load(false);
  }, 150);
};
state.id = location.hash.slice(1) || null;
load(false).then(poll, poll);
