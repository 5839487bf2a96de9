// A sender written with hyco-ws: it asks for a port by azbridge's preamble, sends, and expects all of it back.
//
// Environment: URI, RULE, KEY, PORT_NAME, SIZE (bytes). One JSON object a line tells what happens.
'use strict';

const crypto = require('crypto');
const WebSocket = require('hyco-ws');

const { URI, RULE, KEY, PORT_NAME, SIZE } = process.env;
const say = (event) => console.log(JSON.stringify(event));
const digest = (data) => crypto.createHash('sha256').update(data).digest('hex');

const payload = crypto.randomBytes(Number(SIZE));
const chunks = [];
let received = 0;

const socket = WebSocket.relayedConnect(
  `${URI}?sb-hc-action=connect`,
  KEY ? WebSocket.createRelayToken(URI, RULE, KEY) : null,
  () => {
    const name = Buffer.from(PORT_NAME);
    socket.send(Buffer.from([1, 0, 0, name.length]), { binary: true });
    socket.send(name, { binary: true });
  },
);
socket.on('message', (data) => {
  if (received === 0) {
    say({ event: 'accepted', reply: data.slice(0, 3).toString('hex') });
    for (let at = 0; at < payload.length; at += 65536) {
      socket.send(payload.slice(at, at + 65536), { binary: true });
    }
  }
  received += data.length;
  chunks.push(data);
  if (received === payload.length + 3) {
    const echoed = Buffer.concat(chunks).slice(3);
    say({ event: 'echoed', same: digest(echoed) === digest(payload) });
    socket.close(1000);
  }
});
socket.on('close', (code) => {
  say({ event: 'closed', code });
  process.exit(0);
});
socket.on('error', (error) => {
  say({ event: 'error', message: String(error.message || error) });
  process.exit(1);
});
