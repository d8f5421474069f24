#!/usr/bin/env node
// judge.mjs
//	The official client (npm: @notionhq/client) drives the simulator, and JSON schemas made of its
//	published types judge every request and every answer on the wire. Cases that must be refused
//	keep the judge honest. The last line is "N passed, N failed".
import { Bot } from './client.mjs';
import { Schemas } from './schema.mjs';
import * as cases from './cases.mjs';
import * as refused from './refused.mjs';
import { start } from '../server.mjs';

const VERSIONS = ['2026-03-11', '2025-09-03'];

let passed = 0;
let failed = 0;

function report(name, error) {
  if (error === null) {
    passed++;
    process.stdout.write(`ok ${passed + failed} - ${name}\n`);
    return;
  }
  failed++;
  process.stdout.write(`not ok ${passed + failed} - ${name}\n    ${String(error.stack ?? error).replaceAll('\n', '\n    ')}\n`);
}

async function attempt(name, work) {
  try {
    await work();
    report(name, null);
  } catch (error) {
    report(name, error);
  }
}

const schemas = new Schemas();

for (const [name, work] of Object.entries(refused)) await attempt(`refused: ${words(name)}`, () => work(schemas));

for (const version of VERSIONS) {
  for (const [name, work] of Object.entries(cases)) {
    const started = await start({ limit: 0 });
    const bot = new Bot(started, schemas, version);
    await attempt(`${version} ${words(name)}`, async () => {
      await work(bot);
      bot.noneWrong();
    });
    await started.close();
  }
}

process.stdout.write(`${passed} passed, ${failed} failed\n`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

function words(name) {
  return name.replace(/[A-Z]/g, (c) => ` ${c.toLowerCase()}`);
}
