// What clients can do to the memory of hosts found on demand: names they make up neither fill it nor keep others out.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { create, toBinary } from '@bufbuild/protobuf';
import { AnySchema } from '@bufbuild/protobuf/wkt';
import { VirtualHostSchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import { MAX_ON_DEMAND_ABSENT, MAX_ON_DEMAND_HOSTS } from '../limits.ts';
import { StatsStore } from '../stats/stats.ts';
import type { DiscoveryHub } from './hub.ts';
import { VHDS } from './kinds.ts';
import type { Source } from './source.ts';
import type { Receiver } from './update.ts';
import { HostDiscovery } from './vhds.ts';

/** A table `r` whose server answers at once. */
function start(known: ReadonlySet<string>) {
  let receiver: Receiver | undefined;
  const seen = { updates: 0 };
  let wanted: ReadonlySet<string> = new Set();
  const hub = {
    receive: (_source: Source, _kind: unknown, given: Receiver) => {
      receiver = given;
      return {
        setNames: (names: ReadonlySet<string>) => {
          wanted = names;
        },
        stop() {},
      };
    },
  };
  const source = { key: 's' } as Source;
  const table = new HostDiscovery(hub as unknown as DiscoveryHub, new StatsStore()).follow(
    source,
    'r',
    {
      statPrefix: '',
      update() {
        seen.updates += 1;
      },
    },
    '',
  );
  /** False: it was not asked for. */
  const ask = (host: string): boolean => {
    let answered = false;
    const asked = table.request(host, () => {
      answered = true;
    });
    if (!asked) return false;
    const value = toBinary(VirtualHostSchema, create(VirtualHostSchema, { name: host, domains: [host] }));
    const any = known.has(host) ? create(AnySchema, { typeUrl: VHDS.typeUrl, value }) : undefined;
    const resource = { name: `r/${host}`, version: '1', any, aliases: [], ttlMs: undefined };
    receiver!.apply({ resources: [resource], removed: [], version: '', complete: false });
    assert.ok(answered);
    return true;
  };
  return { ask, seen, receiver: () => receiver!, wanted: () => wanted };
}

test('names that clients make up keep nobody out, and only the last of them are remembered', async () => {
  const { ask, wanted, receiver, seen } = start(new Set(['real', 'late']));
  assert.equal(ask('real'), true);
  for (let i = 0; i <= MAX_ON_DEMAND_HOSTS; i++) ask(`made-up-${i}`);
  assert.equal(ask('late'), true);
  assert.equal(seen.updates, 2, 'names without a host leave the table alone');
  assert.equal(ask('real'), false, 'it is known');
  assert.equal(ask(`made-up-${MAX_ON_DEMAND_HOSTS}`), false, 'it is known to be absent');
  assert.ok(wanted().size <= MAX_ON_DEMAND_ABSENT + 4, String(wanted().size));
  assert.ok(wanted().has('r/real'));
  // A worker that asks is told at once, and of what was forgotten the server is asked anew.
  assert.equal(receiver().ask!('r/real'), true);
  assert.equal(receiver().ask!(`r/made-up-${MAX_ON_DEMAND_HOSTS}`), false);
  assert.equal(ask('made-up-0'), false, 'the server does not know yet');
  await Promise.resolve();
  assert.ok(!wanted().has('r/made-up-0'));
  assert.equal(receiver().ask!('r/made-up-0'), true);
  assert.ok(wanted().has('r/made-up-0'));
});
