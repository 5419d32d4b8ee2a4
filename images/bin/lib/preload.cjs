// Loaded before each of our programs in a container (by lib/start): gives the process its name and saves compiled code soon,
// because servers are stopped by signals and would never write Node's compile cache.
const fs = require('node:fs');
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
