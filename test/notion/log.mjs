// log.mjs
//	What came in: every request of the API, and the ledger of all that changes something or tries
//	to, people's edits included. Bodies are kept as the text that came, and parsed by nobody until
//	somebody asks. The token is never kept: only the first characters of its digest.
import { Appender } from './disk.mjs';

// Returns the time in microseconds since 1970. performance.now() does not follow when the system's
// clock is set, so it is anchored again when the two differ.
let anchor = performance.timeOrigin;

export function nowMicros() {
  const fine = anchor + performance.now();
  const coarse = Date.now();
  if (fine < coarse - 1 || fine > coarse + 2) {
    anchor += coarse - fine;
    return Math.round((anchor + performance.now()) * 1000);
  }
  return Math.round(fine * 1000);
}

// Returns the text of a body as JSON on one line.
function oneLine(text) {
  if (text === '') return 'null';
  if (!text.includes('\n') && !text.includes('\r')) {
    const first = text.charCodeAt(0);
    // only what was parsed as an object may be put in as it is
    if (first === 0x7b) return text;
  }
  try {
    return JSON.stringify(JSON.parse(text));
  } catch (e) {
    if (!(e instanceof SyntaxError)) throw e;
    return JSON.stringify(text);
  }
}

export class Log {
  constructor(recordFile, keep) {
    this.keep = keep;
    this.clear();
    this.record = recordFile ? new Appender(recordFile) : null;
  }

  clear() {
    this.requests = [];
    this.ledger = [];
    this.count = 0;
  }

  // Adds a request of the API. `x` is the exchange of server.mjs.
  add(x, status, committed, fault) {
    const entry = {
      seq: ++this.count, ledgerSeq: 0, t: x.t, method: x.method, path: x.path, query: x.query, body: x.bodyText,
      badJson: x.badJson, status, committed, fault, version: x.version, token: x.fingerprint, agent: x.agent,
      resource: x.resourceId, page: x.pageId, children: x.childIds, code: x.errorCode, message: x.errorMessage,
      by: 'api',
    };
    this.requests.push(entry);
    if (this.keep && this.requests.length > 2 * this.keep) this.requests.splice(0, this.requests.length - this.keep);
    if (x.mutation) {
      entry.ledgerSeq = this.nextLedgerSeq();
      this.ledger.push(entry);
      this.trimLedger();
    }
    if (this.record) this.record.write(requestLine(entry));
    return entry;
  }

  // Adds an edit of a person.
  addHuman(edit, resource, page, status) {
    const entry = {
      seq: 0, ledgerSeq: this.nextLedgerSeq(), t: nowMicros(), method: 'EDIT', path: '/_sim/edit', query: '',
      body: JSON.stringify(edit), badJson: false, status, committed: status < 300, fault: null, version: null, token: null,
      agent: null, resource, page, children: null, code: null, message: null, by: 'human',
    };
    this.ledger.push(entry);
    this.trimLedger();
    return entry;
  }

  nextLedgerSeq() {
    const last = this.ledger[this.ledger.length - 1];
    return (last?.ledgerSeq ?? 0) + 1;
  }

  trimLedger() {
    if (this.keep && this.ledger.length > 2 * this.keep) this.ledger.splice(0, this.ledger.length - this.keep);
  }

  close(then) {
    if (this.record) this.record.close(then);
    else then();
  }

  // Returns the ledger from after `since` as JSON lines.
  ledgerText(since) {
    let text = '';
    for (const entry of this.ledger) if (entry.ledgerSeq > since) text += ledgerLine(entry);
    return text;
  }

  requestText(since) {
    let text = '';
    for (const entry of this.requests) if (entry.seq > since) text += requestLine(entry);
    return text;
  }
}

const bodyText = (e) => (e.badJson ? JSON.stringify(e.body) : oneLine(e.body));
const optional = (name, value) => (value === null || value === undefined || value === '' ? ''
  : `,"${name}":${JSON.stringify(value)}`);

function common(e) {
  return `"t_us":${e.t},"method":"${e.method}","path":${JSON.stringify(e.path)}${optional('query', e.query)}` +
    `,"status":${e.status},"committed":${e.committed}${optional('fault', e.fault)}${optional('code', e.code)}` +
    optional('message', e.message);
}

function ledgerLine(e) {
  return `{"seq":${e.ledgerSeq},${common(e)},"by":"${e.by}"${optional('page_id', e.page)}` +
    `${optional('resource_id', e.resource)}${optional('child_ids', e.children)}${optional('connection', e.token)}` +
    `,"body":${bodyText(e)}}\n`;
}

function requestLine(e) {
  return `{"seq":${e.seq},${common(e)}${e.ledgerSeq ? `,"ledger_seq":${e.ledgerSeq}` : ''}` +
    `,"headers":{"authorization":${e.token !== null}${optional('token_fingerprint', e.token)}` +
    `${optional('notion-version', e.version)}${optional('user-agent', e.agent)}},"body":${bodyText(e)}}\n`;
}
