// The pages of the admin interface and what each prints. Called by admin/server.ts for every request.
import { RE2JS } from 're2js';
import type { Engine } from '../engine.ts';
import { type StatsQuery, statsJson, statsPrometheus, statsText } from '../stats/render.ts';
import { certsPage } from './certs.ts';
import { clustersJson, clustersText } from './clusters.ts';
import { configDump } from './config-dump.ts';
import { listenersJson, listenersText } from './listeners.ts';
import { serverInfo } from './server-info.ts';

export interface AdminReply {
  readonly body: string;
  readonly status?: number;
  readonly type?: string;
  /** Runs after the answer was written. */
  readonly after?: () => void;
}

interface Page {
  readonly help: string;
  /** Changes something: only POST. */
  readonly mutates?: boolean;
  readonly show: (engine: Engine, query: URLSearchParams) => AdminReply;
}

const OK: AdminReply = { body: 'OK\n' };

const PAGES: Readonly<Record<string, Page>> = {
  '/': { help: 'Admin home page', show: () => ({ body: homePage(), type: 'text/html; charset=UTF-8' }) },
  '/certs': { help: 'print certs on machine', show: (engine) => ({ body: certsPage(engine) }) },
  '/clusters': {
    help: 'upstream cluster status',
    show: (engine, query) => ({ body: query.get('format') === 'json' ? clustersJson(engine) : clustersText(engine) }),
  },
  '/config_dump': {
    help: 'dump current Envoy configs (experimental)',
    show: (engine, query) => configDump(engine, query),
  },
  '/drain_listeners': {
    help: 'drain listeners',
    mutates: true,
    show(engine, query) {
      engine.listeners.drain(query.has('inboundonly'), query.has('graceful'));
      return OK;
    },
  },
  '/healthcheck/fail': {
    help: 'cause the server to fail health checks',
    mutates: true,
    show(engine) {
      engine.setHealthFailing(true);
      return OK;
    },
  },
  '/healthcheck/ok': {
    help: 'cause the server to pass health checks',
    mutates: true,
    show(engine) {
      engine.setHealthFailing(false);
      return OK;
    },
  },
  '/help': { help: 'print out list of admin commands', show: () => ({ body: `admin commands are:\n${helpText()}` }) },
  '/hot_restart_version': { help: 'print the hot restart compatibility version', show: () => ({ body: 'disabled' }) },
  '/listeners': {
    help: 'print listener info',
    show: (engine, query) => ({ body: query.get('format') === 'json' ? listenersJson(engine) : listenersText(engine) }),
  },
  '/logging': { help: 'query/change logging levels', mutates: true, show: (engine, query) => logging(engine, query) },
  '/memory': {
    help: 'print current allocation/heap usage',
    show: () => ({ body: JSON.stringify(process.memoryUsage()) }),
  },
  '/quitquitquit': {
    help: 'exit the server',
    mutates: true,
    show: (engine) => ({ ...OK, after: () => engine.options.onQuit() }),
  },
  '/ready': {
    help: 'print server state, return 200 if LIVE, otherwise return 503',
    show: (engine) => ({ body: `${engine.state}\n`, status: engine.state === 'LIVE' ? 200 : 503 }),
  },
  '/reset_counters': {
    help: 'reset all counters to zero',
    mutates: true,
    show(engine) {
      engine.stats.resetCounters();
      return OK;
    },
  },
  '/server_info': { help: 'print server version/status information', show: (engine) => ({ body: serverInfo(engine) }) },
  '/stats': { help: 'print server stats', show: (engine, query) => stats(engine, query) },
  '/stats/prometheus': {
    help: 'print server stats in prometheus format',
    show: (engine, query) => prometheus(engine, query),
  },
};

export function findPage(engine: Engine, method: string, target: string): AdminReply {
  const mark = target.indexOf('?');
  const path = mark < 0 ? target : target.slice(0, mark);
  const page = Object.hasOwn(PAGES, path) ? PAGES[path] : undefined;
  if (!page) return { status: 404, body: `invalid path. admin commands are:\n${helpText()}` };
  if (page.mutates && method !== 'POST') return { status: 405, body: `Method ${method} not allowed, POST required.` };
  if (method !== 'GET' && method !== 'POST' && method !== 'HEAD')
    return { status: 405, body: `Method ${method} not allowed.` };
  return page.show(engine, new URLSearchParams(mark < 0 ? '' : target.slice(mark + 1)));
}

function helpText(): string {
  const lines = Object.entries(PAGES).map(
    ([path, page]) => `  ${path}${page.mutates ? ' (POST)' : ''}: ${page.help}\n`,
  );
  return lines.join('');
}

function homePage(): string {
  const rows = Object.entries(PAGES).map(([path, page]) => {
    const link = path.slice(1);
    const cell = page.mutates
      ? `<form action="${link}" method="post"><button>${link}</button></form>`
      : `<a href="${link}">${link || '/'}</a>`;
    return `<tr><td>${cell}</td><td>${page.help}</td></tr>\n`;
  });
  return `<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Envoy Admin</title></head><body>\n<table>\n<tr><th>Command</th><th>Description</th></tr>\n${rows.join('')}</table>\n</body></html>\n`;
}

/** Longest filter expression. */
const MAX_FILTER_CHARS = 512;

function readQuery(query: URLSearchParams): StatsQuery | string {
  const text = query.get('filter');
  if (text === null) return { usedOnly: query.has('usedonly'), filter: undefined };
  if (text.length > MAX_FILTER_CHARS) return 'filter is too long';
  try {
    return { usedOnly: query.has('usedonly'), filter: RE2JS.compile(text) };
  } catch {
    return `Invalid re2 regex: ${text}`;
  }
}

function stats(engine: Engine, query: URLSearchParams): AdminReply {
  const format = query.get('format');
  if (format === 'prometheus') return prometheus(engine, query);
  const read = readQuery(query);
  if (typeof read === 'string') return { status: 400, body: read };
  refreshGauges(engine);
  if (format === 'json') return { body: statsJson(engine.stats, read), type: 'application/json' };
  if (format !== null && format !== 'text') return { status: 400, body: `usage: /stats?format=json|prometheus|text\n` };
  return { body: statsText(engine.stats, read) };
}

function prometheus(engine: Engine, query: URLSearchParams): AdminReply {
  const read = readQuery(query);
  if (typeof read === 'string') return { status: 400, body: read };
  refreshGauges(engine);
  return {
    body: engine.istioStats.render() + statsPrometheus(engine.stats, engine.naming, read),
    type: 'text/plain; version=0.0.4; charset=utf-8',
  };
}

/** Gauges that are only worth computing when somebody looks. */
function refreshGauges(engine: Engine): void {
  const { stats: store } = engine;
  store.gauge('server.uptime').value = Math.floor((engine.deps.clock.now() - engine.startedAt) / 1000);
  store.gauge('server.memory_allocated').value = process.memoryUsage().heapUsed;
  store.gauge('server.memory_physical_size').value = process.memoryUsage.rss();
  store.gauge('server.concurrency').value = 1;
  let days = Number.POSITIVE_INFINITY;
  for (const view of engine.secrets.views())
    if (view.material?.kind === 'certificate')
      for (const certificate of view.material.value.chain)
        days = Math.min(days, (Date.parse(certificate.validTo) - engine.deps.clock.now()) / 86_400_000);
  store.gauge('server.days_until_first_cert_expiring').value = Number.isFinite(days)
    ? Math.max(0, Math.floor(days))
    : 4294967295;
}

function logging(engine: Engine, query: URLSearchParams): AdminReply {
  const wanted = query.get('level') ?? [...query.values()][0];
  if (wanted !== undefined && !engine.setLogLevel(wanted))
    return { status: 400, body: `error: invalid logger level specified '${wanted}'\n` };
  return { body: `active loggers:\n  all: ${engine.logLevel}\n` };
}
