// PeerAuthentication (security.istio.io v1, v1beta1): decoding and validation (mtls.md §1). Used by config/ and the validation webhook.
import type { Parsed } from '../../base/runtime/diagnostics.ts';
import { createReader, finish, object, oneOf, type Reader, report, selectorLabels } from './reader.ts';

export type MtlsMode = 'UNSET' | 'DISABLE' | 'PERMISSIVE' | 'STRICT';
const MODES: readonly MtlsMode[] = ['UNSET', 'DISABLE', 'PERMISSIVE', 'STRICT'];

export interface PeerAuthenticationSpec {
  /** Absent: the whole namespace, or the mesh in the root namespace. */
  readonly selector?: Readonly<Record<string, string>>;
  readonly mode: MtlsMode;
  /** By workload port. */
  readonly portLevel: ReadonlyMap<number, MtlsMode>;
}

export function parsePeerAuthentication(
  spec: unknown,
  reader: Reader = createReader(),
): Parsed<PeerAuthenticationSpec> {
  const root = object(reader, spec, 'spec', ['selector', 'mtls', 'portLevelMtls']) ?? {};
  const selector = selectorLabels(reader, root.selector, 'spec.selector');
  const mode = readMode(reader, root.mtls, 'spec.mtls');
  const portLevel = new Map<number, MtlsMode>();
  if (root.portLevelMtls !== undefined && root.portLevelMtls !== null) {
    const ports = object(reader, root.portLevelMtls, 'spec.portLevelMtls', Object.keys(root.portLevelMtls)) ?? {};
    const entries = Object.entries(ports);
    if (entries.length === 0)
      report(reader, 'spec.portLevelMtls', 'empty', 'port level mTLS must have at least one element if specified');
    else if (!selector)
      report(
        reader,
        'spec.portLevelMtls',
        'needs-selector',
        'mesh/namespace peer authentication cannot have port level mTLS',
      );
    for (const [key, entry] of entries) {
      const port = /^[0-9]{1,5}$/.test(key) ? Number(key) : 0;
      if (port < 1 || port > 65535)
        report(reader, `spec.portLevelMtls[${key}]`, 'port', `port number ${key} must be in the range 1..65535`);
      else portLevel.set(port, readMode(reader, entry, `spec.portLevelMtls[${key}]`));
    }
  }
  return finish(reader, { ...(selector ? { selector } : {}), mode, portLevel });
}

function readMode(reader: Reader, value: unknown, path: string): MtlsMode {
  const mtls = object(reader, value, path, ['mode']);
  return oneOf(reader, mtls?.mode, `${path}.mode`, MODES) ?? 'UNSET';
}
