// istio.stats for TCP: connections and bytes by peer. Bytes are added when a connection closes and every reporting interval.
import type { PluginConfig } from '#proto/istio/stats_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import { flagsText, type StreamInfo } from '../http/stream-info.ts';
import {
  commonLabels,
  readStatsConfig,
  type StatsFilterContext,
  type StatsSettings,
  securityPolicy,
} from '../http-filter/istio-stats.ts';
import { peerOfEndpoint, UNKNOWN_PEER } from '../http-filter/peer.ts';
import type { TcpObserver } from './filter.ts';
import { DOWNSTREAM_PEER, exchangedPeer, exchangePending, UPSTREAM_PEER } from './metadata-exchange.ts';

interface Reported {
  opened: boolean;
  sent: number;
  received: number;
}

export function createTcpStats(
  message: PluginConfig,
  context: StatsFilterContext & { readonly clock: Clock },
  path: string,
): TcpObserver {
  const settings = readStatsConfig(message, context.direction, path);
  const open = new Map<StreamInfo, Reported>();
  const side = settings.destination ? DOWNSTREAM_PEER : UPSTREAM_PEER;
  let armed = false;
  const arm = (): void => {
    if (armed) return;
    armed = true;
    context.clock.after(settings.tcpReportMs, () => {
      armed = false;
      for (const [info, reported] of open) {
        // Who the peer is will be known soon: a line without its name would stay for ever.
        if (!info.upstreamLocal || exchangePending(info.connection, side)) continue;
        report(info, reported, context, settings, false);
      }
      if (open.size > 0) arm();
    });
  };
  return {
    onOpen(info) {
      open.set(info, { opened: false, sent: 0, received: 0 });
      arm();
    },
    onClose(info) {
      const reported = open.get(info);
      if (!reported) return;
      open.delete(info);
      report(info, reported, context, settings, true);
    },
  };
}

function report(
  info: StreamInfo,
  reported: Reported,
  context: StatsFilterContext,
  settings: StatsSettings,
  closed: boolean,
): void {
  const cluster = context.clusters.find(info.upstreamCluster);
  const host = cluster?.hosts.find((candidate) => candidate.spec.address === info.upstreamHost);
  const values = commonLabels({
    settings,
    context,
    peer: settings.destination
      ? (exchangedPeer(info.connection, DOWNSTREAM_PEER) ?? UNKNOWN_PEER)
      : (exchangedPeer(info.connection, UPSTREAM_PEER) ?? (host && peerOfEndpoint(host.spec.metadata)) ?? UNKNOWN_PEER),
    cluster,
    clusterName: info.upstreamCluster,
    downstreamTls: info.connection.tls,
    upstreamTls: info.upstreamTls,
    authority: '',
    virtualHost: '',
    protocol: 'tcp',
  });
  values.push(flagsText(info), securityPolicy(settings, info.connection.tls));
  const series = context.istioStats.tcp(values);
  if (!series) return;
  if (!reported.opened) {
    reported.opened = true;
    series.opened.value += 1;
  }
  if (closed) series.closed.value += 1;
  series.sent.value += info.bytesSent - reported.sent;
  series.received.value += info.bytesReceived - reported.received;
  reported.sent = info.bytesSent;
  reported.received = info.bytesReceived;
}
