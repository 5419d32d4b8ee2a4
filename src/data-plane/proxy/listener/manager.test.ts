// Statistics of listeners live as long as their listeners: through changes of every kind, and not after the last version.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { ListenerSchema } from '#proto/envoy/config/listener/v3/listener_pb.js';
import { extensionRegistry } from '../config/bootstrap.ts';
import { ConfigError } from '../config/fields.ts';
import { bootstrap, hcm, listener, raw, routes, startEngine, until } from '../testing/engine.ts';

const direct = (status: number): JsonObject => ({ match: { prefix: '/' }, direct_response: { status } });

test('statistics of a listener outlive its changes and refusals, and go with it', async (t) => {
  const proxy = await startEngine(t, bootstrap([], []));
  const { listeners, stats } = proxy.engine;
  const apply = (status: number, extra: JsonObject = {}) => {
    const message = listener('in', [{ filters: [hcm(routes([direct(status)]))] }], { stat_prefix: 'mine', ...extra });
    return listeners.apply(fromJson(ListenerSchema, message, { registry: extensionRegistry }), false);
  };
  const names = (): string[] =>
    [...stats.counters, ...stats.gauges].map(([name]) => name).filter((name) => name.startsWith('listener.mine.'));
  const asked = async (status: number): Promise<void> => {
    const bound = () => listeners.views()[0]?.bound[0];
    await until(() => (bound() as { readonly port: number } | undefined)?.port !== 0, 'the listener is bound');
    const { text } = await raw(proxy.port('in'), 'GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n');
    assert.match(text, new RegExp(`^HTTP/1.1 ${status}`));
  };
  assert.throws(() => apply(200, { access_log: [{ name: 'x' }] }), ConfigError);
  assert.deepEqual(names(), []);
  apply(200);
  await asked(200);
  // Only a chain is another, then more than that.
  apply(201);
  await asked(201);
  apply(202, { tcp_backlog_size: 7 });
  await asked(202);
  assert.throws(() => apply(203, { access_log: [{ name: 'x' }] }), ConfigError);
  assert.equal(proxy.counter('listener.mine.downstream_cx_total'), 3);
  assert.equal(proxy.counter('listener.mine.http.test.downstream_rq_2xx'), 3);
  listeners.remove('in');
  await until(() => names().length === 0, 'the end of the last version');
});
