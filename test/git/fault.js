// A TCP proxy that spoils one connection: node fault.js PORT MODE AFTER [COMMAND...]. Prints its port,
// and "sent N" with the client's bytes at the end of each connection. The fault comes when a client
// has sent AFTER bytes in one connection, once; all other connections pass.
//
//	pass      no fault
//	cut       both ends are closed in order; the bytes up to AFTER were handed on
//	reset     both ends are reset
//	stall     nothing is handed on any more, nothing is closed
//	lose      what the server answers from then on is lost; then the client is reset
//	slow      from then on 64 kB in a second, towards the server
//	run       COMMAND is run, then it goes on
'use strict';

const { execFileSync } = require('child_process');
const net = require('net');

const [port, mode, after, ...command] = process.argv.slice(2);
let armed = mode !== 'pass';

function spoil(client, server, state) {
  armed = false;
  switch (mode) {
    case 'cut': client.end(); server.end(); break;
    case 'reset': client.resetAndDestroy(); server.resetAndDestroy(); break;
    case 'stall': state.stalled = true; break;
    case 'lose': state.lose = true; break;
    case 'slow': state.slow = true; break;
    case 'run': execFileSync(command[0], command.slice(1)); break;
    default: throw new Error(mode);
  }
}

const listener = net.createServer({ allowHalfOpen: true }, (client) => {
  const server = net.connect({ port: Number(port), host: '127.0.0.1', allowHalfOpen: true });
  const state = { sent: 0 };
  let timer;

  for (const end of [client, server]) end.on('error', () => {});
  client.on('data', (chunk) => {
    let rest = chunk;
    if (armed && state.sent + chunk.length >= Number(after)) {
      const n = Number(after) - state.sent;
      if (mode !== 'run') server.write(rest.subarray(0, n));
      rest = mode === 'run' ? rest : rest.subarray(n);
      spoil(client, server, state);
      if (mode === 'cut' || mode === 'reset') return;
    }
    state.sent += chunk.length;
    if (state.stalled) return;
    server.write(rest);
    if (state.slow) {
      client.pause();
      setTimeout(() => client.resume(), rest.length / 64);
    }
  });
  server.on('data', (chunk) => {
    if (state.stalled) return;
    if (!state.lose) { client.write(chunk); return; }
    // the server may have more to say: when it is silent it has done what it was asked for
    clearTimeout(timer);
    timer = setTimeout(() => { client.resetAndDestroy(); server.destroy(); }, 400);
  });
  client.on('end', () => server.end());
  server.on('end', () => { if (!state.lose && !state.stalled) client.end(); });
  client.on('close', () => { process.stdout.write(`sent ${state.sent}\n`); server.destroy(); });
  server.on('close', () => { if (!state.lose && !state.stalled) client.destroy(); });
});
listener.listen(0, '127.0.0.1', () => process.stdout.write(`port ${listener.address().port}\n`));
