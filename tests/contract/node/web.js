// A web server written with hyco-https: it is asked through the relay.
//
// Environment: URI, RULE, KEY. One JSON object a line tells what happens.
'use strict';

const https = require('hyco-https');

const { URI, RULE, KEY } = process.env;
const say = (event) => console.log(JSON.stringify(event));

const server = https.createRelayedServer(
  {
    server: `${URI}?sb-hc-action=listen`,
    token: () => https.createRelayToken(URI, RULE, KEY),
  },
  (request, response) => {
    const chunks = [];
    request.on('data', (data) => chunks.push(Buffer.from(data)));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      say({ event: 'request', method: request.method, url: request.url, size: body.length });
      response.setHeader('Content-Type', 'text/plain');
      response.setHeader('X-Seen', String(request.headers['x-mine'] || request.headers['X-Mine']));
      response.statusCode = request.method === 'POST' ? 201 : 200;
      response.end(request.method === 'POST' ? body.toString() : `you asked for ${request.url}`);
    });
  },
);
server.on('listening', () => say({ event: 'listening' }));
server.on('error', (error) => {
  say({ event: 'error', message: String(error.message || error) });
  process.exit(1);
});
server.listen();
