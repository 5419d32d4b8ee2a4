// Layers of the runtime: forms of values, order, disk trees, overrides, RTDS, what is refused, and features that ask.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fromJson, type JsonObject } from '@bufbuild/protobuf';
import { LayeredRuntimeSchema } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { RuntimeFractionalPercentSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import { StatsStore } from '../stats/stats.ts';
import type { RuntimeFiles } from './disk.ts';
import { Runtime, runtimeShare } from './runtime.ts';

/** A tree of files by path. */
function tree(files: Record<string, string>): RuntimeFiles & { change: () => void } {
  let changed = () => {};
  return {
    change: () => changed(),
    list(path) {
      const names = new Map<string, boolean>();
      for (const file of Object.keys(files))
        if (file.startsWith(`${path}/`)) {
          const [name, ...rest] = file.slice(path.length + 1).split('/');
          names.set(name!, rest.length > 0);
        }
      return names.size === 0 ? undefined : [...names].map(([name, directory]) => ({ name, directory }));
    },
    read: (path) => files[path] ?? assert.fail(path),
    watch(_path, run) {
      changed = run;
      return () => {
        changed = () => {};
      };
    },
  };
}

function make(layers: JsonObject[], files: Record<string, string> = {}) {
  const stats = new StatsStore();
  const disk = tree(files);
  const runtime = new Runtime(fromJson(LayeredRuntimeSchema, { layers }), { stats, files: disk, serviceCluster: 'me' });
  return { runtime, stats, disk };
}

test('a structure becomes dotted keys with every form a feature asks for', () => {
  const { runtime, stats } = make([
    {
      name: 's',
      static_layer: {
        a: { b: 7, c: true, d: 'x y', e: { numerator: 5, denominator: 'TEN_THOUSAND' } },
        g: '12',
        h: 'FALSE',
      },
    },
  ]);
  assert.equal(runtime.number('a.b', 0), 7);
  assert.equal(runtime.share('a.b', 1), 0.07);
  assert.equal(runtime.featureEnabled('a.c', false), true);
  assert.equal(runtime.featureEnabled('h', true), false);
  assert.equal(runtime.text('a.d'), 'x y');
  assert.equal(runtime.share('a.e', 1), 0.0005);
  assert.equal(runtime.number('g', 0), 12);
  // A value of another form leaves the default.
  assert.equal(runtime.number('a.d', 3), 3);
  assert.equal(runtime.featureEnabled('a.b', true), true);
  assert.equal(stats.gauge('runtime.num_keys').value, 6);
});

test('later layers win; an empty override takes one away', () => {
  const { runtime, stats } = make([
    { name: 's', static_layer: { k: 1 } },
    { name: 'a', admin_layer: {} },
  ]);
  assert.equal(runtime.override(new Map([['k', '9']])), true);
  assert.equal(runtime.number('k', 0), 9);
  assert.deepEqual(runtime.dump(), {
    layers: ['s', 'a'],
    entries: { k: { final_value: '9', layer_values: ['1', '9'] } },
  });
  assert.equal(stats.gauge('runtime.admin_overrides_active').value, 1);
  runtime.override(new Map([['k', '']]));
  assert.equal(runtime.number('k', 0), 1);
  assert.equal(stats.gauge('runtime.admin_overrides_active').value, 0);
  assert.equal(make([]).runtime.override(new Map([['k', '1']])), false);
});

test('disk layers are trees of files and follow their link', () => {
  const files: Record<string, string> = {
    '/r/cur/x/me/p/q': '  5\n# why\n',
    '/r/cur/x/me/f': 'numerator: 3\ndenominator: MILLION\n',
  };
  const layer = { symlink_root: '/r/cur', subdirectory: 'x', append_service_cluster: true };
  const { runtime, disk, stats } = make([{ name: 'd', disk_layer: layer }], files);
  assert.equal(runtime.number('p.q', 0), 5);
  assert.equal(runtime.share('f', 1), 3e-6);
  assert.equal(stats.counter('runtime.override_dir_exists').value, 1);
  runtime.watch();
  files['/r/cur/x/me/p/q'] = '6';
  disk.change();
  assert.equal(runtime.number('p.q', 0), 6);
  runtime.stop();
});

test('a disk layer that cannot be read keeps what it had', () => {
  const files: Record<string, string> = { '/r/x/k': '1' };
  const { runtime, disk, stats } = make([{ name: 'd', disk_layer: { symlink_root: '/r', subdirectory: 'x' } }], files);
  runtime.watch();
  files['/r/x/k'] = 'z'.repeat(100_000);
  disk.change();
  assert.equal(runtime.number('k', 0), 1);
  assert.equal(stats.counter('runtime.load_error').value, 1);
});

test('RTDS fills only its own layer, and a bad value changes nothing', () => {
  const { runtime } = make([{ name: 'r', rtds_layer: { name: 'res', rtds_config: { ads: {} } } }]);
  assert.deepEqual(
    runtime.rtds().map((entry) => [entry.layer, entry.message.name]),
    [['r', 'res']],
  );
  runtime.setLayer('r', { k: { numerator: 30 } });
  const share = runtimeShare(
    runtime,
    fromJson(RuntimeFractionalPercentSchema, { default_value: { numerator: 100 }, runtime_key: 'k' }),
    1,
  );
  assert.equal(share(), 0.3);
  assert.throws(() => runtime.setLayer('r', { k: [1] }), /Invalid runtime entry value for k/);
  assert.equal(share(), 0.3);
  runtime.setLayer('r', {});
  assert.equal(share(), 1);
  assert.throws(() => runtime.setLayer('nope', {}), /no RTDS layer/);
});

test('layers that cannot be used are refused', () => {
  assert.throws(() => make([{ name: 's', static_layer: { i: null } }]), /Invalid runtime entry value for i/);
  assert.throws(
    () =>
      make([
        { name: 'a', admin_layer: {} },
        { name: 'b', admin_layer: {} },
      ]),
    /Too many admin layers/,
  );
  assert.throws(
    () =>
      make([
        { name: 'a', static_layer: {} },
        { name: 'a', static_layer: {} },
      ]),
    /Duplicate layer name: a/,
  );
  assert.throws(() => make([{ name: 'a' }]), /layer_specifier: value is required/);
});
