// Counts gRPC messages in a body as it passes: five bytes of prefix, then so many bytes of message. Used by grpc_stats.

export class GrpcFrameCounter {
  messages = 0;
  #prefix = 0;
  #length = 0;
  #left = 0;

  add(bytes: Buffer, start: number, end: number): void {
    let at = start;
    while (at < end) {
      if (this.#left > 0) {
        const size = Math.min(this.#left, end - at);
        this.#left -= size;
        at += size;
        continue;
      }
      // Byte 0 of the prefix is the compression flag; the other four are the length.
      // A message counts from its first byte on, as in Envoy.
      if (this.#prefix === 0) this.messages += 1;
      else this.#length = (this.#length * 256 + bytes[at]!) >>> 0;
      this.#prefix += 1;
      at += 1;
      if (this.#prefix < 5) continue;
      this.#left = this.#length;
      this.#prefix = 0;
      this.#length = 0;
    }
  }
}
