// Limits of a mesh test: what a file may ask for, so that a slip of the finger does not start ten thousand proxies.

export const MAX_FILE_BYTES = 4 * 1024 * 1024;
export const MAX_TESTS_PER_FILE = 100;
export const MAX_WORKLOADS = 50;
export const MAX_REPLICAS = 20;
export const MAX_REQUESTS = 1000;
export const MAX_TIMES = 10_000;
export const MAX_CONCURRENCY = 256;
export const MAX_RESOURCES = 1000;
export const DEFAULT_TIMEOUT_MS = 15_000;
export const MAX_TIMEOUT_MS = 120_000;
/** Of an answer, as kept for comparison. */
export const MAX_RESPONSE_BYTES = 16 * 1024 * 1024;
export const MAX_REDIRECTS = 10;
/** Requests an application remembers. */
export const MAX_REMEMBERED = 20_000;
/** Lines of access log kept for one mesh. */
export const MAX_LOG_LINES = 50_000;
