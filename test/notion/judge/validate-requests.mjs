#!/usr/bin/env node
// validate-requests.mjs
//	node validate-requests.mjs FILE...
//	Holds every request that the simulator recorded (--record) to the official client's types. The
//	last line is "N passed, N failed". Requests of other programs than angles (a test that asks by
//	itself, and may ask wrongly on purpose) are counted and left aside; --all judges them, too.
import fs from 'node:fs';
import readline from 'node:readline';
import * as refused from './refused.mjs';
import { judgeRequest } from './requests.mjs';
import { Schemas } from './schema.mjs';

const SHOWN = 20;
const IDS = /[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}/g;

const AGENT = /^angles\//;
const everybody = process.argv.includes('--all');
const files = process.argv.slice(2).filter((name) => name !== '--all');
if (files.length === 0) {
  process.stderr.write('usage: node validate-requests.mjs [--all] FILE...\n');
  process.exit(2);
}

const schemas = new Schemas();
const kinds = new Map();
const faults = new Map();
let passed = 0;
let failed = 0;
let others = 0;

// A judge that lets everything pass must not speak: these throw when one of the bad cases passes.
for (const prove of Object.values(refused)) prove(schemas);

function note(file, number, entry, wrong) {
  failed++;
  const kind = `${entry.method} ${String(entry.path).replace(IDS, ':id')}: ${wrong.replace(IDS, ':id')}`;
  const known = faults.get(kind);
  if (known) known.count++;
  else faults.set(kind, { count: 1, where: `${file}:${number}`, body: JSON.stringify(entry.body ?? null).slice(0, 600) });
}

for (const file of files) {
  let number = 0;
  for await (const line of readline.createInterface({ input: fs.createReadStream(file), crlfDelay: Infinity })) {
    number++;
    if (line.trim() === '') continue;
    const entry = JSON.parse(line);
    if (!everybody && !AGENT.test(entry.headers?.['user-agent'] ?? '')) {
      others++;
      continue;
    }
    const wrong = judgeRequest(schemas, entry);
    if (wrong !== null) {
      note(file, number, entry, wrong);
      continue;
    }
    passed++;
    const kind = `${entry.method} ${entry.path.replace(/\/v1\/([a-z_]+)\/[^/]+/, '/v1/$1/:id')}`.replace(/properties\/.*/, 'properties/:id');
    kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  }
}

for (const [kind, count] of [...kinds].sort()) process.stdout.write(`ok ${kind}: ${count}\n`);
for (const [kind, { count, where, body }] of [...faults].slice(0, SHOWN)) {
  process.stdout.write(`not ok ${kind}\n    ${count} times, first in ${where}\n    ${body}\n`);
}
if (faults.size > SHOWN) process.stdout.write(`... and ${faults.size - SHOWN} more kinds of failure\n`);
if (others) process.stdout.write(`${others} requests of other programs left aside\n`);
if (passed + failed === 0) process.stdout.write('not ok no request of angles was recorded\n');
process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);
