// Where an API server is and how to prove who we are: from a kubeconfig file or from inside a pod.
// Called by the wiring of every process that talks to Kubernetes.
import { isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import type { Clock } from '../runtime/clock.ts';

export interface KubeConnection {
  /** `https://host:port`, with an optional path prefix. */
  readonly server: string;
  /** PEM; absent: the system's roots. */
  readonly caPem?: string;
  readonly clientCertPem?: string;
  readonly clientKeyPem?: string;
  /** Asked before every request, so that a rotated token is used. */
  readonly token?: () => string | undefined;
  readonly tlsServerName?: string;
  readonly insecureSkipTlsVerify?: boolean;
  /** The context's default namespace. */
  readonly namespace?: string;
}

/** A kubeconfig or service account that cannot be used; the message says what to change. */
export class KubeConfigError extends Error {}

export type ReadFile = (path: string) => string;

interface NamedEntry {
  readonly name?: unknown;
  readonly [key: string]: unknown;
}
type Section = Readonly<Record<string, unknown>>;

const TOKEN_REREAD_MS = 30_000;
const MAX_KUBECONFIG_BYTES = 4 * 1024 * 1024;
export const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';

/**
 * Reads the file at `path` and picks `context` (absent: the current one). Relative file names inside are
 * relative to it. Throws {@link KubeConfigError}.
 */
export function loadKubeconfig(
  path: string,
  options: { readonly context?: string; readonly readFile: ReadFile; readonly clock: Clock },
): KubeConnection {
  const text = readOrExplain(options.readFile, path, 'kubeconfig');
  if (text.length > MAX_KUBECONFIG_BYTES)
    throw new KubeConfigError(`${path} is larger than ${MAX_KUBECONFIG_BYTES} bytes`);
  let document: unknown;
  try {
    document = parse(text);
  } catch (error) {
    throw new KubeConfigError(`${path} is not YAML: ${error instanceof Error ? error.message : String(error)}`);
  }
  const config = asSection(document) ?? {};
  const contextName = options.context ?? str(config['current-context']);
  if (!contextName) throw new KubeConfigError(`${path} names no current-context; pass --context`);
  const context = entry(config, 'contexts', contextName, 'context', path);
  const cluster = entry(config, 'clusters', str(context.cluster) ?? '', 'cluster', path);
  const user = context.user ? entry(config, 'users', str(context.user) ?? '', 'user', path) : {};
  const server = str(cluster.server);
  if (!server || !/^https?:\/\//.test(server))
    throw new KubeConfigError(`${path}: cluster "${str(context.cluster)}" has no server URL`);
  const dir = path.replace(/[^/]*$/, '');
  const pem = (section: Section, key: string): string | undefined => {
    const data = str(section[`${key}-data`]);
    if (data) return Buffer.from(data, 'base64').toString('utf8');
    const file = str(section[key]);
    return file && readOrExplain(options.readFile, isAbsolute(file) ? file : join(dir, file), key);
  };
  for (const unsupported of ['exec', 'auth-provider', 'username'])
    if (user[unsupported] !== undefined)
      throw new KubeConfigError(
        `${path}: user "${str(context.user)}" logs in by "${unsupported}", which is not supported; use a client certificate, a token or a tokenFile`,
      );
  return {
    server: server.replace(/\/+$/, ''),
    caPem: pem(cluster, 'certificate-authority'),
    clientCertPem: pem(user, 'client-certificate'),
    clientKeyPem: pem(user, 'client-key'),
    token: tokenOf(user, dir, options),
    tlsServerName: str(cluster['tls-server-name']),
    insecureSkipTlsVerify: cluster['insecure-skip-tls-verify'] === true,
    namespace: str(context.namespace),
  };
}

function tokenOf(user: Section, dir: string, options: { readonly readFile: ReadFile; readonly clock: Clock }) {
  const token = str(user.token);
  if (token) return () => token;
  const file = str(user.tokenFile);
  return file ? rereadToken(isAbsolute(file) ? file : join(dir, file), options.readFile, options.clock) : undefined;
}

/** The connection of a pod: host and port are `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. */
export function inClusterConnection(options: {
  readonly host: string | undefined;
  readonly port: string | undefined;
  readonly readFile: ReadFile;
  readonly clock: Clock;
  /** Default {@link SERVICE_ACCOUNT_DIR}. */
  readonly dir?: string;
}): KubeConnection {
  const { host, port, readFile, clock, dir = SERVICE_ACCOUNT_DIR } = options;
  if (!host || !port)
    throw new KubeConfigError('not in a pod: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set');
  return {
    server: `https://${host.includes(':') ? `[${host}]` : host}:${port}`,
    caPem: readOrExplain(readFile, `${dir}/ca.crt`, 'CA of the service account'),
    token: rereadToken(`${dir}/token`, readFile, clock),
    namespace: readOrExplain(readFile, `${dir}/namespace`, 'namespace of the service account').trim(),
  };
}

/** Projected tokens are replaced while we run; a read that fails leaves the last one in use. */
function rereadToken(path: string, readFile: ReadFile, clock: Clock): () => string | undefined {
  let token = readOrExplain(readFile, path, 'token').trim();
  let readAt = clock.now();
  return () => {
    if (clock.now() - readAt < TOKEN_REREAD_MS) return token;
    readAt = clock.now();
    try {
      token = readFile(path).trim() || token;
    } catch {
      // Kept: the kubelet may be replacing the file right now.
    }
    return token;
  };
}

function readOrExplain(readFile: ReadFile, path: string, what: string): string {
  try {
    return readFile(path);
  } catch (error) {
    throw new KubeConfigError(`cannot read the ${what}: ${error instanceof Error ? error.message : String(error)}`);
  }
}

function entry(config: Section, list: string, name: string, key: string, path: string): Section {
  const entries = Array.isArray(config[list]) ? (config[list] as readonly NamedEntry[]) : [];
  const found = asSection(entries.find((e) => asSection(e)?.name === name)?.[key]);
  if (!found) throw new KubeConfigError(`${path} has no ${key} named "${name}"`);
  return found;
}

function asSection(value: unknown): Section | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Section) : undefined;
}

function str(value: unknown): string | undefined {
  return typeof value === 'string' && value !== '' ? value : undefined;
}
