// A listener written with hyco-ws: it speaks azbridge's preamble and sends everything back.
//
// Environment: URI (wss://host:port/$hc/path), RULE, KEY. One JSON object a line tells what happens.
'use strict';

const WebSocket = require('hyco-ws');

const { URI, RULE, KEY } = process.env;
const say = (event) => console.log(JSON.stringify(event));

const server = WebSocket.createRelayedServer(
  {
    server: `${URI}?sb-hc-action=listen`,
    token: () => WebSocket.createRelayToken(URI, RULE, KEY),
    perMessageDeflate: false,
  },
  (socket) => {
    let head = Buffer.alloc(0);
    let accepted = false;
    socket.on('message', (data) => {
      if (accepted) {
        socket.send(data, { binary: true });
        return;
      }
      // 01 00 MM LL, then LL bytes of the port's name; the answer is 01 00 MM.
      head = Buffer.concat([head, data]);
      if (head.length < 4 || head.length < 4 + head[3]) {
        return;
      }
      accepted = true;
      say({ event: 'connected', port: head.slice(4, 4 + head[3]).toString() });
      socket.send(Buffer.from([1, 0, head[2]]), { binary: true });
      const rest = head.slice(4 + head[3]);
      if (rest.length > 0) {
        socket.send(rest, { binary: true });
      }
    });
    socket.on('close', (code) => say({ event: 'closed', code }));
  },
);
server.on('listening', () => say({ event: 'listening' }));
server.on('error', (error) => {
  // It would dial again at once, and for ever.
  say({ event: 'error', message: String(error.message || error) });
  process.exit(1);
});
