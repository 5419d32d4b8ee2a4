// Writes the files of a ConfigMap, Secret, downward API or projected volume so that readers see all of the old or all of the new:
// `name -> ..data/name`, `..data -> ..<timestamp>`, and one rename swaps `..data`. Called by volumes.ts.
import {
  chmodSync,
  chownSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { isMissing } from './run.ts';

export interface PayloadFile {
  readonly data: Buffer;
  readonly mode: number;
}
/** Relative path → file. */
export type Payload = ReadonlyMap<string, PayloadFile>;

const DATA = '..data';

/** Returns true when something changed. Throws on paths that leave the volume. `gid`: fsGroup. */
export function writePayload(dir: string, payload: Payload, gid: number | undefined): boolean {
  for (const name of payload.keys()) checkPath(name);
  const current = readLink(path.join(dir, DATA));
  if (current !== undefined && isSame(path.join(dir, current), payload, gid)) {
    // A crash may have come between the swap and the links.
    linkTopLevel(dir, payload);
    return false;
  }
  const stamp = new Date().toISOString().replace(/[-:]/g, '_').replace(/\..*/, '.');
  const fresh = mkdtempSync(path.join(dir, `..${stamp}`));
  chmodSync(fresh, 0o755);
  if (gid !== undefined) chownSync(fresh, 0, gid);
  for (const [name, file] of payload) {
    const full = path.join(fresh, name);
    mkdirSync(path.dirname(full), { recursive: true, mode: 0o755 });
    writeFileSync(full, file.data);
    chmodSync(full, fileMode(file, gid));
    if (gid !== undefined) chownSync(full, 0, gid);
  }
  const swap = path.join(dir, '..data_tmp');
  rmSync(swap, { force: true });
  symlinkSync(path.basename(fresh), swap);
  renameSync(swap, path.join(dir, DATA));
  linkTopLevel(dir, payload);
  if (current !== undefined) rmSync(path.join(dir, current), { recursive: true, force: true });
  return true;
}

/** Members of fsGroup may always read. */
function fileMode(file: PayloadFile, gid: number | undefined): number {
  return (gid === undefined ? file.mode : file.mode | 0o440) & 0o777;
}

function linkTopLevel(dir: string, payload: Payload): void {
  const wanted = new Set([...payload.keys()].map((name) => name.split('/')[0]!));
  for (const entry of readdirSync(dir)) {
    if (!entry.startsWith('..') && !wanted.has(entry)) rmSync(path.join(dir, entry), { force: true });
  }
  for (const name of wanted) {
    const link = path.join(dir, name);
    if (readLink(link) === undefined) symlinkSync(path.join(DATA, name), link);
  }
}

function checkPath(name: string): void {
  const parts = name.split('/');
  if (name === '' || name.startsWith('/') || parts.includes('..') || parts[0]!.startsWith('..'))
    throw new Error(`invalid path: ${JSON.stringify(name)} must be relative and not contain or start with ".."`);
}

function readLink(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch (error) {
    if (isMissing(error)) return undefined;
    throw error;
  }
}

function isSame(dir: string, payload: Payload, gid: number | undefined): boolean {
  let files = 0;
  const walk = (at: string): void => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (entry.isDirectory()) walk(path.join(at, entry.name));
      else files += 1;
    }
  };
  try {
    walk(dir);
    if (files !== payload.size) return false;
    for (const [name, file] of payload) {
      const full = path.join(dir, name);
      if ((lstatSync(full).mode & 0o777) !== fileMode(file, gid)) return false;
      if (!readFileSync(full).equals(file.data)) return false;
    }
    return true;
  } catch (error) {
    if (isMissing(error)) return false;
    throw error;
  }
}
