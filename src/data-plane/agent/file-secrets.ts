// Secrets that are files: `file-cert:<cert>~<key>`, `file-root:<ca>`, `file-root:system`; read on demand, watched for swaps.
// Called by the SDS server. Nothing is cached: what the file says now is what is served.
import { type FSWatcher, watch } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { rootCertificates } from 'node:tls';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { SecretContent } from './wire.ts';

/** Different file resources one proxy may ask for. */
export const MAX_FILE_RESOURCES = 256;
const MAX_FILE_BYTES = 1 << 20;
const SYSTEM_BUNDLES = ['/etc/ssl/certs/ca-certificates.crt', '/etc/pki/tls/certs/ca-bundle.crt'];

export interface FileSecretsOptions {
  /** Paths in resource names are taken from here: `/` in a container. */
  readonly root: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** FILE_DEBOUNCE_DURATION: a volume swap is several events. */
  readonly debounceMs: number;
  readonly onReadFailure?: () => void;
  readonly onWatchFailure?: () => void;
}

export interface FileSecrets {
  /** Rejects when a file cannot be read. */
  read(resource: string): Promise<SecretContent>;
  onChange(handler: (resource: string) => void): () => void;
  close(): void;
}

export type FileResource =
  | { readonly kind: 'key-pair'; readonly certificate: string; readonly key: string }
  | { readonly kind: 'roots'; readonly file: string }
  | { readonly kind: 'system' };

/** Undefined: not a file resource, or not a well-formed one. */
export function parseFileResource(name: string): FileResource | undefined {
  if (name === 'file-root:system') return { kind: 'system' };
  if (name.startsWith('file-root:') && name.length > 10) return { kind: 'roots', file: name.slice(10) };
  const match = /^file-cert:([^~]+)~([^~]+)$/.exec(name);
  return match ? { kind: 'key-pair', certificate: match[1] ?? '', key: match[2] ?? '' } : undefined;
}

export function createFileSecrets(options: FileSecretsOptions): FileSecrets {
  const handlers = new Set<(resource: string) => void>();
  const watched = new Map<string, readonly FSWatcher[]>();
  const timers = new Map<string, () => void>();
  const at = (file: string): string => path.resolve(options.root, file);
  const load = async (file: string): Promise<string> => {
    const text = await readFile(at(file), 'utf8');
    if (text.length > MAX_FILE_BYTES) throw new Error(`${file} is larger than ${MAX_FILE_BYTES} bytes`);
    return text;
  };
  const follow = (resource: string, files: readonly string[]): void => {
    if (watched.has(resource)) return;
    if (watched.size >= MAX_FILE_RESOURCES)
      throw new Error(`more than ${MAX_FILE_RESOURCES} file resources are asked for`);
    const changed = (): void => {
      timers.get(resource)?.();
      timers.set(
        resource,
        options.clock.after(options.debounceMs, () => {
          for (const handler of [...handlers]) handler(resource);
        }),
      );
    };
    // The directory, not the file: Kubernetes swaps a symlink beside it.
    const directories = new Set(files.map((file) => path.dirname(at(file))));
    const watchers: FSWatcher[] = [];
    for (const directory of directories) {
      try {
        const watcher = watch(directory, { persistent: false }, changed);
        watcher.on('error', () => options.onWatchFailure?.());
        watchers.push(watcher);
      } catch (error) {
        options.onWatchFailure?.();
        options.log.warn('cannot watch a certificate directory', { directory, error: errorText(error) });
      }
    }
    watched.set(resource, watchers);
  };
  const content = async (resource: string): Promise<SecretContent> => {
    const parsed = parseFileResource(resource);
    if (!parsed) throw new Error(`${JSON.stringify(resource)} names no file secret`);
    if (parsed.kind === 'system') return { kind: 'roots', rootsPem: await systemRoots() };
    if (parsed.kind === 'roots') {
      follow(resource, [parsed.file]);
      return { kind: 'roots', rootsPem: await load(parsed.file) };
    }
    follow(resource, [parsed.certificate, parsed.key]);
    const [chainPem, keyPem] = await Promise.all([load(parsed.certificate), load(parsed.key)]);
    return { kind: 'key-pair', chainPem, keyPem };
  };
  return {
    async read(resource) {
      try {
        return await content(resource);
      } catch (error) {
        options.onReadFailure?.();
        throw error;
      }
    },
    onChange(handler) {
      handlers.add(handler);
      return () => handlers.delete(handler);
    },
    close() {
      for (const cancel of timers.values()) cancel();
      for (const watchers of watched.values()) for (const watcher of watchers) watcher.close();
      handlers.clear();
    },
  };
}

async function systemRoots(): Promise<string> {
  for (const file of SYSTEM_BUNDLES) {
    const text = await readFile(file, 'utf8').catch(() => undefined);
    if (text !== undefined) return text;
  }
  return rootCertificates.join('\n');
}
