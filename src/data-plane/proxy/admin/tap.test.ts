// POST /tap against real engines: what is shown, when it ends, and that workers' requests are shown too.
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  ask,
  bootstrap,
  hcm,
  listener,
  ROUTER,
  routes,
  socketAddress,
  startApp,
  startEngine,
  staticCluster,
  toCluster,
  typed,
  until,
} from '../testing/engine.ts';
import { startThreads } from '../workers/testing.ts';

const TAP = typed('tap', 'envoy.extensions.filters.http.tap.v3.Tap', {
  common_config: { admin_config: { config_id: 'here' } },
});

async function config(t: TestContext, filters: readonly JsonObject[] = [TAP, ROUTER]): Promise<JsonObject> {
  const app = await startApp(t, 'app');
  return bootstrap(
    [listener('in', [{ filters: [hcm(routes([toCluster('a')]), { http_filters: [...filters] })] }])],
    [staticCluster('a', [app.port])],
    { admin: { address: socketAddress(0) } },
  );
}

interface Open {
  text(): string;
  status(): number;
  ended(): boolean;
  close(): void;
}

/** A tap that goes on. */
async function open(t: TestContext, port: number, tap: JsonObject, configId = 'here'): Promise<Open> {
  let text = '';
  let ended = false;
  let status = 0;
  const sent = request({ host: '127.0.0.1', port, path: '/tap', method: 'POST', agent: false }, (response) => {
    status = response.statusCode ?? 0;
    response.on('data', (bytes: Buffer) => {
      text += bytes;
    });
    response.on('end', () => {
      ended = true;
    });
    response.on('error', () => {});
  });
  sent.on('error', () => {});
  sent.end(JSON.stringify({ config_id: configId, tap_config: tap }));
  t.after(() => sent.destroy());
  await until(() => status !== 0, 'the answer of /tap');
  return { text: () => text, status: () => status, ended: () => ended, close: () => sent.destroy() };
}

const ANY = { match: { any_match: true } };
const stream = (more: JsonObject = {}): JsonObject => ({
  sinks: [{ format: 'JSON_BODY_AS_STRING', streaming_admin: {} }],
  ...more,
});

test('requests are shown until the client goes; then the next may tap', async (t) => {
  const proxy = await startEngine(t, await config(t));
  const address = proxy.engine.adminAddress;
  assert.ok(address?.kind === 'ip');
  const { port } = address;
  const tap = await open(t, port, {
    match: {
      and_match: {
        rules: [
          { http_request_headers_match: { headers: [{ name: 'x-show', present_match: true }] } },
          { http_response_headers_match: { headers: [{ name: ':status', string_match: { exact: '200' } }] } },
        ],
      },
    },
    output_config: stream({ max_buffered_rx_bytes: 4 }),
  });
  await ask(proxy.port('in'), '/hidden');
  await ask(proxy.port('in'), '/shown', { method: 'POST', headers: { 'x-show': '<1>' }, body: 'secret' });
  await until(() => tap.text().endsWith('}\n'), 'a trace');
  const trace = JSON.parse(tap.text()).http_buffered_trace;
  const header = (side: 'request' | 'response', key: string) =>
    trace[side].headers.find((each: JsonObject) => each.key === key)?.value;
  assert.deepEqual(
    [
      header('request', ':path'),
      header('request', ':method'),
      header('request', 'x-show'),
      header('response', ':status'),
    ],
    ['/shown', 'POST', '<1>', '200'],
  );
  assert.ok(!tap.text().includes('<1>'), 'escaped as protobuf does');
  assert.deepEqual(trace.request.body, { as_string: 'secr', truncated: true });
  assert.equal(trace.response.body.as_string, 'app');
  const second = await open(t, port, { ...ANY, output_config: stream() });
  await until(() => second.ended(), 'the refusal');
  assert.equal(second.text(), 'An attached /tap admin stream already exists. Detach it.');
  tap.close();
  await until(() => !proxy.engine.tap.attached, 'the end of the tap');
  await ask(proxy.port('in'), '/unseen');
  assert.equal(proxy.counter('http.test.tap.rq_tapped'), 1);
});

test('as many traces as were asked for, or as came in time', async (t) => {
  const proxy = await startEngine(t, await config(t));
  const { port } = proxy.engine.adminAddress as { readonly port: number };
  const collected = await open(t, port, { ...ANY, output_config: { sinks: [{ buffered_admin: { max_traces: 2 } }] } });
  for (const path of ['/1', '/2', '/3']) await ask(proxy.port('in'), path);
  await until(() => collected.ended(), 'two traces');
  assert.deepEqual(collected.text().match(/"\/\d"/g), ['"/1"', '"/2"']);
  const timed = await open(t, port, {
    ...ANY,
    output_config: { sinks: [{ buffered_admin: { max_traces: 2, timeout: '0.01s' } }] },
  });
  await until(() => timed.ended(), 'the time to be over');
  assert.equal(proxy.engine.tap.attached, false);
});

test('pieces wait until it is known whether a request is shown', async (t) => {
  const proxy = await startEngine(t, await config(t));
  const { port } = proxy.engine.adminAddress as { readonly port: number };
  const tap = await open(t, port, {
    match: { http_response_headers_match: { headers: [{ name: 'x-never', present_match: true, invert_match: true }] } },
    output_config: stream({ streaming: true }),
  });
  await ask(proxy.port('in'), '/', { method: 'POST', body: 'abc' });
  await until(() => tap.text().includes('response_body_chunk'), 'the last piece');
  const pieces = tap.text().match(/"(request|response)_\w+": \{/g);
  assert.deepEqual(pieces, [
    '"request_headers": {',
    '"request_body_chunk": {',
    '"response_headers": {',
    '"response_body_chunk": {',
  ]);
});

test('the page is there only with a filter, and says what is wrong', async (t) => {
  const plain = await startEngine(t, await config(t, [ROUTER]));
  const bare = plain.engine.adminAddress as { readonly port: number };
  assert.equal((await ask(bare.port, '/tap', { method: 'POST' })).status, 404);
  assert.doesNotMatch((await ask(bare.port, '/help')).body, /\/tap/);
  const proxy = await startEngine(t, await config(t));
  const { port } = proxy.engine.adminAddress as { readonly port: number };
  assert.match((await ask(port, '/help')).body, /\/tap \(POST\): tap filter control/);
  for (const [body, answer] of [
    ['', /^\/tap requires a JSON\/YAML body$/],
    ['x', /^Unable to convert YAML as JSON: x$/],
    ['{}', /TapRequestValidationError\.ConfigId: value length must be at least 1 characters/],
    [
      '{"config_id":"here","nope":1}',
      /^Protobuf message \(type envoy\.admin\.v3\.TapRequest reason .*no such field: 'nope'\) has unknown fields$/,
    ],
    [
      'config_id: other\ntap_config: {match: {any_match: true}, output_config: {sinks: [{streaming_admin: {}}]}}',
      /^Unknown config id 'other'/,
    ],
    [JSON.stringify({ config_id: 'x'.repeat(70_000) }), /^Payload Too Large$/],
  ] as const) {
    const { status, body: said } = await ask(port, '/tap', { method: 'POST', body });
    assert.match(said, answer);
    assert.ok(status === 400 || status === 413);
  }
});

test('a configuration in the filter itself is refused by name', async (t) => {
  const fixed = typed('tap', 'envoy.extensions.filters.http.tap.v3.Tap', {
    common_config: {
      static_config: { match: { any_match: true }, output_config: { sinks: [{ streaming_admin: {} }] } },
    },
  });
  await assert.rejects(
    startEngine(t, await config(t, [fixed, ROUTER])),
    /common_config\.static_config: field of .* is not supported/,
  );
});

test('what workers serve is shown, of one that started later too', async (t) => {
  const { main, workers, kill } = startThreads(t, await config(t), 2);
  await main.engine.start();
  await main.engine.whenLive();
  const { port } = main.engine.adminAddress as { readonly port: number };
  const tap = await open(t, port, { ...ANY, output_config: stream() });
  await until(() => workers.every(({ engine }) => engine.taps.active), 'the workers to know');
  await ask(workers[0]!.port('in'), '/first');
  await until(() => tap.text().includes('/first'), 'the trace of a worker');
  await kill(1);
  await until(() => workers[1]!.engine.taps.active, 'the new worker to know');
  await ask(workers[1]!.port('in'), '/second');
  await until(() => tap.text().includes('/second'), 'the trace of the new worker');
  tap.close();
  await until(() => workers.every(({ engine }) => !engine.taps.active), 'the workers to forget');
});

test('bodies that are nested too deep, or multiply, are refused at once', async (t) => {
  const proxy = await startEngine(t, await config(t));
  const { port } = proxy.engine.adminAddress as { readonly port: number };
  const refusal = async (body: string): Promise<string> => {
    const { status, body: text } = await ask(port, '/tap', { method: 'POST', body });
    assert.equal(status, 400);
    return text;
  };
  const deep = `${'{"not_match":'.repeat(4_000)}{"any_match":true}${'}'.repeat(4_000)}`;
  assert.match(
    await refusal(
      `{"config_id":"here","tap_config":{"match":${deep},"output_config":{"sinks":[{"streaming_admin":{}}]}}}`,
    ),
    /nested too deep$/,
  );
  assert.match(await refusal('a: &a [1, *a]\n'), /more than \d+ levels/);
  let bomb = 'a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n';
  for (let i = 1; i < 9; i++) bomb += `a${i}: &a${i} [${`*a${i - 1}, `.repeat(10)}]\n`;
  assert.match(await refusal(bomb), /more than \d+ nodes/);
});
