// istio.stats for HTTP: at the end of each request one point in Istio's standard metrics, from the reporter's side.
import { type PluginConfig, PluginConfigSchema, Reporter } from '#proto/istio/stats_pb.js';
import type { Cluster } from '../cluster/cluster.ts';
import type { Metadata } from '../cluster/host.ts';
import { ConfigError, join, only } from '../config/fields.ts';
import { H } from '../http/names.ts';
import type { HttpStream } from '../http/stream.ts';
import { type ConnectionInfo, flagsText } from '../http/stream-info.ts';
import type { HttpSeries, IstioStats } from '../stats/istio-stats.ts';
import type { TlsDetails } from '../transport-socket/transport.ts';
import type { HttpFilter } from './filter.ts';
import { type LocalPeer, type Peer, peerOfEndpoint, UNKNOWN_PEER } from './peer.ts';
import { peersOf } from './peer-metadata.ts';
import type { ClusterFinder } from './router.ts';

export interface StatsFilterContext {
  readonly name: string;
  readonly direction: 'inbound' | 'outbound' | 'unspecified';
  readonly clusters: ClusterFinder;
  readonly local: LocalPeer;
  readonly istioStats: IstioStats;
}

export interface StatsSettings {
  readonly hostFallback: boolean;
  readonly tcpReportMs: number;
  readonly destination: boolean;
}

export function readStatsConfig(
  message: PluginConfig,
  direction: ConnectionInfo['direction'],
  path: string,
): StatsSettings {
  only(PluginConfigSchema, message, path, [
    'disable_host_header_fallback',
    'tcp_reporting_duration',
    'metrics',
    'reporter',
  ]);
  if (message.metrics.length > 0)
    throw new ConfigError(join(path, 'metrics'), 'overrides of metrics and dimensions are not supported by this proxy');
  const duration = message.tcpReportingDuration;
  return {
    hostFallback: !message.disableHostHeaderFallback,
    tcpReportMs: duration ? Number(duration.seconds) * 1000 + duration.nanos / 1e6 : 5_000,
    destination: direction === 'inbound' && message.reporter !== Reporter.SERVER_GATEWAY,
  };
}

/** What decided the series of the last request to a host, and that series: the next one is most often the same. */
interface Last {
  readonly facts: Facts;
  readonly series: HttpSeries;
}

interface Facts {
  readonly cluster: Cluster | undefined;
  readonly clusterName: string;
  readonly peer: Peer | undefined;
  /** URIs of the peer and of ourselves, on the side of the reporter; undefined without a verified certificate. */
  readonly peerUri: string | undefined;
  readonly ownUri: string | undefined;
  readonly authority: string;
  readonly virtualHost: string;
  readonly grpc: boolean;
  readonly grpcStatus: string;
  readonly code: number;
  readonly flags: string;
}

function isSame(a: Facts, b: Facts): boolean {
  return (
    a.code === b.code &&
    a.cluster === b.cluster &&
    a.clusterName === b.clusterName &&
    a.peer === b.peer &&
    a.peerUri === b.peerUri &&
    a.ownUri === b.ownUri &&
    a.authority === b.authority &&
    a.virtualHost === b.virtualHost &&
    a.grpc === b.grpc &&
    a.grpcStatus === b.grpcStatus &&
    a.flags === b.flags
  );
}

const NO_HOST: Metadata = {};

export function createIstioStatsFilter(message: PluginConfig, context: StatsFilterContext, path: string): HttpFilter {
  const settings = readStatsConfig(message, context.direction, path);
  const remembered = new WeakMap<Metadata, Last>();
  const seriesOf = (stream: HttpStream, facts: Facts, metadata: Metadata): HttpSeries | undefined => {
    const { info } = stream;
    const peer = facts.peer ?? (settings.destination ? undefined : peerOfEndpoint(metadata));
    const values = commonLabels({
      settings,
      context,
      peer: peer ?? UNKNOWN_PEER,
      cluster: facts.cluster,
      downstreamTls: info.connection.tls,
      upstreamTls: info.upstreamTls,
      authority: facts.authority,
      clusterName: facts.clusterName,
      virtualHost: facts.virtualHost,
      protocol: facts.grpc ? 'grpc' : 'http',
    });
    values.push(String(facts.code), facts.grpcStatus, facts.flags, securityPolicy(settings, info.connection.tls));
    return context.istioStats.http(values);
  };
  return {
    name: context.name,
    onComplete(stream) {
      const { info, grpc } = stream;
      const peers = peersOf(stream);
      const tls = settings.destination ? info.connection.tls : info.upstreamTls;
      const facts: Facts = {
        cluster: context.clusters.find(info.upstreamCluster),
        clusterName: info.upstreamCluster,
        peer: settings.destination ? peers.downstream : peers.upstream,
        peerUri: tls?.peerVerified ? tls.peerUris[0] : undefined,
        ownUri: tls?.localUris[0],
        authority: stream.authority,
        virtualHost: info.virtualHost,
        grpc,
        grpcStatus: grpc ? (info.responseHeaders?.get(H.grpcStatus) ?? '') : '',
        code: info.responseCode,
        flags: flagsText(info),
      };
      const metadata = info.upstreamMetadata ?? NO_HOST;
      const last = remembered.get(metadata);
      const series = last && isSame(last.facts, facts) ? last.series : seriesOf(stream, facts, metadata);
      if (!series) return;
      if (series !== last?.series) remembered.set(metadata, { facts, series });
      series.requests.value += 1;
      series.duration.record(info.duration);
      series.requestBytes.record(info.wireBytesReceived);
      series.responseBytes.record(info.wireBytesSent);
    },
  };
}

export function securityPolicy(settings: StatsSettings, tls: TlsDetails | undefined): string {
  if (!settings.destination) return 'unknown';
  return tls?.peerVerified && tls.peerUris.length > 0 && tls.localUris.length > 0 ? 'mutual_tls' : 'none';
}

export interface LabelInput {
  readonly settings: StatsSettings;
  readonly context: StatsFilterContext;
  readonly peer: Peer;
  readonly cluster: Cluster | undefined;
  readonly clusterName: string;
  readonly downstreamTls: TlsDetails | undefined;
  readonly upstreamTls: TlsDetails | undefined;
  readonly authority: string;
  readonly virtualHost: string;
  readonly protocol: string;
}

/** The labels that HTTP and TCP metrics share, in the order of COMMON in stats/istio-stats.ts. */
export function commonLabels(input: LabelInput): string[] {
  const { settings, context } = input;
  const own = context.local.peer;
  const source = settings.destination ? input.peer : own;
  const target = settings.destination ? own : input.peer;
  const tls = settings.destination ? input.downstreamTls : input.upstreamTls;
  const peerUri = tls?.peerVerified ? (tls.peerUris[0] ?? 'unknown') : 'unknown';
  const ownUri = tls?.localUris[0] ?? 'unknown';
  const sourceNamespace = settings.destination ? (namespaceOf(peerUri) ?? source.namespace) : source.namespace;
  const service = serviceOf(input, target);
  return [
    settings.destination ? 'destination' : 'source',
    source.workload,
    source.canonicalName,
    source.canonicalRevision,
    sourceNamespace,
    settings.destination ? peerUri : ownUri,
    source.app,
    source.version,
    source.cluster,
    target.workload,
    target.namespace,
    settings.destination ? ownUri : peerUri,
    target.app,
    target.version,
    service.host,
    target.canonicalName,
    target.canonicalRevision,
    service.name,
    service.namespace,
    target.cluster,
    input.protocol,
  ];
}

function namespaceOf(uri: string): string | undefined {
  return /^spiffe:\/\/[^/]+\/ns\/([^/]+)\//.exec(uri)?.[1];
}

function serviceOf(input: LabelInput, target: Peer): { host: string; name: string; namespace: string } {
  const { settings, cluster, clusterName, virtualHost } = input;
  const known = cluster?.service;
  const special =
    clusterName === 'BlackHoleCluster' || virtualHost === 'block_all'
      ? 'BlackHoleCluster'
      : clusterName === 'PassthroughCluster' || virtualHost === 'allow_any'
        ? 'PassthroughCluster'
        : clusterName === 'InboundPassthroughCluster'
          ? 'InboundPassthroughCluster'
          : undefined;
  const namespace = known?.namespace || target.namespace;
  if (settings.destination) {
    const host = known?.host || target.canonicalName;
    return { host, name: special ?? (known?.name || target.canonicalName), namespace };
  }
  const host = known?.host || (settings.hostFallback && input.authority ? input.authority : 'unknown');
  return { host, name: special ?? (known?.name || host), namespace };
}
