import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Pod } from '../../api/kubernetes/pod.ts';
import { decide, nextBackoff } from './decide.ts';
import { allContainers, type ContainerRecord, newRecord, type PodState } from './records.ts';
import { podStatus } from './status.ts';

type Shape = 'none' | 'running' | 'unstarted' | number;

function pod(policy: 'Always' | 'OnFailure' | 'Never', init: readonly string[] = []): Pod {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name: 'p', namespace: 'n', uid: 'u' },
    spec: {
      restartPolicy: policy,
      initContainers: init.map((name) =>
        name.startsWith('side') ? { name, restartPolicy: 'Always' as const } : { name },
      ),
      containers: [{ name: 'a' }, { name: 'b' }],
    },
  };
}

function state(of: Pod, shapes: Readonly<Record<string, Shape>>): PodState {
  const containers: Record<string, ContainerRecord> = {};
  for (const { container, kind } of allContainers(of.spec)) {
    const shape = shapes[container.name] ?? 'none';
    const instance = {
      id: `u_${container.name}_0`,
      attempt: 0,
      bundle: '',
      logFile: '',
      messageFile: '',
      hooked: true,
    };
    const record = newRecord(container.name, kind);
    if (shape === 'none') containers[container.name] = record;
    else if (typeof shape === 'number')
      containers[container.name] = {
        ...record,
        current: {
          ...instance,
          startedAt: 1,
          exit: { code: shape, reason: shape ? 'Error' : 'Completed', finishedAt: 1000 },
        },
      };
    else
      containers[container.name] = {
        ...record,
        current: { ...instance, startedAt: 1 },
        startupPassed: shape === 'running',
        ready: shape === 'running',
      };
  }
  return { namespace: 'n', name: 'p', uid: 'u', startTime: 0, podIp: '10.0.0.2', sandbox: true, containers, pod: of };
}

const starts = (of: Pod, shapes: Readonly<Record<string, Shape>>): string => {
  const decision = decide(of, state(of, shapes), 2000);
  return decision.kind === 'start' ? decision.names.join(' ') : decision.kind;
};

test('init containers one by one, sidecars when they have started, then the rest', () => {
  const p = pod('Always', ['one', 'side', 'two']);
  assert.equal(starts(p, {}), 'one');
  assert.equal(starts(p, { one: 'running' }), 'idle');
  assert.equal(starts(p, { one: 0 }), 'side');
  assert.equal(starts(p, { one: 0, side: 'unstarted' }), 'idle');
  assert.equal(starts(p, { one: 0, side: 'running' }), 'two');
  assert.equal(starts(p, { one: 0, side: 'running', two: 0 }), 'a b');
  assert.equal(starts(p, { one: 0, side: 'running', two: 0, a: 'running' }), 'b');
  assert.equal(starts(p, { one: 0, side: 1, two: 0, a: 'running', b: 'running' }), 'side', 'a sidecar comes back');
  assert.equal(starts(p, { one: 4 }), 'one', 'a failed init container is tried again');
  assert.equal(starts(pod('Never', ['one']), { one: 4 }), 'fail');
});

test('restart policies', () => {
  assert.equal(starts(pod('Always'), { a: 0, b: 'running' }), 'a');
  assert.equal(starts(pod('OnFailure'), { a: 0, b: 'running' }), 'idle');
  assert.equal(starts(pod('OnFailure'), { a: 1, b: 0 }), 'a');
  assert.equal(starts(pod('OnFailure'), { a: 0, b: 0 }), 'finish');
  assert.equal(starts(pod('Never'), { a: 1, b: 'running' }), 'idle');
  assert.equal(starts(pod('Never'), { a: 1, b: 0 }), 'finish');
});

test('the wait after a crash doubles to five minutes and is forgotten after ten', () => {
  let backoff = nextBackoff(undefined, 0);
  const seen = [backoff.ms];
  for (let i = 0; i < 6; i++) {
    backoff = nextBackoff(backoff, 0);
    seen.push(backoff.ms);
  }
  assert.deepEqual(seen, [10_000, 20_000, 40_000, 80_000, 160_000, 300_000, 300_000]);
  assert.equal(nextBackoff(backoff, 600_001).ms, 10_000);
  const p = pod('Always');
  const crashed = state(p, { a: 1, b: 'running' });
  const waiting = {
    ...crashed,
    containers: { ...crashed.containers, a: { ...crashed.containers.a!, backoff: { ms: 10_000, since: 0 } } },
  };
  assert.deepEqual(decide(p, waiting, 2000), { kind: 'idle', waits: [{ name: 'a', ms: 10_000, until: 11_000 }] });
  assert.equal(decide(p, waiting, 11_000).kind, 'start');
});

const status = (of: Pod, shapes: Readonly<Record<string, Shape>>) =>
  podStatus({ pod: of, state: state(of, shapes), hostIp: '10.0.0.1', now: 5000 });
const condition = (of: Pod, shapes: Readonly<Record<string, Shape>>, type: string) => {
  const found = status(of, shapes).conditions?.find((c) => c.type === type);
  return [found?.status, found?.reason, found?.message];
};

test('phase', () => {
  const p = pod('Never', ['side']);
  assert.equal(status(p, {}).phase, 'Pending');
  assert.equal(status(p, { side: 'running', a: 'running' }).phase, 'Pending');
  assert.equal(status(p, { side: 'running', a: 'running', b: 'running' }).phase, 'Running');
  assert.equal(status(p, { side: 'running', a: 0, b: 0 }).phase, 'Running', 'until its sidecar has ended');
  assert.equal(status(p, { side: 0, a: 0, b: 0 }).phase, 'Succeeded');
  assert.equal(status(p, { side: 0, a: 1, b: 0 }).phase, 'Failed');
  assert.equal(status(pod('Always'), { a: 1, b: 1 }).phase, 'Running');
  assert.equal(status(pod('Never', ['one']), { one: 3 }).phase, 'Failed');
});

test('conditions and states say why', () => {
  const p = pod('Always', ['one', 'side']);
  assert.deepEqual(condition(p, { one: 'running' }, 'Initialized'), [
    'False',
    'ContainersNotInitialized',
    'containers with incomplete status: [one side]',
  ]);
  assert.deepEqual(condition(p, { one: 0, side: 'running', a: 'running', b: 'unstarted' }, 'Ready'), [
    'False',
    'ContainersNotReady',
    'containers with unready status: [b]',
  ]);
  assert.deepEqual(condition(p, { one: 0, side: 'running', a: 'running', b: 'running' }, 'Ready'), [
    'True',
    undefined,
    undefined,
  ]);
  assert.equal(status(p, {}).containerStatuses?.[0]?.state?.waiting?.reason, 'PodInitializing');
  assert.equal(status(pod('Always'), {}).containerStatuses?.[0]?.state?.waiting?.reason, 'ContainerCreating');
  assert.deepEqual(condition(pod('Never'), { a: 0, b: 0 }, 'Ready'), ['False', 'PodCompleted', undefined]);
  assert.equal(status(p, {}).startTime, '1970-01-01T00:00:00Z');
  const gated: Pod = { ...pod('Always'), spec: { ...pod('Always').spec, readinessGates: [{ conditionType: 'x/y' }] } };
  assert.equal(condition(gated, { a: 'running', b: 'running' }, 'Ready')[1], 'ReadinessGatesNotReady');
  assert.equal(condition(gated, { a: 'running', b: 'running' }, 'ContainersReady')[0], 'True');
});
