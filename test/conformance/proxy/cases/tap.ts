// The tap filter and POST /tap: what is shown of requests and answers, byte for byte after the parts that chance decides. In code
// because a tap is open while other requests run.
import { request } from 'node:http';
import type { Case, JsonMap } from '../format.ts';
import type { Live } from '../live.ts';

const ID = 'here';
const filter = (more: JsonMap = {}): JsonMap => ({
  name: 'tap',
  typed_config: {
    '@type': 'envoy.extensions.filters.http.tap.v3.Tap',
    common_config: { admin_config: { config_id: ID } },
    ...more,
  },
});

interface Open {
  text(): string;
  ended(): boolean;
  close(): void;
}

async function tap(live: Live, config: JsonMap): Promise<Open> {
  let text = '';
  let ended = false;
  let began = false;
  const sent = request(
    { host: '127.0.0.1', port: live.adminPort, path: '/tap', method: 'POST', agent: false },
    (response) => {
      began = true;
      response.setEncoding('utf8');
      response.on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => {
        ended = true;
      });
      response.on('error', () => {});
    },
  );
  sent.on('error', () => {});
  sent.end(JSON.stringify({ config_id: ID, tap_config: config }));
  await live.until('the tap to be open', () => began);
  return { text: () => text, ended: () => ended, close: () => sent.destroy() };
}

/** Without what is different each time. */
function plain(text: string): string {
  return text
    .replaceAll(/("key": "(?:x-request-id|date|x-envoy-upstream-service-time)",\n\s+"value": )"[^"]*"/g, '$1"*"')
    .replaceAll(/("trace_id": )"\d+"/g, '$1"*"')
    .replaceAll(/("headers_received_time": )"\d{4}-[^"]*Z"/g, '$1"*"')
    .replaceAll(/("port_value": )\d+/g, '$10')
    .replaceAll(/127\.0\.0\.1:\d+/g, 'host');
}

interface TracedMessage {
  readonly headers: readonly { readonly key: string; readonly value: string }[];
}

const PROBE = '/probe';

/** Without the traces of probes. */
function real(text: string): string[] {
  const traces = text.split(/(?<=^}\n)/m).filter((trace) => trace.endsWith('}\n'));
  const probes = new Set<string>();
  for (const trace of traces)
    if (trace.includes(`"${PROBE}"`)) probes.add(/"trace_id": "\d+"/.exec(trace)?.[0] ?? trace);
  return traces.filter((trace) => !probes.has(/"trace_id": "\d+"/.exec(trace)?.[0] ?? trace));
}

/** Each part of each trace by itself: headers in one line, the rest as it is. */
function noteTraces(live: Live, traces: readonly string[]): void {
  for (const [i, trace] of traces.map(plain).entries()) {
    live.note(`${i}.begin`, trace.split('\n', 6).join('|'));
    for (const wrapper of Object.values(JSON.parse(trace) as Record<string, Record<string, unknown>>))
      for (const [part, value] of Object.entries(wrapper)) {
        const { headers, ...rest } = (typeof value === 'object' ? value : { value }) as Partial<TracedMessage>;
        live.note(`${i}.${part}`, headers?.map(({ key, value: text }) => `${key}=${text}`).join(' '));
        live.note(`${i}.${part}.rest`, JSON.stringify(rest));
      }
  }
}

const ANY: JsonMap = { match: { any_match: true } };
const text = (more: JsonMap = {}): JsonMap => ({
  output_config: { sinks: [{ format: 'JSON_BODY_AS_STRING', streaming_admin: {} }], ...more },
});
const headers = (name: string, value: string): JsonMap => ({
  headers: [{ name, string_match: { exact: value } }],
});

/**
 * Opens a tap, sends, waits for so many traces and notes them. The threads that serve learn of a tap some time after it is
 * open: first come probes until one is shown.
 */
async function shown(live: Live, config: JsonMap, traces: number, send: () => Promise<void>): Promise<void> {
  const { match, match_config: old, ...rest } = config;
  const probe = { http_request_headers_match: headers(':path', PROBE) };
  const both = { or_match: { rules: [probe, (match ?? old) as JsonMap] } };
  const open = await tap(live, { ...rest, [match ? 'match' : 'match_config']: both });
  await live.until('a probe', async () => {
    await live.send({ request: `GET ${PROBE}` });
    return open.text() !== '';
  });
  await send();
  await live.until(`${traces} traces`, () => real(open.text()).length >= traces);
  open.close();
  noteTraces(live, real(open.text()));
  live.expect(real(open.text()).length === traces, `${traces} traces, not ${real(open.text()).length}`);
}

const answer = { status: 200, headers: { 'x-up': '<1>' }, body: 'the answer' };
const upstreams = { app: { respond: answer } };

/** How many probes it took. */
const PROBED = ['log*', 'upstream.*'];

const probed: Case[] = [
  {
    name: 'a whole exchange with both bodies as text',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: (live) =>
      shown(live, { ...ANY, ...text() }, 1, async () => {
        await live.send({ request: 'POST /x?y=1', headers: { 'x-a': '1' }, body: 'the "question"' });
      }),
  },
  {
    name: 'bodies as bytes, cut short',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: (live) =>
      shown(
        live,
        {
          ...ANY,
          output_config: { sinks: [{ streaming_admin: {} }], max_buffered_rx_bytes: 3, max_buffered_tx_bytes: 0 },
        },
        1,
        async () => {
          await live.send({ request: 'POST /', body: 'question', chunked: true });
        },
      ),
  },
  {
    name: 'times and the connection',
    own_process: true,
    config: { http_filters: [filter({ record_headers_received_time: true, record_downstream_connection: true })] },
    upstreams,
    live: (live) =>
      shown(live, { ...ANY, ...text() }, 1, async () => {
        await live.send({ request: 'GET /' });
      }),
  },
  {
    name: 'only what matches request and answer',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams: { app: { respond: [{ ...answer, path: '/none', status: 404 }, answer] } },
    live: (live) =>
      shown(
        live,
        {
          match: {
            and_match: {
              rules: [
                { http_request_headers_match: headers('x-a', '1') },
                { http_response_headers_match: headers(':status', '404') },
              ],
            },
          },
          ...text(),
        },
        1,
        async () => {
          await live.send({ request: 'GET /some', headers: { 'x-a': '1' } });
          await live.send({ request: 'GET /none', headers: { 'x-a': '2' } });
          await live.send({ request: 'GET /none', headers: { 'x-a': '1' } });
        },
      ),
  },
  {
    name: 'what does not match, and the old name of the predicate',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: (live) =>
      shown(
        live,
        {
          match_config: {
            or_match: {
              rules: [
                { not_match: { http_request_headers_match: headers(':path', '/hidden') } },
                { http_request_trailers_match: headers('x-t', '1') },
              ],
            },
          },
          ...text(),
        },
        1,
        async () => {
          await live.send({ request: 'GET /hidden' });
          await live.send({ request: 'GET /shown' });
        },
      ),
  },
  {
    name: 'trailers',
    own_process: true,
    config: { http_filters: [filter()], hcm: { http_protocol_options: { enable_trailers: true } } },
    upstreams,
    live: (live) =>
      shown(live, { match: { http_request_trailers_match: headers('x-t', '1') }, ...text() }, 1, async () => {
        await live.send({ request: 'POST /', body: 'a', chunked: true, trailers: { 'x-t': '1' } });
      }),
  },
  {
    name: 'piece by piece',
    own_process: true,
    config: { http_filters: [filter()], route: { cluster: 'app' } },
    upstreams,
    live: (live) =>
      shown(live, { ...ANY, ...text({ streaming: true, max_buffered_rx_bytes: 5 }) }, 4, async () => {
        await live.send({ request: 'POST /', body: 'question' });
      }),
  },
  {
    name: 'as many as were asked for, then the tap ends',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: async (live) => {
      const open = await tap(live, { ...ANY, output_config: { sinks: [{ buffered_admin: { max_traces: 2 } }] } });
      await live.until('the end', async () => {
        await live.send({ request: 'GET /1' });
        return open.ended();
      });
      noteTraces(live, real(open.text()));
    },
  },
  {
    name: 'the time is over before there are as many',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: async (live) => {
      const open = await tap(live, {
        ...ANY,
        output_config: { sinks: [{ buffered_admin: { max_traces: 900, timeout: '0.5s' } }] },
      });
      await live.until('the end', async () => {
        await live.send({ request: 'GET /1' });
        return open.ended();
      });
      noteTraces(live, real(open.text()).slice(0, 1));
    },
  },
  {
    name: 'a share of the requests',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: async (live) => {
      const open = await tap(live, {
        ...ANY,
        tap_enabled: { default_value: { numerator: 0, denominator: 'HUNDRED' } },
        ...text(),
      });
      await live.until('a request that is left out', async () => {
        await live.send({ request: 'GET /' });
        return (await live.stat('http.in.tap.rq_sampled_out')) > 0;
      });
      open.close();
      live.note('traces', open.text());
    },
    stats: { 'http.in.tap.rq_tapped': 0 },
  },
];

export const cases: Case[] = [
  ...probed.map((each): Case => ({ ...each, random: PROBED })),
  {
    name: 'one tap at a time, and another after it',
    own_process: true,
    config: { http_filters: [filter()] },
    upstreams,
    live: async (live) => {
      const first = await tap(live, { ...ANY, ...text() });
      const body = JSON.stringify({ config_id: ID, tap_config: { ...ANY, ...text() } });
      const second = await live.admin('POST', '/tap', { body });
      live.note('second', `${second.status} ${second.body}`);
      first.close();
      await live.until('the first to be forgotten', async () => {
        const third = await tap(live, { ...ANY, ...text() });
        const refused = third.text() !== '' || third.ended();
        third.close();
        return !refused;
      });
    },
  },
  {
    name: 'what is wrong with a request for a tap',
    own_process: true,
    config: { http_filters: [filter()] },
    differs: {
      reason: "Errors of /tap say what is wrong without Envoy's dump of the message and without the offset in the text",
      in: ['live.constraint', 'live.unknown', 'live.type'],
    },
    live: async (live) => {
      for (const [key, body] of [
        ['empty', ''],
        ['scalar', 'x'],
        ['constraint', '{}'],
        ['unknown', `{"config_id":"${ID}","nope":1}`],
        ['type', '{"config_id":5}'],
        ['id', JSON.stringify({ config_id: 'other', tap_config: { ...ANY, ...text() } })],
      ] as const) {
        const { status, body: said } = await live.admin('POST', '/tap', { body });
        live.note(key, `${status} ${said}`);
      }
      const get = await live.admin('GET', '/tap');
      live.note('get', `${get.status} ${get.body}`);
    },
  },
  {
    name: 'no tap without a filter',
    own_process: true,
    live: async (live) => {
      const { status } = await live.admin('POST', '/tap', { body: '{}' });
      live.note('status', status);
    },
  },
];
