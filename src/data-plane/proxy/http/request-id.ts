// x-request-id: a version 4 UUID. Not a secret, so the injected generator is enough; made from four numbers, not 16 bytes.
const HEX = Array.from({ length: 256 }, (_, i) => (i + 256).toString(16).slice(1));

export function newRequestId(random: () => number): string {
  const a = (random() * 0x1_0000_0000) >>> 0;
  const b = (random() * 0x1_0000_0000) >>> 0;
  const c = (random() * 0x1_0000_0000) >>> 0;
  const d = (random() * 0x1_0000_0000) >>> 0;
  const hex = (value: number, shift: number) => HEX[(value >>> shift) & 255]!;
  return (
    `${hex(a, 24)}${hex(a, 16)}${hex(a, 8)}${hex(a, 0)}-${hex(b, 24)}${hex(b, 16)}-` +
    `${HEX[0x40 | ((b >>> 8) & 15)]}${hex(b, 0)}-${HEX[0x80 | ((c >>> 24) & 63)]}${hex(c, 16)}-` +
    `${hex(c, 8)}${hex(c, 0)}${hex(d, 24)}${hex(d, 16)}${hex(d, 8)}${hex(d, 0)}`
  );
}
