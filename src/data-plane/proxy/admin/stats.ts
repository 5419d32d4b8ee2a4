// /stats and /stats/prometheus. The answer is made in parts while it is sent.
import { headerName } from '../http/header-map.ts';
import { familiesOf } from '../stats/families.ts';
import { activeHtml, statsHtml } from '../stats/html.ts';
import { PROMETHEUS_PROTO_TYPE } from '../stats/prometheus-proto.ts';
import { readStatsQuery, type StatsQuery } from '../stats/query.ts';
import { statsJson, statsPrometheus, statsPrometheusProto, statsText } from '../stats/render.ts';
import { type AdminAsk, type AdminReply, type AdminTarget, type Gathered, JSON_TYPE } from './target.ts';

const HTML_TYPE = 'text/html; charset=UTF-8';
const ACCEPT = headerName('accept');

export async function statsPage(target: AdminTarget, query: URLSearchParams, ask: AdminAsk): Promise<AdminReply> {
  const read = readStatsQuery(query, false);
  if (typeof read === 'string') return { status: 400, body: read };
  if (read.format === 'active-html') return { body: activeHtml(read, query.get('filter') ?? ''), type: HTML_TYPE };
  const gathered = await gather(target);
  switch (read.format) {
    case 'json':
      return { body: statsJson(gathered.stats, read), type: JSON_TYPE };
    case 'html':
      return { body: statsHtml(gathered.stats, read, query.get('filter') ?? ''), type: HTML_TYPE };
    case 'prometheus':
      return prometheus(target, gathered, read, wantsProto(query, ask));
    case 'text':
      return { body: statsText(gathered.stats, read) };
  }
}

export async function prometheusPage(target: AdminTarget, query: URLSearchParams, ask: AdminAsk): Promise<AdminReply> {
  const read = readStatsQuery(query, true);
  if (typeof read === 'string') return { status: 400, body: read };
  return prometheus(target, await gather(target), read, wantsProto(query, ask));
}

function gather(target: AdminTarget): Gathered | Promise<Gathered> {
  if (target.bootstrap.statsFlush.case === 'statsFlushOnAdmin') target.stats.turn();
  return target.gather();
}

/** As Envoy decides: the first of the two forms that is named. */
function wantsProto(query: URLSearchParams, { headers }: AdminAsk): boolean {
  if (query.has('prom_protobuf')) return true;
  for (const each of (headers.get(ACCEPT) ?? '').split(',')) {
    const [type = ''] = each.trim().split(';');
    if (type === 'application/vnd.google.protobuf') return true;
    if (type === 'text/plain') return false;
  }
  return false;
}

function prometheus(target: AdminTarget, gathered: Gathered, query: StatsQuery, proto: boolean): AdminReply {
  const native = query.buckets === 'prometheusnative';
  if (native && !proto)
    return {
      status: 400,
      body: 'unsupported prometheusnative histogram type when not using protobuf exposition format',
    };
  const families = [...gathered.istioStats.families(), ...familiesOf(gathered.stats, target.naming.tags, query)];
  return proto
    ? { body: statsPrometheusProto(families, native), type: PROMETHEUS_PROTO_TYPE }
    : { body: statsPrometheus(families) };
}
