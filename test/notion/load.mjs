#!/usr/bin/env node
// load.mjs
//	How many requests a second the simulator serves:
//	  node load.mjs [--seconds 5] [--connections 8] [--rounds 5]
//	Creates and patches of small rows (eight properties) over kept connections, by turns. The client
//	writes bytes that were made before and reads no more of an answer than its length, so that it
//	costs little; it runs in this process, the simulator in another. Prints the medians.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { PARENT, call, text } from './testing.mjs';

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '5' }, connections: { type: 'string', default: '8' },
    rounds: { type: 'string', default: '5' },
  },
});
const HEADERS = { Authorization: 'Bearer ntn_load', 'Notion-Version': '2026-03-11' };
const SCHEMA = {
  Name: { title: {} }, pk: { rich_text: {} }, Score: { number: {} }, Kind: { select: {} }, When: { date: {} }, Done: { checkbox: {} },
  Note: { rich_text: {} }, Link: { url: {} },
};

const rowOf = (i) => ({
  Name: { title: text(`row ${i}`) }, pk: { rich_text: text(String(i)) }, Score: { number: i }, Kind: { select: { name: `k${i % 5}` } },
  When: { date: { start: '2026-11-01T10:11:00Z' } }, Done: { checkbox: i % 2 === 0 },
  Note: { rich_text: text('words of a row that somebody wrote down to have them later') }, Link: { url: 'https://example.com/a' },
});

function bytesOf(method, path, body) {
  const payload = JSON.stringify(body);
  return Buffer.from(`${method} ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${HEADERS.Authorization}\r\n` +
    `Notion-Version: ${HEADERS['Notion-Version']}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(payload)}\r\n\r\n${payload}`);
}

// Sends one request after the other on one connection until the time is over; returns how many
// were answered with 200.
function drive(port, requests, until) {
  return new Promise((resolve, reject) => {
    let next = 0;
    let done = 0;
    let left = 0; // bytes of the current answer that have not come yet
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    const send = () => {
      if (Date.now() < until) socket.write(requests[next++ % requests.length]);
      else socket.end(() => resolve(done));
    };
    socket.on('connect', send);
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      if (left === 0) {
        const head = chunk.toString('latin1', 0, Math.min(chunk.length, 600));
        if (!head.startsWith('HTTP/1.1 200')) {
          reject(new Error(chunk.toString()));
          return;
        }
        left = head.indexOf('\r\n\r\n') + 4 + Number(/content-length: (\d+)/i.exec(head)[1]);
      }
      left -= chunk.length;
      if (left > 0) return;
      done++;
      send();
    });
  });
}

async function measure(port, requests) {
  const seconds = Number(values.seconds);
  const lanes = Array.from({ length: Number(values.connections) }, () => drive(port, requests, Date.now() + seconds * 1000));
  const counts = await Promise.all(lanes);
  return Math.round(counts.reduce((a, b) => a + b) / seconds);
}

const median = (list) => list.sort((a, b) => a - b)[list.length >> 1];

const child = spawn(process.execPath, [fileURLToPath(new URL('./server.mjs', import.meta.url)), '--keep', '1000'],
  { stdio: ['ignore', 'pipe', 'inherit'] });
const [line] = await once(child.stdout, 'data');
const url = String(line).trim().split(' ')[1];
const port = Number(new URL(url).port);
const ask = async (method, path, body) => (await call(url, method, path, body, HEADERS)).json;
const figures = { creates: [], patches: [] };

for (let round = 0; round < Number(values.rounds); round++) {
  await call(url, 'POST', '/_sim/reset', { only: ['state', 'ledger'] });
  const database = await ask('POST', '/v1/databases', { parent: { page_id: PARENT }, initial_data_source: { properties: SCHEMA } });
  const parent = { type: 'data_source_id', data_source_id: database.data_sources[0].id };
  const pages = await Promise.all(Array.from({ length: 200 }, (_, i) => ask('POST', '/v1/pages', { parent, properties: rowOf(i) })));
  figures.creates.push(await measure(port, pages.map((_, i) => bytesOf('POST', '/v1/pages', { parent, properties: rowOf(i) }))));
  figures.patches.push(await measure(port, pages.map((p, i) => bytesOf('PATCH', `/v1/pages/${p.id}`, { properties: rowOf(i + 1) }))));
}
process.stdout.write(`creates/s: ${median(figures.creates)} (${figures.creates.join(' ')})\n` +
  `patches/s: ${median(figures.patches)} (${figures.patches.join(' ')})\n`);
child.kill();
