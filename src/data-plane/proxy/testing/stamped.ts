// Byte streams that say of each byte whose it is: connection, direction and place are in every 16 bytes, so that what is lost,
// repeated, swapped or another connection's is named exactly. Used by stress tests of the byte path.
const CELL = 16;
const MAGIC = 0x5a17;

export type Direction = 'up' | 'down';

/** Bytes `[start, start + length)` of a stream. */
export function stamped(connection: number, direction: Direction, start: number, length: number): Buffer {
  const first = Math.floor(start / CELL);
  const cells = Math.ceil((start + length) / CELL) - first;
  const out = Buffer.allocUnsafe(cells * CELL);
  for (let i = 0; i < cells; i++) writeCell(out, i * CELL, connection, direction, (first + i) * CELL);
  return out.subarray(start - first * CELL, start - first * CELL + length);
}

function writeCell(out: Buffer, at: number, connection: number, direction: Direction, place: number): void {
  out.writeUInt16BE(MAGIC, at);
  out.writeUInt16BE(direction === 'up' ? 1 : 2, at + 2);
  out.writeUInt32BE(connection, at + 4);
  out.writeUInt32BE(Math.floor(place / 2 ** 32), at + 8);
  out.writeUInt32BE(place % 2 ** 32, at + 12);
}

/** Which connection speaks: known from its first cell. */
export function connectionOf(first: Buffer): number {
  return first.readUInt32BE(4);
}

export const STAMP_BYTES = CELL;

/** Reads one stream. */
export class StampReader {
  received = 0;
  /** What was wrong first. */
  fault: string | undefined;
  readonly #connection: number;
  readonly #direction: Direction;

  constructor(connection: number, direction: Direction) {
    this.#connection = connection;
    this.#direction = direction;
  }

  read(bytes: Buffer): void {
    if (!this.fault) {
      const wanted = stamped(this.#connection, this.#direction, this.received, bytes.length);
      if (!wanted.equals(bytes)) this.fault = this.#describe(bytes, wanted);
    }
    this.received += bytes.length;
  }

  #describe(bytes: Buffer, wanted: Buffer): string {
    let at = 0;
    while (bytes[at] === wanted[at]) at += 1;
    const where = `connection ${this.#connection} ${this.#direction}: byte ${this.received + at}`;
    for (let from = at; from + CELL <= bytes.length; from++) {
      if (bytes.readUInt16BE(from) !== MAGIC) continue;
      const direction = bytes.readUInt16BE(from + 2) === 1 ? 'up' : 'down';
      const connection = bytes.readUInt32BE(from + 4);
      const place = bytes.readUInt32BE(from + 8) * 2 ** 32 + bytes.readUInt32BE(from + 12) - (from - at);
      const own = connection === this.#connection && direction === this.#direction;
      if (!own) return `${where} is byte ${place} of connection ${connection} ${direction}`;
      const gap = place - (this.received + at);
      return gap > 0 ? `${where}: ${gap} bytes are lost` : `${where}: ${-gap} bytes come again`;
    }
    return `${where} is of no stream: ${bytes.subarray(at, at + 24).toString('hex')}`;
  }
}
