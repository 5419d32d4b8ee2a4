// The pages of the admin interface: which there are, what each is for and how it is asked. Called by admin/server.ts for
// every request.
import { H } from '../http/names.ts';
import { escapeHtml } from '../stats/html.ts';
import { certsPage } from './certs.ts';
import { clustersPage } from './clusters.ts';
import { configDump } from './config-dump.ts';
import { initDump } from './init-dump.ts';
import { listenersJson, listenersText } from './listeners.ts';
import { logging } from './logging.ts';
import { heapDump, profiler } from './profiler.ts';
import { changeLookups, lookupsPage } from './recent-lookups.ts';
import { serverInfo } from './server-info.ts';
import { prometheusPage, statsPage } from './stats.ts';
import { tapPage } from './tap.ts';
import { type AdminAsk, type AdminReply, type AdminTarget, JSON_TYPE, OK, type Page } from './target.ts';

const unsupported = (what: string): AdminReply => ({ status: 501, body: `${what} is not supported by this proxy\n` });
const FORMAT = { name: 'format', help: 'text or json' };
const ENABLE = { name: 'enable', help: 'y or n' };
const REGEX = { name: 'filter', help: 'shows only names in which this RE2 expression is found' };

const PAGES: Readonly<Record<string, Page>> = {
  '/': { help: 'Admin home page', show: (target) => ({ body: homePage(target), type: 'text/html; charset=UTF-8' }) },
  '/allocprofiler': {
    help: 'enable/disable the allocation profiler (if supported)',
    mutates: true,
    parameters: [ENABLE],
    show: (target, query) => profiler('alloc', target, query),
  },
  '/certs': { help: 'print certs on machine', show: (target) => ({ body: certsPage(target), type: JSON_TYPE }) },
  '/clusters': { help: 'upstream cluster status', parameters: [REGEX, FORMAT], show: clustersPage },
  '/config_dump': {
    help: 'dump current Envoy configs',
    parameters: [
      { name: 'resource', help: 'one list of a dump, as dynamic_listeners' },
      { name: 'mask', help: 'field paths to keep, separated by commas; with resource, of each of its elements' },
      { name: 'name_regex', help: 'keeps only what has a name that is this RE2 expression' },
      { name: 'include_eds', help: 'with endpoints' },
    ],
    show: configDump,
  },
  '/contention': {
    help: 'dump current Envoy mutex contention stats (if enabled)',
    show: () => ({ body: 'Mutex contention tracing is not enabled. There are no mutexes in this proxy.' }),
  },
  '/cpuprofiler': {
    help: 'enable/disable the CPU profiler',
    mutates: true,
    parameters: [ENABLE],
    show: (target, query) => profiler('cpu', target, query),
  },
  '/drain_listeners': {
    help: 'drain listeners',
    mutates: true,
    parameters: [
      { name: 'graceful', help: 'connections end over the drain time before sockets close' },
      { name: 'skip_exit', help: 'connections end, sockets stay open' },
      { name: 'inboundonly', help: 'only listeners whose traffic_direction is INBOUND' },
    ],
    show(target, query) {
      target.drainListeners({
        inboundOnly: query.has('inboundonly'),
        graceful: query.has('graceful'),
        skipExit: query.has('skip_exit'),
      });
      return OK;
    },
  },
  '/healthcheck/fail': {
    help: 'cause the server to fail health checks',
    mutates: true,
    show(target) {
      target.setHealthFailing(true);
      return OK;
    },
  },
  '/healthcheck/ok': {
    help: 'cause the server to pass health checks',
    mutates: true,
    show(target) {
      target.setHealthFailing(false);
      return OK;
    },
  },
  '/heap_dump': { help: 'dump current Envoy heap (if supported)', show: heapDump },
  '/heapprofiler': {
    help: 'enable/disable the heap profiler',
    mutates: true,
    parameters: [ENABLE],
    show: (target, query) => profiler('heap', target, query),
  },
  '/help': {
    help: 'print out list of admin commands',
    show: (target) => ({ body: `admin commands are:\n${helpText(target)}` }),
  },
  '/hot_restart_version': { help: 'print the hot restart compatibility version', show: () => ({ body: 'disabled' }) },
  '/init_dump': {
    help: 'dump current Envoy init manager information (experimental)',
    parameters: [{ name: 'mask', help: 'listener shows only what listeners wait for' }],
    show: initDump,
  },
  '/listeners': {
    help: 'print listener info',
    parameters: [FORMAT],
    show: (target, query) =>
      query.get('format') === 'json'
        ? { body: listenersJson(target), type: JSON_TYPE }
        : { body: listenersText(target) },
  },
  '/logging': {
    help: 'query/change logging levels',
    mutates: true,
    parameters: [
      { name: 'paths', help: 'several loggers as name1:level1,name2:level2' },
      { name: 'level', help: 'all loggers: trace, debug, info, warning, error, critical or off' },
    ],
    show: logging,
  },
  '/memory': { help: 'print current allocation/heap usage', show: () => ({ body: memory(), type: JSON_TYPE }) },
  '/peak_heap_dump': {
    help: 'dump peak Envoy heap (if supported)',
    show: () => unsupported('A dump of the heap at its peak'),
  },
  '/quitquitquit': {
    help: 'exit the server',
    mutates: true,
    show: (target) => ({ ...OK, after: () => target.quit() }),
  },
  '/ready': {
    help: 'print server state, return 200 if LIVE, otherwise return 503',
    show: (target) => ({ body: `${target.state}\n`, status: target.state === 'LIVE' ? 200 : 503 }),
  },
  '/reopen_logs': {
    help: 'reopen access logs',
    mutates: true,
    show(target) {
      target.reopenLogs();
      return OK;
    },
  },
  '/reset_counters': {
    help: 'reset all counters to zero',
    mutates: true,
    show(target) {
      target.resetCounters();
      return OK;
    },
  },
  '/runtime': {
    help: 'print runtime values',
    show: (target) => ({ body: `${JSON.stringify(target.runtime.dump(), null, 1)}\n`, type: JSON_TYPE }),
  },
  '/runtime_modify': {
    help: 'add or change runtime values given as query parameters; an empty value removes one that was added here',
    mutates: true,
    show: runtimeModify,
  },
  '/server_info': {
    help: 'print server version/status information',
    show: (target) => ({ body: serverInfo(target), type: JSON_TYPE }),
  },
  '/stats': {
    help: 'print server stats',
    parameters: [
      { name: 'usedonly', help: 'leaves out what is zero' },
      REGEX,
      { name: 'invert_filter', help: 'shows the others' },
      { name: 'format', help: 'html, active-html, text, json or prometheus' },
      { name: 'type', help: 'All, Counters, Gauges, Histograms or TextReadouts' },
      {
        name: 'histogram_buckets',
        help: 'cumulative, disjoint, detailed or summary; for Prometheus cumulative, summary or, as protobuf, prometheusnative',
      },
    ],
    show: statsPage,
  },
  '/stats/prometheus': {
    help: 'print server stats in prometheus format',
    parameters: [
      { name: 'usedonly', help: 'leaves out what is zero' },
      { name: 'text_readouts', help: 'texts too, as gauges with the value 0' },
      REGEX,
      { name: 'invert_filter', help: 'shows the others' },
      { name: 'histogram_buckets', help: 'cumulative, summary or, as protobuf, prometheusnative' },
    ],
    show: prometheusPage,
  },
  '/stats/recentlookups': {
    help: 'Show recent stat-name lookups',
    show: lookupsPage,
  },
  '/stats/recentlookups/clear': {
    help: 'clear list of stat-name lookups and counter',
    mutates: true,
    show: (target) => changeLookups(target, 'clear'),
  },
  '/stats/recentlookups/disable': {
    help: 'disable recording of reset stat-name lookup names',
    mutates: true,
    show: (target) => changeLookups(target, 'disable'),
  },
  '/stats/recentlookups/enable': {
    help: 'enable recording of reset stat-name lookup names',
    mutates: true,
    show: (target) => changeLookups(target, 'enable'),
  },
  '/tap': { help: 'tap filter control', mutates: true, when: ({ tap }) => tap.knows(), show: tapPage },
};

export function findPage(
  target: AdminTarget,
  method: string,
  url: string,
  ask: AdminAsk,
): AdminReply | Promise<AdminReply> {
  // Paths are normalized as Envoy's admin interface does.
  if (url.includes('#')) return { status: 400, body: '' };
  const mark = url.indexOf('?');
  const path = (mark < 0 ? url : url.slice(0, mark)).replaceAll(/\/{2,}/g, '/');
  const page = pagesOf(target).get(path);
  if (!page) return { status: 404, body: `invalid path. admin commands are:\n${helpText(target)}` };
  if (page.mutates && method !== 'POST') return { status: 405, body: `Method ${method} not allowed, POST required.` };
  return page.show(target, new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1)), ask);
}

function pagesOf(target: AdminTarget): ReadonlyMap<string, Page> {
  return new Map(Object.entries(PAGES).filter(([, page]) => page.when?.(target) ?? true));
}

function helpText(target: AdminTarget): string {
  let out = '';
  for (const [path, page] of pagesOf(target)) {
    out += `  ${path}${page.mutates ? ' (POST)' : ''}: ${page.help}\n`;
    for (const { name, help } of page.parameters ?? []) out += `      ${name}: ${help}\n`;
  }
  return out;
}

const STYLE =
  'body{font-family:sans-serif}td,th{text-align:left;padding:4px 12px 4px 4px;vertical-align:top}tr:nth-child(even){background:#eee}form{margin:0}small{color:#555}';

function homePage(target: AdminTarget): string {
  const rows = [...pagesOf(target)].map(([path, page]) => {
    const link = path.slice(1);
    const cell = page.mutates
      ? `<form action="${link}" method="post"><button>${link}</button></form>`
      : `<a href="${link}">${link || '/'}</a>`;
    const parameters = (page.parameters ?? []).map(
      ({ name, help }) => `<br><small>${name}: ${escapeHtml(help)}</small>`,
    );
    return `<tr><td>${cell}</td><td>${escapeHtml(page.help)}${parameters.join('')}</td></tr>\n`;
  });
  return `<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>Envoy Admin</title><style>${STYLE}</style></head><body>\n<table>\n<tr><th>Command</th><th>Description</th></tr>\n${rows.join('')}</table>\n</body></html>\n`;
}

/** Envoy's fields; what has no counterpart here is zero in Envoy's own builds without tcmalloc too. */
function memory(): string {
  const { heapUsed, heapTotal, external, rss } = process.memoryUsage();
  return `${JSON.stringify(
    {
      allocated: String(heapUsed + external),
      heap_size: String(heapTotal + external),
      pageheap_unmapped: '0',
      pageheap_free: String(heapTotal - heapUsed),
      total_thread_cache: '0',
      total_physical_bytes: String(rss),
    },
    null,
    1,
  )}\n`;
}

function runtimeModify(target: AdminTarget, query: URLSearchParams, { headers, body }: AdminAsk): AdminReply {
  const isForm = headers.get(H.contentType) === 'application/x-www-form-urlencoded';
  const values = new Map(query.size === 0 && isForm ? new URLSearchParams(body) : query);
  if (values.size === 0)
    return {
      status: 400,
      body: 'usage: /runtime_modify?key1=value1&key2=value2&keyN=valueN\n       or send the parameters as form values\nuse an empty value to remove a previously added override',
    };
  return target.overrideRuntime(values) ? OK : { status: 503, body: 'No admin layer specified' };
}
