// The operator's own CA: files of the Secret `cacerts` mounted as a directory, in either of two layouts (identity.md §9.1).
// Called by load.ts.
import { watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { Clock } from '../../base/runtime/clock.ts';
import { MAX_PEM_BYTES } from '../../base/x509/pem.ts';
import { readSigningMaterial, type SigningMaterial } from './signing-material.ts';

/** Tells changes and gives the files that are there by name. */
export interface CacertsDirectory {
  read(): Promise<ReadonlyMap<string, string>>;
  watch(onChange: () => void): () => void;
}

const OPAQUE = ['ca-cert.pem', 'ca-key.pem', 'root-cert.pem', 'cert-chain.pem'] as const;
const TLS = ['tls.crt', 'tls.key', 'ca.crt'] as const;
const CRL = 'ca-crl.pem';
/** A Secret volume is swapped by several renames: wait until it is quiet. */
const DEBOUNCE_MS = 100;

export type Cacerts =
  | { readonly kind: 'plugged-in'; readonly material: SigningMaterial; readonly text: string }
  | { readonly kind: 'none'; readonly extraRootsPem: string };

/** Throws when some but not all files are there, or when they do not belong together. */
export async function readCacerts(directory: CacertsDirectory): Promise<Cacerts> {
  const files = await directory.read();
  const get = (name: string): string => files.get(name) ?? '';
  if (files.has(CRL)) throw new Error(`${CRL} is not supported: Meltemi distributes no revocation lists; remove it`);
  const opaque = OPAQUE.filter((name) => files.has(name));
  const tls = TLS.filter((name) => files.has(name));
  if (opaque.length === OPAQUE.length)
    return pluggedIn({
      certificate: get('ca-cert.pem'),
      key: get('ca-key.pem'),
      chain: get('cert-chain.pem'),
      roots: get('root-cert.pem'),
    });
  if (tls.length === TLS.length)
    return pluggedIn({
      certificate: get('tls.crt'),
      key: get('tls.key'),
      chain: `${get('tls.crt')}\n${get('ca.crt')}`,
      roots: get('ca.crt'),
    });
  // root-cert.pem alone is no CA: its roots are trusted beside the self-signed one.
  if (tls.length === 0 && opaque.every((name) => name === 'root-cert.pem'))
    return { kind: 'none', extraRootsPem: get('root-cert.pem') };
  const wanted: readonly string[] = tls.length > opaque.length ? TLS : OPAQUE;
  const missing = wanted.filter((name) => !files.has(name));
  throw new Error(`incomplete signing CA bundle detected: ${missing.join(', ')} missing; add it or remove the others`);
}

function pluggedIn(text: Parameters<typeof readSigningMaterial>[0]): Cacerts {
  return { kind: 'plugged-in', material: readSigningMaterial(text), text: JSON.stringify(text) };
}

/** Files under `dir`; a directory that does not exist is an empty one. */
export function openCacerts(dir: string, clock: Clock): CacertsDirectory {
  return {
    async read() {
      const files = new Map<string, string>();
      for (const name of [...OPAQUE, ...TLS, CRL]) {
        const text = await readFile(path.join(dir, name), 'utf8').catch((error: NodeJS.ErrnoException) => {
          if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
          throw new Error(`cannot read ${name} of the CA directory ${dir}: ${error.message}`);
        });
        if (text === undefined) continue;
        if (text.length > MAX_PEM_BYTES) throw new Error(`${name} of ${dir} is larger than ${MAX_PEM_BYTES} bytes`);
        files.set(name, text);
      }
      return files;
    },
    watch(onChange) {
      let cancel = (): void => {};
      try {
        const watcher = watch(dir, { persistent: false }, () => {
          cancel();
          cancel = clock.after(DEBOUNCE_MS, onChange);
        });
        watcher.on('error', () => watcher.close());
        return () => {
          cancel();
          watcher.close();
        };
      } catch {
        // No directory, nothing to watch: the CA is self-signed.
        return () => {};
      }
    },
  };
}
