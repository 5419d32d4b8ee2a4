import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { EndpointSlice, SliceEndpoint } from '../../api/kubernetes/endpoint-slice.ts';
import type { Service } from '../../api/kubernetes/service.ts';
import { compileServices, EMPTY_RULES, type RuleState, transition } from './service-rules.ts';

const options = { nodeIp: '10.244.0.1', clusterDnsIp: '10.96.0.10' };
const ready = (ip: string): SliceEndpoint => ({ addresses: [ip], conditions: { ready: true } });

function service(spec: Service['spec'], name = 'web'): Service {
  const withPorts = { ports: [{ name: 'http', port: 80 }], clusterIP: '10.96.0.5', ...spec };
  return { apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'ns' }, spec: withPorts };
}

function slice(endpoints: readonly SliceEndpoint[], extra: Partial<EndpointSlice> = {}): EndpointSlice {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-1', namespace: 'ns', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
    ...extra,
    endpoints,
  };
}

const rulesOf = (s: Service, slices: readonly EndpointSlice[]): RuleState =>
  compileServices([s], slices, options).rules;
const chainsOf = (state: RuleState): string[] => [...state.chains.values()];

test('a ClusterIP spreads over the ready endpoints of all its slices', () => {
  const state = rulesOf(service({}), [
    slice([ready('10.244.0.3'), { addresses: ['10.244.0.9'], conditions: { ready: false } }]),
    slice([ready('10.244.0.2'), ready('10.244.0.3')]),
  ]);
  assert.deepEqual([...state.frontends.keys()], ['10.96.0.5 . tcp . 80']);
  assert.deepEqual(chainsOf(state), [
    'meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.0.3 . 8080 }',
  ]);
});

test('without a ready endpoint there is no rule, unless one still serves while it ends', () => {
  const ending = { addresses: ['10.244.0.4'], conditions: { ready: false, serving: true, terminating: true } };
  assert.equal(rulesOf(service({}), [slice([])]).frontends.size, 0);
  assert.deepEqual(chainsOf(rulesOf(service({}), [slice([ending])])), ['meta l4proto tcp dnat ip to 10.244.0.4:8080']);
  assert.deepEqual(chainsOf(rulesOf(service({}), [slice([ending, ready('10.244.0.2')])])), [
    'meta l4proto tcp dnat ip to 10.244.0.2:8080',
  ]);
});

test('headless, ExternalName, the DNS address, other families and other ports get nothing', () => {
  const one = [slice([ready('10.244.0.2')])];
  assert.equal(rulesOf(service({ clusterIP: 'None' }), one).frontends.size, 0);
  assert.equal(rulesOf(service({ type: 'ExternalName', externalName: 'x' }), one).frontends.size, 0);
  assert.equal(rulesOf(service({ clusterIP: '10.96.0.10' }), one).frontends.size, 0);
  assert.equal(rulesOf(service({}), [slice([ready('fd00::2')], { addressType: 'IPv6' })]).frontends.size, 0);
  assert.equal(rulesOf(service({ ports: [{ name: 'other', port: 81 }] }), one).frontends.size, 0);
});

test('host ports: node ports and load balancers, TCP only; the rest is said', () => {
  const ports = [{ name: 'http', port: 80, nodePort: 30080 }];
  const balanced = compileServices([service({ type: 'LoadBalancer', ports })], [slice([ready('10.244.0.2')])], options);
  assert.deepEqual(
    balanced.hostPorts.map((p) => [p.kind, p.port, p.target.ip, p.target.port]),
    [
      ['node-port', 30080, '10.96.0.5', 80],
      ['load-balancer', 80, '10.96.0.5', 80],
    ],
  );
  assert.ok(balanced.rules.frontends.has('10.244.0.1 . tcp . 30080'));
  const foreign = service({ type: 'LoadBalancer', loadBalancerClass: 'x/y', ports });
  assert.deepEqual(
    compileServices([foreign], [slice([ready('10.244.0.2')])], options).hostPorts.map((p) => p.kind),
    ['node-port'],
  );
  const udp = service({ type: 'NodePort', ports: [{ name: 'http', port: 53, protocol: 'UDP', nodePort: 30053 }] });
  assert.match(compileServices([udp], [], options).unsupported[0]?.message ?? '', /53\/UDP is not opened on the host/);
});

test('ClientIP affinity remembers clients per endpoint, and a joining endpoint keeps the others memory', () => {
  const sticky = service({
    sessionAffinity: 'ClientIP',
    sessionAffinityConfig: { clientIP: { timeoutSeconds: 60 } },
  });
  const two = rulesOf(sticky, [slice([ready('10.244.0.2'), ready('10.244.0.3')])]);
  assert.deepEqual([...two.sets.values()], [60, 60]);
  const three = rulesOf(sticky, [slice([ready('10.244.0.2'), ready('10.244.0.3'), ready('10.244.0.4')])]);
  const text = transition(two, three);
  assert.ok(!text.includes('delete set'));
  assert.equal(text.match(/^add set/gm)?.length, 1);
});

/** What the kernel would hold after running `text` on `state`: refuses what the kernel refuses. */
function run(state: RuleState, text: string): RuleState {
  const frontends = new Map(state.frontends);
  const chains = new Map(state.chains);
  const sets = new Map(state.sets);
  for (const line of text.split('\n').filter((l) => l !== '')) {
    const element = /^(add|delete) element ip meltemi services \{ (\S+ \. \S+ \. \d+)(?: : goto (\S+))? \}$/.exec(line);
    const object = /^(add|flush|delete) (chain|set|rule) ip meltemi (\S+) ?(.*)$/.exec(line);
    if (element?.[1] === 'add') {
      assert.ok(chains.has(element[3]!) && !frontends.has(element[2]!), line);
      frontends.set(element[2]!, element[3]!);
    } else if (element) assert.ok(frontends.delete(element[2]!), line);
    else if (object?.[2] === 'set') {
      if (object[1] === 'add') sets.set(object[3]!, Number(/timeout (\d+)s/.exec(line)?.[1]));
      else assert.ok(sets.delete(object[3]!) && ![...chains.values()].some((c) => c.includes(object[3]!)), line);
    } else if (object?.[2] === 'rule') {
      for (const [, name] of line.matchAll(/@(a_\w+)/g)) assert.ok(sets.has(name!), line);
      const before = chains.get(object[3]!);
      chains.set(object[3]!, before ? `${before}\n${object[4]}` : object[4]!);
    } else if (object?.[1] === 'delete') {
      assert.ok(![...frontends.values()].includes(object[3]!), line);
      assert.ok(chains.delete(object[3]!), line);
    } else if (object?.[1] === 'flush') chains.set(object[3]!, '');
    else if (!chains.has(object![3]!)) chains.set(object![3]!, '');
  }
  return { frontends, chains, sets };
}

test('a transition leads from any state to any other, and to nothing when they are the same', () => {
  const anyState = fc
    .array(
      fc.record({
        name: fc.constantFrom('web', 'api'),
        affinity: fc.constantFrom('None' as const, 'ClientIP' as const),
        clusterIP: fc.constantFrom('10.96.0.5', '10.96.0.6'),
        ips: fc.uniqueArray(fc.integer({ min: 2, max: 5 }), { maxLength: 3 }),
      }),
      { maxLength: 2 },
    )
    .map(
      (all) =>
        compileServices(
          all.map((s) => service({ clusterIP: s.clusterIP, sessionAffinity: s.affinity }, s.name)),
          all.map((s) =>
            slice(
              s.ips.map((octet) => ready(`10.244.0.${octet}`)),
              {
                metadata: { name: s.name, namespace: 'ns', labels: { 'kubernetes.io/service-name': s.name } },
              },
            ),
          ),
          options,
        ).rules,
    );
  fc.assert(
    fc.property(anyState, anyState, (from, to) => {
      const start = run(EMPTY_RULES, transition(EMPTY_RULES, from));
      assert.deepEqual(start, from);
      assert.deepEqual(run(from, transition(from, to)), { frontends: to.frontends, chains: to.chains, sets: to.sets });
      assert.equal(transition(to, to), '');
    }),
    { numRuns: 200 },
  );
});
