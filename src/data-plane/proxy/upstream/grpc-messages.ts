// Length-prefixed gRPC messages on a stream of bytes. Used by grpc-client.ts.

/** Flag and length before each message. */
export const GRPC_PREFIX_BYTES = 5;
const COMPRESSED = 1;

/** `message` with its prefix. */
export function frameMessage(message: Uint8Array): Buffer {
  const frame = Buffer.allocUnsafe(GRPC_PREFIX_BYTES + message.length);
  frame[0] = 0;
  frame.writeUInt32BE(message.length, 1);
  frame.set(message, GRPC_PREFIX_BYTES);
  return frame;
}

/** Puts messages together; answers with a reason when the peer breaks the rules. */
export function messageReader(
  maxBytes: number,
  onMessage: (bytes: Buffer) => void,
): (chunk: Buffer) => string | undefined {
  let parts: Buffer[] = [];
  let have = 0;
  let want = GRPC_PREFIX_BYTES;
  let length = -1;
  return (chunk) => {
    parts.push(chunk);
    have += chunk.length;
    while (have >= want) {
      const all = parts.length === 1 ? parts[0]! : Buffer.concat(parts, have);
      if (length < 0) {
        if (all[0] === COMPRESSED) return 'compressed gRPC message, which was not offered';
        length = all.readUInt32BE(1);
        if (length > maxBytes) return `gRPC message of ${length} bytes is larger than ${maxBytes}`;
        want = GRPC_PREFIX_BYTES + length;
        parts = [all];
        continue;
      }
      const message = all.subarray(GRPC_PREFIX_BYTES, want);
      const rest = all.subarray(want);
      parts = rest.length > 0 ? [rest] : [];
      have = rest.length;
      want = GRPC_PREFIX_BYTES;
      length = -1;
      onMessage(message);
    }
    return undefined;
  };
}
