// Chooses the probe for a host and gives it connections that no statistic or limit of the cluster counts. Called by the
// cluster for its health checker.
import type { Clock } from '../../../../base/runtime/clock.ts';
import type { SocketAddr } from '../../config/address.ts';
import { h2Counters } from '../../http/h2-options.ts';
import { EMPTY_RUNTIME } from '../../runtime/runtime.ts';
import { StatsScope, StatsStore } from '../../stats/stats.ts';
import { dial, type UpstreamSocket, type UpstreamSource } from '../../transport-socket/dial.ts';
import { buildBreakers } from '../../upstream/breakers.ts';
import { DEFAULT_HTTP } from '../../upstream/http-options.ts';
import { HttpPool } from '../../upstream/pool.ts';
import { clusterCounters } from '../counters.ts';
import { Host } from '../host.ts';
import { grpcQuestion, HttpProbe, httpQuestion } from './http-probe.ts';
import type { Probe } from './probe.ts';
import type { HealthCheckSettings } from './settings.ts';
import { TcpProbe } from './tcp-probe.ts';

export interface ProbeDeps {
  readonly clusterName: string;
  readonly clock: Clock;
  readonly connectTimeoutMs: number;
  readonly source: (host: Host) => UpstreamSource | undefined;
  readonly socket: (host: Host) => UpstreamSocket;
  readonly onVerify: () => void;
}

export function createProbe(settings: HealthCheckSettings, host: Host, deps: ProbeDeps): Probe {
  const target = checkAddress(host, settings);
  const socket = deps.socket(host);
  const { check } = settings;
  if (check.kind === 'tcp')
    return new TcpProbe(
      check,
      (done) =>
        dial(dialOptions(target, host, socket, settings, deps), (result) =>
          done(result.kind === 'connected' ? result.transport : undefined),
        ),
      settings.reuse,
    );
  const authority = host.spec.healthCheck?.hostname || (check.kind === 'http' ? check.host : check.authority);
  const question =
    check.kind === 'http'
      ? httpQuestion(check, authority || deps.clusterName, deps.onVerify)
      : grpcQuestion(check, authority || deps.clusterName);
  const scheme = socket.kind === 'tls' ? 'https' : 'http';
  return new HttpProbe(question, () => openPool(target, host, socket, settings, deps), scheme, settings.reuse);
}

/** Where a host is asked: its own check address and port go before those of the cluster's check. */
export function checkAddress(host: Host, settings: HealthCheckSettings): SocketAddr {
  const { address, healthCheck } = host.spec;
  if (healthCheck?.address) return withPort(healthCheck.address, healthCheck.port);
  return withPort(address, healthCheck?.port || settings.altPort);
}

function withPort(address: SocketAddr, port: number): SocketAddr {
  return port === 0 || address.kind !== 'ip' ? address : { ...address, port };
}

function dialOptions(
  target: SocketAddr,
  host: Host,
  socket: UpstreamSocket,
  settings: HealthCheckSettings,
  deps: ProbeDeps,
) {
  return {
    target,
    source: deps.source(host),
    timeoutMs: deps.connectTimeoutMs,
    socket,
    alpn: socket.kind === 'tls' ? settings.alpn : undefined,
    host: undefined,
    keepAlive: false,
    clock: deps.clock,
  };
}

const H2_ONLY: readonly string[] = ['h2'];

function openPool(
  target: SocketAddr,
  host: Host,
  socket: UpstreamSocket,
  settings: HealthCheckSettings,
  deps: ProbeDeps,
): HttpPool {
  const scope = new StatsScope(new StatsStore(), '');
  const store = new StatsStore();
  const { check } = settings;
  const http2 = check.kind === 'grpc' || (check.kind === 'http' && check.http2);
  return new HttpPool(
    new Host({ ...host.spec, address: target }),
    {
      socket,
      alpn: socket.kind === 'tls' ? (settings.alpn ?? (http2 ? H2_ONLY : undefined)) : undefined,
      name: undefined,
      source: deps.source(host),
      connectTimeoutMs: deps.connectTimeoutMs,
      keepAlive: false,
      http: DEFAULT_HTTP,
      protocol: http2 ? 'http2' : 'http1',
    },
    buildBreakers(undefined, { scope, runtime: EMPTY_RUNTIME, clusterName: '' }, '').default,
    clusterCounters(scope, store),
    { clock: deps.clock, random: () => 0, h2: () => h2Counters(scope) },
  );
}
