// Loaded before each of our programs in a container (by lib/start): gives the process its name and saves compiled code soon,
// because servers are stopped by signals and would never write Node's compile cache.
const fs = require('node:fs');
const http = require('node:http');
const { flushCompileCache } = require('node:module');

const FLUSH_AFTER_MS = 3000;
const name = process.env.MELTEMI_PROGRAM;
delete process.env.MELTEMI_PROGRAM;
if (name) {
  try {
    fs.writeFileSync('/proc/self/comm', name);
  } catch {
    // Only the name that ps shows.
  }
}
if (process.env.NODE_COMPILE_CACHE) setTimeout(flushCompileCache, FLUSH_AFTER_MS).unref();

// As process 1 of a container a signal without a handler is ignored by the kernel: until the program has its own handler,
// SIGTERM ends it. Without this a pod deleted while Node boots would wait its whole grace period.
const endEarly = () => {
  if (process.listenerCount('SIGTERM') === 1) process.exit(143);
};
process.on('SIGTERM', endEarly);

// An import of node:http as an ES module reads all its properties, and these three load the whole of undici: 30 ms and 4 MB.
for (const name of ['WebSocket', 'CloseEvent', 'MessageEvent']) delete http[name];
