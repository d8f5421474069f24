// content.mjs
//	What stands inside pages: blocks, the same as Markdown, and comments. Much less than the service
//	has: enough for a body column, and for clients that send `after` to a version that refuses it.
import {
  archived, bad, badCursor, invalid, mustBeArray, mustBeObject, mustBeString, mustBeUuid, notFound,
  onlyKeys, pathUuid, plainText, queryPageSize, readRichText, showRichText,
} from './checks.mjs';
import { showTime } from './store.mjs';

// Kinds of blocks with text, and the marks that they have in Markdown.
const TEXT_BLOCKS = new Set(['paragraph', 'heading_1', 'heading_2', 'heading_3', 'bulleted_list_item',
  'numbered_list_item', 'to_do', 'quote', 'code', 'callout', 'toggle']);
const BARE_BLOCKS = new Set(['divider', 'breadcrumb']);
const BLOCK_KEYS = new Set(['object', 'type', ...TEXT_BLOCKS, ...BARE_BLOCKS]);
const MAX_DEPTH = 2;
const MAX_BLOCKS = 1000;

// ---- blocks ----

const kindOf = (block) => block.type ?? Object.keys(block).find((k) => TEXT_BLOCKS.has(k) || BARE_BLOCKS.has(k));

// Refuses what is no list of blocks: at most 100, nested at most two levels, at most 1000 in all.
export function checkBlocks(given, path) {
  const all = countBlocks(given, path, 1);
  if (all > MAX_BLOCKS) throw invalid(`body failed validation: a request has at most ${MAX_BLOCKS} blocks, this one has ${all}.`);
}

function countBlocks(given, path, depth) {
  let count = 0;
  mustBeArray(given, path);
  given.forEach((block, i) => {
    const at = `${path}[${i}]`;
    count++;
    mustBeObject(block, at);
    const kind = kindOf(block);
    if (kind === undefined || !BLOCK_KEYS.has(kind)) throw bad(`${at}.paragraph`, 'defined', undefined);
    onlyKeys(block, at, BLOCK_KEYS);
    const data = mustBeObject(block[kind], `${at}.${kind}`);
    if (BARE_BLOCKS.has(kind)) return;
    readRichText(data.rich_text, `${at}.${kind}.rich_text`);
    if (data.children !== undefined) {
      if (depth >= MAX_DEPTH) throw bad(`${at}.${kind}.children`, 'not present', data.children);
      count += countBlocks(data.children, `${at}.${kind}.children`, depth + 1);
    }
  });
  return count;
}

function makeBlock(store, page, parent, kind, data, userId) {
  const now = store.clock.now();
  const block = {
    kind: 'block', id: store.newId(), pageId: page.id, parentId: parent.id, type: kind, text: '', checked: false,
    language: 'plain text', blocks: null, created: now, edited: now, createdBy: userId, editedBy: userId,
    trashed: false, hidden: null, shared: false,
  };
  if (!BARE_BLOCKS.has(kind)) block.text = readRichText(data.rich_text, 'body');
  if (kind === 'to_do') block.checked = data.checked ?? false;
  if (kind === 'code') block.language = data.language ?? 'plain text';
  store.blocks.set(block.id, block);
  store.touch(block);
  return block;
}

// Adds blocks to a page or block at the place `at` (default: the end). They must have been checked.
// Returns the new ones of the first level.
export function addBlocks(store, page, given, userId, parent = page, at = undefined) {
  const added = given.map((item) => {
    const kind = kindOf(item);
    const block = makeBlock(store, page, parent, kind, item[kind], userId);
    if (item[kind].children) addBlocks(store, page, item[kind].children, userId, block);
    return block;
  });
  const list = parent.blocks ?? (parent.blocks = []);
  list.splice(at ?? list.length, 0, ...added.map((b) => b.id));
  store.touch(parent);
  return added;
}

export function removeBlocks(store, page) {
  for (const id of page.blocks ?? []) {
    const block = store.blocks.get(id);
    if (block) {
      block.trashed = true;
      store.touch(block);
    }
  }
  page.blocks = null;
}

function findPlace(ctx, text) {
  const id = pathUuid(text, 'block_id');
  const place = ctx.store.blocks.get(id) ?? ctx.store.pages.get(id);
  if (!place || !ctx.store.visible(place, ctx.connection)) throw notFound('block', id, ctx.connection);
  return place;
}

const pageOf = (store, place) => (place.kind === 'page' ? place : store.pages.get(place.pageId));

function showBlock(ctx, block) {
  const { store } = ctx;
  const data = BARE_BLOCKS.has(block.type) ? {} : { rich_text: showRichText(block.text), color: 'default' };
  if (block.type === 'to_do') data.checked = block.checked;
  if (block.type === 'code') {
    delete data.color;
    Object.assign(data, { caption: [], language: block.language });
  }
  if (block.type.startsWith('heading_')) data.is_toggleable = false;
  if (block.type === 'paragraph' || block.type === 'callout') data.icon = null;
  const trashed = store.inTrash(block);
  const shown = {
    object: 'block', id: block.id,
    parent: store.pages.has(block.parentId) ? { type: 'page_id', page_id: block.parentId }
      : { type: 'block_id', block_id: block.parentId },
    created_time: showTime(block.created), last_edited_time: showTime(block.edited),
    created_by: { object: 'user', id: block.createdBy }, last_edited_by: { object: 'user', id: block.editedBy },
    has_children: (block.blocks?.length ?? 0) > 0, in_trash: trashed, type: block.type, [block.type]: data,
  };
  if (ctx.withArchived) shown.archived = trashed;
  return shown;
}

// A page is a block, too.
function showPageAsBlock(ctx, page) {
  const shown = showBlock(ctx, {
    ...page, type: 'paragraph', text: '', parentId: page.id, blocks: page.blocks,
  });
  delete shown.paragraph;
  return {
    ...shown, parent: ctx.store.showParent(page), in_trash: ctx.store.inTrash(page), type: 'child_page',
    child_page: { title: plainText(page.values.get('title')) },
  };
}

export function getBlock(ctx, id) {
  ctx.need('read_content');
  const place = findPlace(ctx, id);
  return place.kind === 'page' ? showPageAsBlock(ctx, place) : showBlock(ctx, place);
}

export function listBlocks(ctx, id) {
  ctx.need('read_content');
  const place = findPlace(ctx, id);
  const params = new URLSearchParams(ctx.query);
  const size = queryPageSize(params.get('page_size'));
  const ids = place.blocks ?? [];
  const cursor = params.get('start_cursor');
  const start = cursor ? ids.indexOf(cursor) : 0;
  if (start < 0) throw badCursor(cursor);
  const next = ids[start + size] ?? null;
  return {
    object: 'list', results: ids.slice(start, start + size).map((x) => showBlock(ctx, ctx.store.blocks.get(x))),
    next_cursor: next, has_more: next !== null, type: 'block', block: {},
  };
}

// `after` is the way of the versions before 2026-03-11, `position` that of the later ones.
export function appendBlocks(ctx, id) {
  const { store, body } = ctx;
  ctx.need('insert_content');
  const place = findPlace(ctx, id);
  onlyKeys(body, 'body', new Set(['children', ctx.withArchived ? 'after' : 'position']));
  if (body.children === undefined) throw bad('body.children', 'defined', undefined);
  checkBlocks(body.children, 'body.children');
  if (store.inTrash(place)) throw archived();
  const list = place.blocks ?? [];
  let at = list.length;
  const after = body.after ?? (body.position?.type === 'after_block' ? body.position.after_block?.id : undefined);
  if (after !== undefined) {
    const found = list.indexOf(mustBeUuid(after, body.after ? 'body.after' : 'body.position.after_block.id'));
    if (found < 0) throw notFound('block', after, ctx.connection);
    at = found + 1;
  } else if (body.position?.type === 'start') {
    at = 0;
  }
  const page = pageOf(store, place);
  const added = addBlocks(store, page, body.children, ctx.userId, place, at);
  // edits of blocks through the API do not move the row's edit time (reference, section 10)
  ctx.changed(place, added.map((b) => b.id));
  store.event('page.content_updated', page, { updated_blocks: added.map((b) => ({ id: b.id, type: 'block' })) }, ctx.userId);
  return {
    object: 'list', results: added.map((b) => showBlock(ctx, b)), next_cursor: null, has_more: false, type: 'block', block: {},
  };
}

export function deleteBlock(ctx, id) {
  const { store } = ctx;
  ctx.need('update_content');
  const place = findPlace(ctx, id);
  if (store.inTrash(place)) throw archived();
  if (place.kind === 'page') {
    store.beforeWrite(place);
    place.trashed = true;
    store.afterWrite(place, ctx.userId);
    store.event('page.deleted', place, {}, ctx.userId);
    ctx.changed(place);
    return showPageAsBlock(ctx, place);
  }
  place.trashed = true;
  const parent = store.parentOf(place);
  parent.blocks = parent.blocks.filter((x) => x !== place.id);
  store.touch(place);
  store.touch(parent);
  ctx.changed(place);
  return showBlock(ctx, place);
}

// ---- Markdown ----

const LINE_KINDS = [
  [/^### (.*)$/, 'heading_3'], [/^## (.*)$/, 'heading_2'], [/^# (.*)$/, 'heading_1'],
  [/^- \[( |x)\] (.*)$/, 'to_do'], [/^[-*] (.*)$/, 'bulleted_list_item'], [/^\d+\. (.*)$/, 'numbered_list_item'],
  [/^> (.*)$/, 'quote'],
];

// Text longer than one item may be is cut, never within a pair of surrogates.
export function textItems(text) {
  const items = [];
  for (let at = 0; at < text.length;) {
    let end = Math.min(at + 2000, text.length);
    if (end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800) end--;
    items.push({ text: { content: text.slice(at, end) } });
    at = end;
  }
  return items;
}

function blocksOf(markdown) {
  const blocks = [];
  const lines = markdown.split('\n');
  for (let i = 0; i < lines.length; i++) {
    const line = lines[i];
    const fence = /^```(.*)$/.exec(line);
    if (line.trim() === '') continue;
    if (fence) {
      const end = lines.indexOf('```', i + 1);
      const code = lines.slice(i + 1, end < 0 ? lines.length : end).join('\n');
      blocks.push({ code: { rich_text: textItems(code), language: fence[1] || 'plain text' } });
      i = end < 0 ? lines.length : end;
    } else if (/^(---|\*\*\*)$/.test(line)) {
      blocks.push({ divider: {} });
    } else {
      blocks.push(lineBlock(line));
    }
  }
  return blocks;
}

function lineBlock(line) {
  for (const [pattern, kind] of LINE_KINDS) {
    const m = pattern.exec(line);
    if (!m) continue;
    if (kind === 'to_do') return { to_do: { rich_text: textItems(m[2]), checked: m[1] === 'x' } };
    return { [kind]: { rich_text: textItems(m[1]) } };
  }
  return { paragraph: { rich_text: textItems(line) } };
}

const MARKS = {
  heading_1: '# ', heading_2: '## ', heading_3: '### ', bulleted_list_item: '- ', quote: '> ', callout: '> ',
};

function markdownOf(store, ids) {
  let number = 0;
  return (ids ?? []).map((id) => {
    const block = store.blocks.get(id);
    const text = plainText(block.text);
    number = block.type === 'numbered_list_item' ? number + 1 : 0;
    switch (block.type) {
      case 'divider': return '---';
      case 'code': return `\`\`\`${block.language === 'plain text' ? '' : block.language}\n${text}\n\`\`\``;
      case 'to_do': return `- [${block.checked ? 'x' : ' '}] ${text}`;
      case 'numbered_list_item': return `${number}. ${text}`;
      default: return (MARKS[block.type] ?? '') + text;
    }
  }).join('\n');
}

export function addMarkdown(store, page, markdown, userId) {
  addBlocks(store, page, blocksOf(markdown), userId);
}

function findMarkdownPage(ctx, text) {
  const id = pathUuid(text, 'page_id');
  const page = ctx.store.pages.get(id);
  if (!page || !ctx.store.visible(page, ctx.connection)) throw notFound('page', id, ctx.connection);
  return page;
}

const showMarkdown = (store, page) => ({
  object: 'page_markdown', id: page.id, markdown: markdownOf(store, page.blocks), truncated: false, unknown_block_ids: [],
});

export function getMarkdown(ctx, id) {
  ctx.need('read_content');
  return showMarkdown(ctx.store, findMarkdownPage(ctx, id));
}

const MARKDOWN_KEYS = new Set(['type', 'allow_async', 'replace_content', 'update_content', 'insert_content',
  'replace_content_range']);

export function updateMarkdown(ctx, id) {
  const { store, body } = ctx;
  ctx.need('update_content');
  const page = findMarkdownPage(ctx, id);
  onlyKeys(body, 'body', MARKDOWN_KEYS);
  const given = mustBeObject(body[body.type], `body.${body.type}`);
  if (store.inTrash(page)) throw archived();
  let text = markdownOf(store, page.blocks);
  switch (body.type) {
    case 'replace_content':
      text = mustBeString(given.new_str, 'body.replace_content.new_str', 0, Infinity);
      break;
    case 'insert_content': {
      const content = mustBeString(given.content, 'body.insert_content.content', 0, Infinity);
      text = given.position?.type === 'start' ? `${content}\n${text}` : `${text}\n${content}`;
      break;
    }
    case 'update_content':
      mustBeArray(given.content_updates, 'body.update_content.content_updates').forEach((u) => {
        const hits = text.split(u.old_str).length - 1;
        if (hits === 0 || (hits > 1 && !u.replace_all_matches)) throw invalid(`old_str was found ${hits} times in the page.`);
        text = text.split(u.old_str).join(u.new_str);
      });
      break;
    default:
      throw invalid('replace_content_range is not part of this simulator.');
  }
  removeBlocks(store, page);
  addMarkdown(store, page, text, ctx.userId);
  store.event('page.content_updated', page, { updated_blocks: [] }, ctx.userId);
  ctx.changed(page);
  return showMarkdown(store, page);
}

// ---- comments ----

function showComment(store, comment) {
  return {
    object: 'comment', id: comment.id, parent: comment.parent, discussion_id: comment.discussionId,
    created_time: showTime(comment.created), last_edited_time: showTime(comment.edited),
    created_by: { object: 'user', id: comment.createdBy }, rich_text: showRichText(comment.text),
    display_name: { type: 'integration', resolved_name: store.users.get(comment.createdBy)?.name ?? null },
  };
}

export function createComment(ctx) {
  const { store, body } = ctx;
  ctx.need('insert_comments');
  onlyKeys(body, 'body', new Set(['parent', 'discussion_id', 'rich_text', 'markdown', 'display_name', 'attachments']));
  let parent;
  let pageId;
  let discussionId = store.newId();
  if (body.discussion_id !== undefined) {
    discussionId = mustBeUuid(body.discussion_id, 'body.discussion_id');
    const first = [...store.comments.values()].find((c) => c.discussionId === discussionId);
    if (!first) throw notFound('discussion', discussionId, ctx.connection);
    ({ parent, pageId } = first);
  } else {
    mustBeObject(body.parent, 'body.parent');
    const key = body.parent.page_id !== undefined ? 'page_id' : 'block_id';
    const place = findPlace(ctx, mustBeUuid(body.parent[key], `body.parent.${key}`));
    if (store.inTrash(place)) throw archived();
    parent = { type: key, [key]: place.id };
    pageId = pageOf(store, place).id;
  }
  const now = store.clock.now();
  const comment = {
    kind: 'comment', id: store.newId(), parent, pageId, discussionId, created: now, edited: now, createdBy: ctx.userId,
    text: body.markdown !== undefined ? mustBeString(body.markdown, 'body.markdown', 1, 2000)
      : readRichText(body.rich_text, 'body.rich_text'),
  };
  store.comments.set(comment.id, comment);
  store.touch(comment);
  store.event('comment.created', comment, { page_id: pageId }, ctx.userId);
  ctx.changed(comment);
  return showComment(store, comment);
}

export function listComments(ctx) {
  ctx.need('read_comments');
  const params = new URLSearchParams(ctx.query);
  const place = findPlace(ctx, params.get('block_id') ?? '');
  const size = queryPageSize(params.get('page_size'));
  const all = [...ctx.store.comments.values()].filter((c) => (c.parent.page_id ?? c.parent.block_id) === place.id);
  const cursor = params.get('start_cursor');
  const start = cursor ? all.findIndex((c) => c.id === cursor) : 0;
  if (start < 0) throw badCursor(cursor);
  const next = all[start + size]?.id ?? null;
  return {
    object: 'list', results: all.slice(start, start + size).map((c) => showComment(ctx.store, c)), next_cursor: next,
    has_more: next !== null, type: 'comment', comment: {},
  };
}

function findComment(ctx, text) {
  const id = pathUuid(text, 'comment_id');
  const comment = ctx.store.comments.get(id);
  if (!comment) throw notFound('comment', id, ctx.connection);
  return comment;
}

export function getComment(ctx, id) {
  ctx.need('read_comments');
  return showComment(ctx.store, findComment(ctx, id));
}

