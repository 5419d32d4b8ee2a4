// Where the workload's certificates come from: files put there beforehand, another SDS server (SPIRE), or istiod.
// Called by wiring.ts.
import { access, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { AgentOptions } from './options.ts';
import type { UpstreamOptions } from './upstream.ts';

const TOKEN = 'var/run/secrets/tokens/istio-token';
const MESH_ROOT = 'var/run/secrets/istio/root-cert.pem';
const LEGACY_ROOT = 'etc/certs/root-cert.pem';
const PROVISIONED = 'var/run/secrets/workload-spiffe-credentials';
const LEGACY = 'etc/certs';
const MAX_TOKEN_BYTES = 16 * 1024;

/** Resource names that `default` and `ROOTCA` stand for when certificates are files; undefined: ask the CA. */
export async function provisionedCerts(root: string): Promise<Readonly<Record<string, string>> | undefined> {
  for (const directory of [PROVISIONED, LEGACY]) {
    const file = (name: string): string => path.join(root, directory, name);
    const names = ['cert-chain.pem', 'key.pem', 'root-cert.pem'];
    const present = await Promise.all(names.map((name) => exists(file(name))));
    if (present.every(Boolean))
      return {
        default: `file-cert:${file('cert-chain.pem')}~${file('key.pem')}`,
        ROOTCA: `file-root:${file('root-cert.pem')}`,
      };
  }
  return undefined;
}

/** The projected token, read anew for every call because the kubelet renews it. Undefined: there is none. */
export async function readToken(root: string): Promise<string | undefined> {
  const text = await readFile(path.join(root, TOKEN), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw new Error(`cannot read the token ${TOKEN}: ${error.message}`);
  });
  if (text !== undefined && text.length > MAX_TOKEN_BYTES)
    throw new Error(`the token ${TOKEN} is larger than ${MAX_TOKEN_BYTES} bytes`);
  return text?.trim() || undefined;
}

/** PEM of the roots istiod is checked with. Rejects when no root file is there. */
export async function readMeshRoots(root: string, provCert: string | undefined): Promise<string> {
  const candidates = [MESH_ROOT, LEGACY_ROOT, ...(provCert ? [path.join(provCert, 'root-cert.pem')] : [])];
  for (const file of candidates) {
    const text = await readFile(path.resolve(root, file), 'utf8').catch(() => undefined);
    if (text !== undefined && text !== '') return text;
  }
  throw new Error(
    `no root certificate to check istiod with: ${candidates.join(', ')} missing; is ConfigMap istio-ca-root-cert mounted?`,
  );
}

/** How to reach istiod for certificates or for configuration. */
export function upstreamOptions(root: string, options: AgentOptions, purpose: 'ca' | 'xds'): UpstreamOptions {
  const system = purpose === 'ca' ? options.caSystemRoots : options.xdsSystemRoots;
  return {
    address: purpose === 'ca' ? options.caAddress : options.discoveryAddress,
    serverName: options.istiodSan,
    roots: async () => (system ? undefined : readMeshRoots(root, options.provCert)),
    token: () => readToken(root),
    clusterId: options.clusterId,
    headers: purpose === 'ca' ? options.caHeaders : options.xdsHeaders,
  };
}

function exists(file: string): Promise<boolean> {
  return access(file).then(
    () => true,
    () => false,
  );
}
