// A chain that cannot use a discovered extension leaves those alone that can.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create } from '@bufbuild/protobuf';
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt';
import { ExtensionConfigSourceSchema } from '#proto/envoy/config/core/v3/config_source_pb.js';
import { TypedExtensionConfigSchema } from '#proto/envoy/config/core/v3/extension_pb.js';
import type { ExtensionCategory } from '../config/discovered.ts';
import { ConfigError } from '../config/fields.ts';
import { ExtensionManager } from './ecds.ts';
import type { DiscoveryHub, NamedSink } from './hub.ts';

const MESSAGE = create(ExtensionConfigSourceSchema, {
  configSource: { configSourceSpecifier: { case: 'ads', value: {} } },
});
const refusal = (): never => {
  throw new ConfigError('', 'not here');
};

function start() {
  const sinks: NamedSink<unknown>[] = [];
  let refuse = false;
  const hub = {
    named(_source: unknown, _kind: unknown, _name: string, sink: NamedSink<unknown>) {
      if (refuse) refusal();
      sinks.push(sink);
      return () => {};
    },
  };
  const manager = new ExtensionManager(hub as unknown as DiscoveryHub);
  return {
    follow: (
      build: (any: Any) => { readonly type?: string; dispose?(): void },
      category: ExtensionCategory = 'http_filter',
    ) => manager.subscribe(category, 'x', MESSAGE, build, 'p'),
    push(type: string) {
      const typedConfig = create(AnySchema, { typeUrl: type });
      for (const sink of sinks) sink.update(create(TypedExtensionConfigSchema, { name: 'x', typedConfig }), '1');
    },
    refuseAll(on: boolean) {
      refuse = on;
    },
  };
}

test('who refused a configuration that was there is not asked about later ones', () => {
  const { follow, push } = start();
  const good = follow((any) => ({ type: any.typeUrl }));
  push('a');
  assert.throws(() => follow(refusal), ConfigError);
  push('b');
  assert.deepEqual(good.live.current(), { type: 'b' });
});

test('a source that cannot be followed is tried anew', () => {
  const { follow, push, refuseAll } = start();
  refuseAll(true);
  assert.throws(() => follow(() => ({})), ConfigError);
  refuseAll(false);
  const good = follow((any) => ({ type: any.typeUrl }));
  push('a');
  assert.deepEqual(good.live.current(), { type: 'a' });
});

test('filters of two kinds follow one name: each takes what is meant for its kind', () => {
  const { follow, push } = start();
  const only = (type: string) => (any: Any) => (any.typeUrl === type ? { type } : refusal());
  const http = follow(only('http'));
  push('http');
  const network = follow(only('network'), 'network_filter');
  assert.deepEqual(
    [http.live.current(), network.live.current(), network.live.ready()],
    [{ type: 'http' }, undefined, true],
  );
  push('network');
  assert.deepEqual([http.live.current(), network.live.current()], [{ type: 'http' }, { type: 'network' }]);
  assert.throws(() => push('neither'), ConfigError);
  http.release();
  push('network');
  assert.deepEqual(network.live.current(), { type: 'network' });
});
