// The Pod row: ready count, the status word that people look for, restarts. Called by columns.ts.
import { at, type Dict, dict, dicts, num, str } from '../json.ts';
import { age, orNone } from './format.ts';

export function podRow(pod: Dict, now: number): unknown[] {
  const spec = dict(pod.spec);
  const status = dict(pod.status);
  const summary = summarize(pod);
  const restarts =
    summary.restarts > 0 && summary.lastRestart
      ? `${summary.restarts} (${age(summary.lastRestart, now)} ago)`
      : String(summary.restarts);
  return [
    at(pod, 'metadata', 'name'),
    `${summary.ready}/${summary.total}`,
    summary.reason,
    restarts,
    age(at(pod, 'metadata', 'creationTimestamp'), now),
    orNone(str(dicts(status.podIPs)[0]?.ip) || str(status.podIP)),
    orNone(str(spec.nodeName)),
    orNone(str(status.nominatedNodeName)),
    readinessGates(pod),
  ];
}

function readinessGates(pod: Dict): string {
  const gates = dicts(at(pod, 'spec', 'readinessGates'));
  if (gates.length === 0) return '<none>';
  const conditions = dicts(at(pod, 'status', 'conditions'));
  const met = gates.filter((gate) =>
    conditions.some((item) => item.type === gate.conditionType && item.status === 'True'),
  );
  return `${met.length}/${gates.length}`;
}

interface Summary {
  readonly ready: number;
  readonly total: number;
  readonly reason: string;
  readonly restarts: number;
  readonly lastRestart: string | undefined;
}

function summarize(pod: Dict): Summary {
  const spec = dict(pod.spec);
  const status = dict(pod.status);
  const inits = dicts(spec.initContainers);
  const isSidecar = (name: unknown): boolean =>
    inits.some((item) => item.name === name && item.restartPolicy === 'Always');
  const main = dicts(status.containerStatuses);
  const initStatuses = dicts(status.initContainerStatuses);
  let reason = str(status.reason) || str(status.phase);
  if (dicts(status.conditions).some((item) => item.type === 'PodScheduled' && item.reason === 'SchedulingGated'))
    reason = 'SchedulingGated';
  const init = initReason(initStatuses, inits.length, isSidecar);
  const sidecars = initStatuses.filter((item) => isSidecar(item.name));
  const total = dicts(spec.containers).length + inits.filter((item) => item.restartPolicy === 'Always').length;
  const counted = init.blocking ? initStatuses : [...main, ...sidecars];
  const restarts = counted.reduce((sum, item) => sum + num(item.restartCount), 0);
  const lastRestart = counted
    .map((item) => str(at(item, 'lastState', 'terminated', 'finishedAt')))
    .filter((time) => time !== '')
    .sort()
    .at(-1);
  let ready = sidecars.filter((item) => item.ready === true).length;
  if (init.blocking) reason = init.reason;
  else {
    ready += main.filter((item) => item.ready === true && at(item, 'state', 'running') !== undefined).length;
    reason = mainReason(main, dicts(status.conditions), reason);
  }
  if (at(pod, 'metadata', 'deletionTimestamp') !== undefined)
    reason =
      status.reason === 'NodeLost'
        ? 'Unknown'
        : ['Succeeded', 'Failed'].includes(str(status.phase))
          ? reason
          : 'Terminating';
  return { ready, total, reason, restarts, lastRestart };
}

function initReason(
  statuses: readonly Dict[],
  total: number,
  isSidecar: (name: unknown) => boolean,
): { readonly blocking: boolean; readonly reason: string } {
  for (const [index, item] of statuses.entries()) {
    const terminated = at(item, 'state', 'terminated');
    const waiting = at(item, 'state', 'waiting');
    if (terminated !== undefined && num(at(terminated, 'exitCode')) === 0) continue;
    if (isSidecar(item.name) && item.started === true) continue;
    if (terminated !== undefined) return { blocking: true, reason: `Init:${terminationText(dict(terminated))}` };
    const why = str(at(waiting, 'reason'));
    if (why !== '' && why !== 'PodInitializing') return { blocking: true, reason: `Init:${why}` };
    return { blocking: true, reason: `Init:${index}/${total}` };
  }
  return { blocking: false, reason: '' };
}

function terminationText(terminated: Dict): string {
  if (terminated.reason) return str(terminated.reason);
  return num(terminated.signal) !== 0 ? `Signal:${num(terminated.signal)}` : `ExitCode:${num(terminated.exitCode)}`;
}

function mainReason(statuses: readonly Dict[], conditions: readonly Dict[], phase: string): string {
  let reason = phase;
  let running = false;
  for (const item of [...statuses].reverse()) {
    const waiting = str(at(item, 'state', 'waiting', 'reason'));
    const terminated = at(item, 'state', 'terminated');
    if (waiting !== '') reason = waiting;
    else if (terminated !== undefined) reason = terminationText(dict(terminated));
    else if (item.ready === true && at(item, 'state', 'running') !== undefined) running = true;
  }
  // One container done, another still at work.
  if (reason === 'Completed' && running)
    return conditions.some((item) => item.type === 'Ready' && item.status === 'True') ? 'Running' : 'NotReady';
  return reason;
}
