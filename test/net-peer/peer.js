// A remote that misbehaves, for test/t/net*.pl: node peer.js CERT_DIR. Binds free ports of 127.0.0.1
// and prints them as one line of JSON. What it does is chosen by the request's path; how often each
// "METHOD path" arrived whole, and where a bearer token was seen, is told by GET /_counts on "plain".
'use strict';

const fs = require('fs');
const http2 = require('http2');
const https = require('https');
const net = require('net');
const path = require('path');
const zlib = require('zlib');

const certDir = process.argv[2];
const counts = {};
const tokens = {};
let connections = { plain: 0, other: 0, reset: 0, proxy: 0, tls: 0 };
const JSON_TYPE = 'Content-Type: application/json; charset=utf-8';

function count(method, where, headers, port) {
  const key = `${method} ${where}`;
  counts[key] = (counts[key] || 0) + 1;
  if (/^authorization: bearer/mi.test(headers)) tokens[port] = (tokens[port] || 0) + 1;
}

function answer(socket, status, body, headers = [JSON_TYPE]) {
  socket.write(`HTTP/1.1 ${status} Words\r\nContent-Length: ${Buffer.byteLength(body)}\r\n` +
    headers.map((h) => `${h}\r\n`).join('') + '\r\n');
  socket.write(body);
}

function packed(socket, bytes) {
  socket.write(`HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n${JSON_TYPE}\r\n` +
    `Content-Length: ${bytes.length}\r\n\r\n`);
  socket.write(bytes);
}

// Behaviour of a request that arrived whole. "nth" is its number on its connection, from 1.
const plain = {
  '/ok': (s, r) => answer(s, 200, JSON.stringify({ nth: r.nth, body: r.body })),
  '/headers': (s, r) => answer(s, 200, JSON.stringify(r.head.split('\r\n'))),
  '/ids': (s) => answer(s, 200, '{}', [JSON_TYPE, 'x-request-id: other',
    'X-Notion-Request-Id: id-\u0001\u00ff-1', 'Date: Sun, 01 Nov 2026 10:09:12 GMT']),
  '/html': (s) => answer(s, 502, '<html>Bad Gateway</html>', ['Content-Type: text/html']),
  '/nul': (s) => answer(s, 200, '{"a":"\u0000"}'),
  '/blackhole': () => {},
  '/loris': (s) => {
    s.write(`HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\nContent-Length: 1000\r\n\r\n`);
    const timer = setInterval(() => s.write('x'), 200);
    s.on('close', () => clearInterval(timer));
  },
  '/loris-headers': (s) => {
    s.write('HTTP/1.1 200 OK\r\n');
    const timer = setInterval(() => s.write('X'), 200);
    s.on('close', () => clearInterval(timer));
  },
  '/half': (s) => s.end(`HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\nContent-Length: 1000\r\n\r\n{"half":`),
  '/half-chunk': (s) => s.end(`HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\n` +
    'Transfer-Encoding: chunked\r\n\r\n8\r\n{"half":\r\n'),
  '/half-headers': (s) => s.end('HTTP/1.1 200 OK\r\nContent-Le'),
  '/empty': (s) => s.end(),
  '/reset': (s) => s.resetAndDestroy(),
  '/garbage': (s) => s.end('SSH-2.0-OpenSSH_9.2\r\n'),
  '/redirect': (s) => answer(s, 302, '', [`Location: http://127.0.0.1:${ports.other}/stolen`]),
  '/redirect-307': (s) => answer(s, 307, '', [`Location: http://127.0.0.1:${ports.other}/stolen`]),
  '/huge': (s) => answer(s, 200, 'x'.repeat(300 * 1024)),
  '/large': (s) => answer(s, 200, JSON.stringify('x'.repeat(60 * 1024))),
  '/huge-headers': (s) => {
    s.write('HTTP/1.1 200 OK\r\n');
    for (let i = 0; i < 100; i++) s.write(`X-Pad-${i}: ${'x'.repeat(10000)}\r\n`);
  },
  '/chunked': (s) => s.write(`HTTP/1.1 200 OK\r\n${JSON_TYPE}\r\nTransfer-Encoding: chunked\r\n\r\n` +
    '3\r\n{"c\r\n5\r\n":1}\n\r\n0\r\n\r\n'),
  '/gzip': (s) => packed(s, zlib.gzipSync('{"zipped":true}')),
  '/gzip-bomb': (s) => packed(s, zlib.gzipSync(Buffer.alloc(16 * 1024 * 1024))),
  '/gzip-bad': (s) => packed(s, Buffer.from('{"not":"gzip"}')),
  '/continue': (s) => {
    s.write('HTTP/1.1 103 Early Hints\r\nRetry-After: 99\r\n\r\n');
    answer(s, 200, '{}');
  },
  // the connection dies under its second request, which did arrive
  '/die-on-reuse': (s, r) => (r.nth === 1 ? answer(s, 200, '{}') : s.resetAndDestroy()),
  '/end-on-reuse': (s, r) => (r.nth === 1 ? answer(s, 200, '{}') : s.end()),
  // the server closes the idle connection long before the next request
  '/close-after': (s) => { answer(s, 200, '{}'); setTimeout(() => s.end(), 20); },
  '/status': (s, r) => answer(s, Number(r.query.get('code')), '{"object":"error"}', [JSON_TYPE,
    ...(r.query.has('after') ? [`Retry-After: ${r.query.get('after')}`] : [])]),
  '/slow': (s, r) => setTimeout(() => answer(s, 200, '{}'), Number(r.query.get('ms'))),
  '/_counts': (s) => answer(s, 200, JSON.stringify({ counts, tokens, connections })),
};

// What is cut off before the request was read whole.
const early = {
  '/reset-early': (s) => s.resetAndDestroy(),
  '/refuse-body': (s) => {
    s.pause();
    answer(s, 413, '{"object":"error"}', [JSON_TYPE, 'Connection: close']);
    setTimeout(() => s.destroy(), 200);
  },
};

function serve(port) {
  return (socket) => {
    let data = Buffer.alloc(0);
    let nth = 0;
    connections[port]++;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      data = Buffer.concat([data, chunk]);
      for (;;) {
        const end = data.indexOf('\r\n\r\n');
        if (end < 0) return;
        const head = data.toString('latin1', 0, end);
        const [method, target] = head.split(' ', 2);
        const url = new URL(target, 'http://peer');
        if (early[url.pathname]) { early[url.pathname](socket); data = Buffer.alloc(0); return; }
        const length = Number((/^content-length: *(\d+)/mi.exec(head) || [0, 0])[1]);
        if (data.length < end + 4 + length) return;
        const body = data.toString('utf8', end + 4, end + 4 + length);
        data = data.subarray(end + 4 + length);
        nth++;
        count(method, url.pathname, head, port);
        const behave = plain[url.pathname];
        if (behave) behave(socket, { nth, body, head, query: url.searchParams });
        else answer(socket, 404, '{}');
        if (socket.destroyed) return;
      }
    });
  };
}

// HTTP/2 over TLS, HTTP/1.1 for those who cannot.
function serveTls(name) {
  const server = http2.createSecureServer({
    key: fs.readFileSync(path.join(certDir, `${name}.key`)),
    cert: fs.readFileSync(path.join(certDir, `${name}.crt`)),
    allowHTTP1: true,
  });
  const seen = {};
  let latest;
  server.on('secureConnection', (socket) => { connections.tls++; latest = socket; });
  server.on('session', (session) => { session.rawSocket = latest; });
  server.on('sessionError', () => {});
  server.on('request', (req, res) => {
    const chunks = [];
    req.on('error', () => {});
    req.on('data', (c) => chunks.push(c));
    req.on('end', () => {
      const where = new URL(req.url, 'https://peer').pathname;
      const auth = req.headers.authorization ? `authorization: ${req.headers.authorization}` : '';
      count(req.method, where, auth, name);
      seen[where] = (seen[where] || 0) + 1;
      if (where === '/refuse-stream' && seen[where] % 2 === 0) {
        req.stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
      } else if (where === '/break-stream') {
        req.stream.close(http2.constants.NGHTTP2_INTERNAL_ERROR);
      } else if (where === '/http11') {
        req.stream.close(http2.constants.NGHTTP2_HTTP_1_1_REQUIRED);
      } else if (where === '/goaway') {
        res.writeHead(200, { 'content-type': 'application/json' });
        res.end('{}');
        req.stream.session.goaway(0);
      } else if (where === '/die-on-reuse' && seen[where] > 1) {
        req.stream.session.rawSocket.destroy();
      } else if (where !== '/blackhole') {
        res.writeHead(200, { 'content-type': 'application/json' });
        res.end(JSON.stringify({ version: req.httpVersion, length: Buffer.concat(chunks).length }));
      }
    });
  });
  return server;
}

// HTTP/1.1 over TLS, with and without a word about it in the handshake.
function serveTls11(name, protocols) {
  const server = https.createServer({
    key: fs.readFileSync(path.join(certDir, 'good.key')),
    cert: fs.readFileSync(path.join(certDir, 'good.crt')),
    ALPNProtocols: protocols,
  });
  server.on('request', (req, res) => {
    count(req.method, req.url, '', name);
    if (req.url !== '/blackhole') res.end('{}');
  });
  return server;
}

// A CONNECT proxy. "never" as the host's name is refused with 407, "bad" with 502.
function serveProxy(socket) {
  connections.proxy++;
  socket.on('error', () => {});
  socket.once('data', (chunk) => {
    const head = chunk.toString('latin1');
    const target = /^CONNECT ([^: ]+):(\d+) /.exec(head);
    if (/^authorization:/mi.test(head)) tokens.proxy = (tokens.proxy || 0) + 1;
    if (!target) return socket.end('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n');
    if (target[1] === 'never.test') {
      return socket.end('HTTP/1.1 407 Login\r\nContent-Length: 0\r\nProxy-Authenticate: Basic\r\n\r\n');
    }
    if (target[1] === 'bad.test') return socket.end('HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n');
    const up = net.connect(Number(target[2]), '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connected\r\nRetry-After: 55\r\n\r\n');
      socket.pipe(up);
      up.pipe(socket);
    });
    up.on('error', () => socket.destroy());
    return undefined;
  });
}

const servers = {
  plain: net.createServer(serve('plain')),
  other: net.createServer(serve('other')),
  reset: net.createServer((s) => { connections.reset++; s.resetAndDestroy(); }),
  proxy: net.createServer(serveProxy),
};
for (const name of ['good', 'expired', 'wronghost', 'selfsigned']) servers[name] = serveTls(name);

servers.tls11 = serveTls11('tls11', ['http/1.1']);
servers.noalpn = serveTls11('noalpn', []);

const ports = {};
const closed = net.createServer();
let open = Object.keys(servers).length + 1;
function listening(name, server) {
  ports[name] = server.address().port;
  if (--open === 0) {
    // a port on which nobody listens
    closed.close(() => process.stdout.write(`${JSON.stringify(ports)}\n`));
  }
}
closed.listen(0, '127.0.0.1', () => listening('closed', closed));
for (const [name, server] of Object.entries(servers)) {
  server.listen(0, '127.0.0.1', () => listening(name, server));
}
