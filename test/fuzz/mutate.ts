// Seeded mutation of byte strings for the fuzz tests of this folder, and the loop that runs them. A failure names the seed and
// the iteration, so it can be run again: MELTEMI_FUZZ_SEED, MELTEMI_FUZZ_ITERATIONS.
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Numbers in [0, 1) that a seed decides (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

const INTERESTING = [0, 1, 9, 10, 13, 32, 34, 44, 58, 127, 128, 255] as const;
const MAX_BYTES = 256 * 1024;

/** One to eight changes to `input`, parts of `other` among them. */
export function mutate(input: Buffer, other: Buffer, random: () => number): Buffer {
  let out = Buffer.from(input);
  const below = (n: number): number => Math.floor(random() * n);
  for (let i = 1 + below(8); i > 0; i--) {
    const at = below(out.length + 1);
    const size = 1 + below(Math.min(64, out.length || 1));
    switch (below(7)) {
      case 0:
        if (out.length > 0) out[below(out.length)]! ^= 1 << below(8);
        break;
      case 1:
        if (out.length > 0) out[below(out.length)] = INTERESTING[below(INTERESTING.length)]!;
        break;
      case 2:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + size)]);
        break;
      case 3:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at, at + size), out.subarray(at)]);
        break;
      case 4:
        out = out.subarray(0, at);
        break;
      case 5: {
        const from = below(other.length + 1);
        out = Buffer.concat([out.subarray(0, at), other.subarray(from, from + size), out.subarray(at)]);
        break;
      }
      default: {
        const noise = Buffer.from(Array.from({ length: Math.min(size, 8) }, () => below(256)));
        out = Buffer.concat([out.subarray(0, at), noise, out.subarray(at)]);
      }
    }
    if (out.length > MAX_BYTES) out = out.subarray(0, MAX_BYTES);
  }
  return out;
}

/** Files of test/fuzz/corpus/NAME: inputs that once found something, or that reach far. */
export function corpus(name: string): Buffer[] {
  const folder = path.join(import.meta.dirname, 'corpus', name);
  return readdirSync(folder)
    .sort()
    .map((file) => readFileSync(path.join(folder, file)));
}

/** Gives every seed input and then mutants of them to `run`, which throws when something is wrong. */
export async function fuzz(
  seeds: readonly Buffer[],
  iterations: number,
  run: (input: Buffer) => void | Promise<void>,
): Promise<void> {
  const seed = Number(process.env.MELTEMI_FUZZ_SEED ?? 1);
  const count = Number(process.env.MELTEMI_FUZZ_ITERATIONS ?? iterations);
  const random = seededRandom(seed);
  const pick = (): Buffer => seeds[Math.floor(random() * seeds.length)]!;
  for (let i = 0; i < seeds.length + count; i++) {
    const input = i < seeds.length ? seeds[i]! : mutate(pick(), pick(), random);
    try {
      await run(input);
    } catch (error) {
      throw new Error(`seed ${seed}, iteration ${i}, input (hex) ${input.toString('hex').slice(0, 4_000)}`, {
        cause: error,
      });
    }
  }
}
