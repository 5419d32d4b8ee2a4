// The process pilot-discovery: `discovery` serves the mesh, `request METHOD PATH` asks the one in this pod.
import { randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { parseArgs } from 'node:util';
import { parseDuration } from '../api/istio/reader.ts';
import { inClusterConnection, loadKubeconfig } from '../base/kube/connection.ts';
import { createHttpKubeClient } from '../base/kube/http-client.ts';
import { systemClock } from '../base/runtime/clock.ts';
import { createLogger, errorText, type Level, type Logger } from '../base/runtime/log.ts';
import { MELTEMI_VERSION } from '../base/version.ts';
import type { OidcOptions } from './ca/authenticators.ts';
import { openCacerts } from './ca/cacerts.ts';
import { type Istiod, startIstiod } from './wiring.ts';

const REQUEST_TIMEOUT_MS = 10_000;
/** After SIGTERM connections are cut at the latest then. */
const SHUTDOWN_MS = 3000;

const env = process.env;
const readFile = (file: string): string => readFileSync(file, 'utf8');

function logLevel(flag: string | undefined): Level {
  const level =
    flag
      ?.split(',')
      .find((p) => p.startsWith('default:'))
      ?.slice('default:'.length) ??
    flag ??
    'info';
  if (level === 'debug' || level === 'info' || level === 'warn' || level === 'error' || level === 'none') return level;
  throw new Error(`--log_output_level ${flag}: use default:debug, info, warn, error or none`);
}

function envDuration(name: string, fallbackMs: number): number {
  const raw = env[name];
  if (raw === undefined || raw === '') return fallbackMs;
  const ms = parseDuration(raw);
  if (ms === undefined) throw new Error(`${name}=${raw} is not a duration such as 100ms or 10s`);
  return ms;
}

function portOf(address: string, flag: string): number {
  const port = Number(address.slice(address.lastIndexOf(':') + 1));
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Error(`${flag}=${address} is not [host]:port`);
  return port;
}

const OPTIONS = {
  domain: { type: 'string', default: 'cluster.local' },
  kubeconfig: { type: 'string' },
  monitoringAddr: { type: 'string', default: ':15014' },
  httpAddr: { type: 'string', default: ':8080' },
  httpsAddr: { type: 'string', default: ':15017' },
  grpcAddr: { type: 'string', default: ':15010' },
  secureGRPCAddr: { type: 'string', default: ':15012' },
  ctrlz_port: { type: 'string', default: '9876' },
  log_output_level: { type: 'string' },
} as const;

async function discovery(args: readonly string[]): Promise<void> {
  process.title = 'pilot-discovery';
  const { values } = parseArgs({ args: [...args], options: OPTIONS });
  const clock = systemClock;
  const log = createLogger('istiod', {
    level: logLevel(values.log_output_level),
    clock,
    write: (line) => process.stdout.write(line),
  });
  const connection = values.kubeconfig
    ? loadKubeconfig(values.kubeconfig, { readFile, clock })
    : inClusterConnection({
        host: env.KUBERNETES_SERVICE_HOST,
        port: env.KUBERNETES_SERVICE_PORT,
        readFile,
        clock,
      });
  const revision = env.REVISION || 'default';
  const named = (base: string): string => (revision === 'default' ? base : `${base}-${revision}`);
  const throttle = Number(env.PILOT_PUSH_THROTTLE ?? 0);
  const istiod = await startIstiod({
    client: createHttpKubeClient(connection, { userAgent: 'pilot-discovery' }),
    clock,
    log,
    random: Math.random,
    randomBytes,
    host: '0.0.0.0',
    ports: {
      plaintext: portOf(values.grpcAddr, '--grpcAddr'),
      secure: portOf(values.secureGRPCAddr, '--secureGRPCAddr'),
      monitoring: portOf(values.monitoringAddr, '--monitoringAddr'),
      webhook: portOf(values.httpsAddr, '--httpsAddr'),
      http: portOf(values.httpAddr, '--httpAddr'),
      controlZ: portOf(values.ctrlz_port, '--ctrlz_port'),
    },
    podName: env.POD_NAME || 'istiod',
    namespace: env.POD_NAMESPACE || 'istio-system',
    revision,
    clusterId: env.CLUSTER_ID || 'Kubernetes',
    domain: values.domain,
    version: MELTEMI_VERSION,
    meshConfigMap: env.SHARED_MESH_CONFIG || named('istio'),
    injectorConfigMap: env.INJECTION_WEBHOOK_CONFIG_NAME || named('istio-sidecar-injector'),
    cacerts: openCacerts(env.ROOT_CA_DIR || '/etc/cacerts', clock),
    debugOnHttp: env.ENABLE_DEBUG_ON_HTTP !== 'false',
    debounceQuietMs: envDuration('PILOT_DEBOUNCE_AFTER', 100),
    debounceMaxMs: envDuration('PILOT_DEBOUNCE_MAX', 10_000),
    pushThrottle: throttle > 0 ? throttle : 100,
    nativeSidecars: env.ENABLE_NATIVE_SIDECARS === 'true',
    ...(env.TOKEN_AUDIENCES ? { tokenAudiences: env.TOKEN_AUDIENCES.split(',') } : {}),
    ...(env.JWT_RULE ? { oidc: parseJwtRule(env.JWT_RULE) } : {}),
    environmentNames: Object.keys(env).sort(),
  });
  endOnSignal(istiod, log);
}

/** JWT_RULE, as istiod takes it: `{"issuer": …, "jwksUri": …, "audiences": […]}`. */
function parseJwtRule(text: string): OidcOptions {
  const rule = JSON.parse(text) as Partial<Record<'issuer' | 'jwksUri' | 'jwks', string>> & {
    readonly audiences?: readonly string[];
  };
  if (!rule.issuer || (!rule.jwksUri && !rule.jwks))
    throw new Error(
      'JWT_RULE needs an issuer and its keys: {"issuer": "https://…", "jwksUri": "https://…", "audiences": ["istio-ca"]}',
    );
  return { issuer: rule.issuer, audiences: rule.audiences ?? ['istio-ca'], jwksUri: rule.jwksUri, jwks: rule.jwks };
}

function endOnSignal(istiod: Istiod, log: Logger): void {
  const end = (signal: string): void => {
    log.info('shutting down', { signal });
    setTimeout(() => process.exit(0), SHUTDOWN_MS).unref();
    istiod.close().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error('shutdown failed', { error: errorText(error) });
        process.exit(1);
      },
    );
  };
  process.once('SIGTERM', () => end('SIGTERM'));
  process.once('SIGINT', () => end('SIGINT'));
}

/** For `kubectl exec istiod -- pilot-discovery request GET /debug/syncz`: exit 0 on 200. */
function request(args: readonly string[]): Promise<void> {
  const [method = 'GET', target = '/'] = args;
  return new Promise((resolve, reject) => {
    const call = httpRequest(
      { host: '127.0.0.1', port: 8080, method, path: target, timeout: REQUEST_TIMEOUT_MS },
      (response) => {
        response.pipe(process.stdout, { end: false });
        response.on('end', () => {
          if (response.statusCode !== 200) process.exitCode = 1;
          resolve();
        });
      },
    );
    call.on('timeout', () => call.destroy(new Error(`no answer within ${REQUEST_TIMEOUT_MS} ms`)));
    call.on('error', reject);
    call.end();
  });
}

const [command, ...rest] = process.argv.slice(2);
const run =
  command === 'discovery'
    ? discovery(rest)
    : command === 'request'
      ? request(rest)
      : Promise.reject(new Error('usage: pilot-discovery discovery [flags] | pilot-discovery request METHOD PATH'));
run.catch((error: unknown) => {
  process.stderr.write(`pilot-discovery: ${errorText(error)}\n`);
  process.exit(1);
});
