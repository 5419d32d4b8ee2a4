// x-request-id: a version 4 UUID. Not a secret, so the injected generator is enough; made from four numbers, not 16 bytes, and
// written into one buffer: joining sixteen short strings for each request took a sixth of all its memory.

const HEX = Buffer.from('0123456789abcdef');
const text = Buffer.alloc(36, '-');
/** Where the 16 pairs of digits stand between the dashes. */
const PAIRS = Uint8Array.from([0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34]);
const VERSION_PLACE = 14;
const VARIANT_PLACE = 19;

export function newRequestId(random: () => number): string {
  for (let pair = 0; pair < PAIRS.length; pair += 4) {
    const bits = (random() * 0x1_0000_0000) >>> 0;
    for (let i = 0; i < 4; i++) {
      const byte = (bits >>> (24 - 8 * i)) & 255;
      const place = PAIRS[pair + i]!;
      text[place] = HEX[byte >>> 4]!;
      text[place + 1] = HEX[byte & 15]!;
    }
  }
  text[VERSION_PLACE] = 52;
  const variant = text[VARIANT_PLACE]!;
  // One of 8, 9, a, b.
  text[VARIANT_PLACE] = HEX[8 | ((variant > 57 ? variant - 87 : variant - 48) & 3)]!;
  return text.toString('latin1');
}
