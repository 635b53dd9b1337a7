// An echo server for Node.js, run by bench/sweeps/foreign.toml: node echo.js PORT, or PATH for a UNIX socket.
// It does what servers/contract.py asks of ours: the backlog, no delay of small segments, half-close, backpressure.
"use strict";

const net = require("node:net");

const where = process.argv[2];
const place = /^\d+$/.test(where) ? { port: Number(where), host: "127.0.0.1" } : { path: where };

net
  .createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    socket.on("error", () => socket.destroy()); // a reset ends one connection, not the server
    socket.pipe(socket); // pauses reading while the peer does not read, and ends when the peer has ended
  })
  .listen({ ...place, backlog: 4096 });
