// Reads overload_manager of the bootstrap: which resources are watched and what happens when one runs out. What this proxy
// cannot do is refused by name. Called by the engine.
import {
  LoadShedPointSchema,
  type OverloadAction,
  OverloadActionSchema,
  type OverloadManager,
  OverloadManagerSchema,
  ResourceMonitorSchema,
  ScaledTriggerSchema,
  ScaleTimersOverloadActionConfig_ScaleTimerSchema,
  ScaleTimersOverloadActionConfig_TimerType,
  ScaleTimersOverloadActionConfigSchema,
  ThresholdTriggerSchema,
  type Trigger,
  TriggerSchema,
} from '#proto/envoy/config/overload/v3/overload_pb.js';
import { CgroupMemoryConfigSchema } from '#proto/envoy/extensions/resource_monitors/cgroup_memory/v3/cgroup_memory_pb.js';
import { DownstreamConnectionsConfigSchema } from '#proto/envoy/extensions/resource_monitors/downstream_connections/v3/downstream_connections_pb.js';
import { FixedHeapConfigSchema } from '#proto/envoy/extensions/resource_monitors/fixed_heap/v3/fixed_heap_pb.js';
import { buildExtension, type Extension, extension, openAny } from '../config/any.ts';
import { ConfigError, join, millis, only } from '../config/fields.ts';

export type Monitor =
  | { readonly name: string; readonly kind: 'fixed-heap'; readonly maxBytes: number }
  /** `maxBytes` undefined: the limit of the cgroup itself. */
  | { readonly name: string; readonly kind: 'cgroup-memory'; readonly maxBytes: number | undefined };

/** Pressure of a resource (0 to 1) to how far an action goes (0 to 1). */
export interface ReadTrigger {
  readonly resource: string;
  stateOf(pressure: number): number;
}

const ACTIONS = [
  'stop_accepting_requests',
  'stop_accepting_connections',
  'reject_incoming_connections',
  'disable_http_keepalive',
  'reduce_timeouts',
  'shrink_heap',
] as const;
const POINTS = ['tcp_listener_accept', 'http_connection_manager_decode_headers'] as const;
export type ActionName = (typeof ACTIONS)[number] | (typeof POINTS)[number];

export interface Action {
  readonly name: ActionName;
  /** As in statistics. */
  readonly fullName: string;
  readonly triggers: readonly ReadTrigger[];
  /** Of reduce_timeouts: the least idle timeout, as a factor and in ms. */
  readonly minScale: number;
  readonly minMs: number;
}

export interface OverloadConfig {
  readonly refreshMs: number;
  readonly maxConnections: number;
  readonly monitors: readonly Monitor[];
  readonly actions: readonly Action[];
}

const DEFAULT_REFRESH_MS = 1_000;

const MONITORS: readonly Extension<string, Monitor | { readonly kind: 'connections'; readonly max: number }>[] = [
  extension(FixedHeapConfigSchema, (message, name, path) => {
    only(FixedHeapConfigSchema, message, path, ['max_heap_size_bytes']);
    if (message.maxHeapSizeBytes <= 0n)
      throw new ConfigError(join(path, 'max_heap_size_bytes'), 'value must be greater than 0');
    return { kind: 'fixed-heap', name, maxBytes: Number(message.maxHeapSizeBytes) };
  }),
  extension(CgroupMemoryConfigSchema, (message, name) => ({
    kind: 'cgroup-memory',
    name,
    maxBytes: message.maxMemoryBytes === undefined ? undefined : Number(message.maxMemoryBytes),
  })),
  extension(DownstreamConnectionsConfigSchema, (message, _name, path) => {
    const max = message.maxActiveDownstreamConnections;
    if (max <= 0n)
      throw new ConfigError(join(path, 'max_active_downstream_connections'), 'value must be greater than 0');
    return { kind: 'connections', max: Number(max) };
  }),
];

/** Throws ConfigError. */
export function readOverload(message: OverloadManager | undefined): OverloadConfig {
  const none = { refreshMs: DEFAULT_REFRESH_MS, maxConnections: Number.POSITIVE_INFINITY, monitors: [], actions: [] };
  if (!message) return none;
  const path = 'overload_manager';
  only(OverloadManagerSchema, message, path, ['refresh_interval', 'resource_monitors', 'actions', 'loadshed_points']);
  let { maxConnections } = none;
  const monitors: Monitor[] = [];
  for (const [i, entry] of message.resourceMonitors.entries()) {
    const at = `${path}.resource_monitors[${i}]`;
    only(ResourceMonitorSchema, entry, at, ['name', 'typed_config']);
    const read = buildExtension(MONITORS, entry.configType.value, entry.name, entry.name, at);
    if (read.kind === 'connections') maxConnections = read.max;
    else if (monitors.some(({ name }) => name === read.name))
      throw new ConfigError(at, `Duplicate resource monitor ${read.name}`);
    else monitors.push(read);
  }
  const known = new Set(monitors.map(({ name }) => name));
  const actions = message.actions.map((action, i) => readAction(action, known, `${path}.actions[${i}]`));
  const points = message.loadshedPoints.map((point, i): Action => {
    const at = `${path}.loadshed_points[${i}]`;
    only(LoadShedPointSchema, point, at, ['name', 'triggers']);
    const name = POINTS.find((each) => point.name === `envoy.load_shed_points.${each}`);
    if (!name) throw new ConfigError(join(at, 'name'), `Unknown load shed point '${point.name}'`);
    return { name, fullName: point.name, triggers: triggersOf(point.triggers, known, at), minScale: 1, minMs: 0 };
  });
  return {
    refreshMs: millis(message.refreshInterval, DEFAULT_REFRESH_MS),
    maxConnections,
    monitors,
    actions: [...actions, ...points],
  };
}

function readAction(message: OverloadAction, known: ReadonlySet<string>, path: string): Action {
  only(OverloadActionSchema, message, path, ['name', 'triggers', 'typed_config']);
  const name = ACTIONS.find((each) => message.name === `envoy.overload_actions.${each}`);
  if (!name) throw new ConfigError(join(path, 'name'), `Unknown overload action '${message.name}'`);
  const triggers = triggersOf(message.triggers, known, path);
  if (name !== 'reduce_timeouts') {
    if (message.typedConfig) throw new ConfigError(join(path, 'typed_config'), `unexpected for ${message.name}`);
    return { name, fullName: message.name, triggers, minScale: 1, minMs: 0 };
  }
  const at = join(path, 'typed_config');
  if (!message.typedConfig) throw new ConfigError(at, `value is required by ${message.name}`);
  const config = openAny(message.typedConfig, at).open(ScaleTimersOverloadActionConfigSchema);
  let minScale = 1;
  let minMs = 0;
  for (const [i, timer] of config.timerScaleFactors.entries()) {
    const where = `${at}.timer_scale_factors[${i}]`;
    only(ScaleTimersOverloadActionConfig_ScaleTimerSchema, timer, where, ['timer', 'min_timeout', 'min_scale']);
    if (timer.timer !== ScaleTimersOverloadActionConfig_TimerType.HTTP_DOWNSTREAM_CONNECTION_IDLE)
      throw new ConfigError(join(where, 'timer'), 'only HTTP_DOWNSTREAM_CONNECTION_IDLE is supported by this proxy');
    if (timer.overloadAdjust.case === 'minTimeout') {
      minMs = millis(timer.overloadAdjust.value, 0);
      minScale = 0;
    } else minScale = (timer.overloadAdjust.value?.value ?? 0) / 100;
  }
  return { name, fullName: message.name, triggers, minScale, minMs };
}

function triggersOf(messages: readonly Trigger[], known: ReadonlySet<string>, path: string): ReadTrigger[] {
  if (messages.length === 0) throw new ConfigError(join(path, 'triggers'), 'value must contain at least 1 item(s)');
  return messages.map((message, i) => {
    const at = `${path}.triggers[${i}]`;
    only(TriggerSchema, message, at, ['name', 'threshold', 'scaled']);
    if (!known.has(message.name)) throw new ConfigError(join(at, 'name'), `Unknown trigger resource ${message.name}`);
    const spec = message.triggerOneof;
    switch (spec.case) {
      case 'threshold': {
        only(ThresholdTriggerSchema, spec.value, join(at, 'threshold'), ['value']);
        const { value } = spec.value;
        return { resource: message.name, stateOf: (pressure) => (pressure >= value ? 1 : 0) };
      }
      case 'scaled': {
        only(ScaledTriggerSchema, spec.value, join(at, 'scaled'), ['scaling_threshold', 'saturation_threshold']);
        const { scalingThreshold: from, saturationThreshold: to } = spec.value;
        if (from >= to)
          throw new ConfigError(join(at, 'scaled'), 'scaling_threshold must be less than saturation_threshold');
        return {
          resource: message.name,
          stateOf: (pressure) => Math.min(1, Math.max(0, (pressure - from) / (to - from))),
        };
      }
      default:
        throw new ConfigError(at, 'threshold or scaled is required');
    }
  });
}
