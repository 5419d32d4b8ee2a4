// The identity of a configuration, for clusters, listeners, chains and route tables.
import { createHash } from 'node:crypto';

/** Equal messages need no update. */
export function fingerprint(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('base64');
}
