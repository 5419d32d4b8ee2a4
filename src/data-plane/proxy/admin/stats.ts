// /stats and /stats/prometheus. The text is made in parts while it is sent.
import { readStatsQuery, type StatsQuery } from '../stats/query.ts';
import { statsHtml, statsJson, statsPrometheus, statsText } from '../stats/render.ts';
import { type AdminReply, type AdminTarget, type Gathered, JSON_TYPE } from './target.ts';

const PROMETHEUS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

export async function statsPage(target: AdminTarget, query: URLSearchParams): Promise<AdminReply> {
  const read = readStatsQuery(query, false);
  if (typeof read === 'string') return { status: 400, body: read };
  if (target.bootstrap.statsFlush.case === 'statsFlushOnAdmin') target.stats.turn();
  const gathered = await target.gather();
  switch (read.format) {
    case 'json':
      return { body: statsJson(gathered.stats, read), type: JSON_TYPE };
    case 'html':
      return {
        body: statsHtml(gathered.stats, read, query.get('filter') ?? ''),
        type: 'text/html; charset=UTF-8',
      };
    case 'prometheus':
      return prometheus(target, gathered, read);
    case 'text':
      return { body: statsText(gathered.stats, read) };
  }
}

export async function prometheusPage(target: AdminTarget, query: URLSearchParams): Promise<AdminReply> {
  const read = readStatsQuery(query, true);
  if (typeof read === 'string') return { status: 400, body: read };
  return prometheus(target, await target.gather(), read);
}

function prometheus(target: AdminTarget, gathered: Gathered, query: StatsQuery): AdminReply {
  return { body: both(target, gathered, query), type: PROMETHEUS_TYPE };
}

function* both(target: AdminTarget, gathered: Gathered, query: StatsQuery): Generator<string> {
  yield gathered.istioStats.render();
  yield* statsPrometheus(gathered.stats, target.naming, query);
}
