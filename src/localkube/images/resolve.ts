// From an image reference to a row of the catalog. Called by the kubelet when it starts a container, and by `status`.
import { createHash } from 'node:crypto';
import { CATALOG, type ImageEntry } from './catalog.ts';

export interface ImageReference {
  /** Absent: Docker's default registry. */
  readonly registry?: string;
  readonly repository: string;
  readonly tag: string;
  readonly digest?: string;
}

export type ResolvedImage =
  | { readonly kind: 'found'; readonly entry: ImageEntry; readonly reference: ImageReference; readonly imageId: string }
  | { readonly kind: 'invalid'; readonly message: string }
  | { readonly kind: 'unknown'; readonly message: string };

/** Longest image reference accepted, as in the OCI distribution rules. */
const MAX_REFERENCE = 512;
const REPOSITORY = /^[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
/** Prefixes that name the same thing as none. */
const LIBRARY = /^library\//;

/** Undefined when `text` is not an image reference. */
export function parseImageReference(text: string): ImageReference | undefined {
  if (text.length === 0 || text.length > MAX_REFERENCE) return undefined;
  const [beforeDigest = '', digest, ...more] = text.split('@');
  if (more.length > 0 || (digest !== undefined && !DIGEST.test(digest))) return undefined;
  const slash = beforeDigest.indexOf('/');
  const first = slash < 0 ? '' : beforeDigest.slice(0, slash);
  const hasRegistry = first !== '' && (/[.:]/.test(first) || first === 'localhost');
  const rest = hasRegistry ? beforeDigest.slice(slash + 1) : beforeDigest;
  const colon = rest.lastIndexOf(':');
  const repository = colon < 0 ? rest : rest.slice(0, colon);
  const tag = colon < 0 ? 'latest' : rest.slice(colon + 1);
  if (!REPOSITORY.test(repository) || !TAG.test(tag)) return undefined;
  return { repository, tag, ...(hasRegistry ? { registry: first } : {}), ...(digest ? { digest } : {}) };
}

function find(repository: string): ImageEntry | undefined {
  const name = repository.replace(LIBRARY, '');
  const matches = (known: string): boolean => name === known || (known.includes('/') && name.endsWith(`/${known}`));
  const last = name.slice(name.lastIndexOf('/') + 1);
  // A mirror keeps the last part of a name (`registry.example/mirror/busybox`, `gcr.io/istio-release/pilot`).
  return (
    CATALOG.find((entry) => entry.repositories.some(matches)) ??
    CATALOG.find((entry) => entry.repositories.some((known) => known === last)) ??
    (/^istio[\w-]*\//.test(name) ? CATALOG.find((e) => e.repositories.includes(`istio/${last}`)) : undefined)
  );
}

export function resolveImage(text: string): ResolvedImage {
  const reference = parseImageReference(text);
  if (!reference) {
    return {
      kind: 'invalid',
      message: `Failed to apply default image tag "${text}": couldn't parse image name "${text}": invalid reference format`,
    };
  }
  const entry = find(reference.repository);
  if (entry) return { kind: 'found', entry, reference, imageId: imageId(entry) };
  const known = CATALOG.flatMap((e) => e.repositories).join(', ');
  return {
    kind: 'unknown',
    message:
      `image "${text}" is not in localkube's catalog: localkube downloads no images, it runs programs under well-known image names. ` +
      `Known images (any registry, any tag): ${known}. ` +
      'Use one of these with your own command, or add a row to src/localkube/images/catalog.ts',
  };
}

/** The same row always has the same made-up digest. */
function imageId(entry: ImageEntry): string {
  const digest = createHash('sha256').update(JSON.stringify(entry)).digest('hex');
  return `localkube.meltemi.dev/${entry.repositories[0]}@sha256:${digest}`;
}
