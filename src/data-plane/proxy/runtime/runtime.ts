// Runtime configuration: values in layers (static, disk, RTDS, admin), a later one wins. Features ask by key while they
// serve; RTDS and /runtime_modify change it. Made by the engine, passed through every context.
import type { JsonObject } from '@bufbuild/protobuf';
import {
  type LayeredRuntime,
  type RuntimeLayer,
  RuntimeLayer_DiskLayerSchema,
  type RuntimeLayer_RtdsLayer,
  RuntimeLayer_RtdsLayerSchema,
} from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import type {
  RuntimeDouble,
  RuntimeFeatureFlag,
  RuntimeFractionalPercent,
  RuntimePercent,
  RuntimeUInt32,
} from '#proto/envoy/config/core/v3/base_pb.js';
import type { FractionalPercent } from '#proto/envoy/type/v3/percent_pb.js';
import { ConfigError, join, only } from '../config/fields.ts';
import { fraction } from '../config/matchers.ts';
import { MAX_RUNTIME_KEYS } from '../limits.ts';
import type { StatsStore } from '../stats/stats.ts';
import { diskValues, type RuntimeFiles } from './disk.ts';
import { type LayerValues, type RuntimeValue, structValues, textValue } from './values.ts';

export interface RuntimeDeps {
  readonly stats: StatsStore;
  readonly files: RuntimeFiles;
  readonly serviceCluster: string;
}

interface Layer {
  readonly name: string;
  readonly kind: 'static' | 'disk' | 'rtds' | 'admin';
  /** Disk: the directory and the link to watch. */
  readonly directory: string;
  readonly link: string;
  readonly ownDirectory: boolean;
  readonly rtds: RuntimeLayer_RtdsLayer | undefined;
  values: LayerValues;
}

const NOTHING: LayerValues = new Map();

/** A layer that the control plane fills. */
export interface RtdsRequest {
  readonly layer: string;
  readonly message: RuntimeLayer_RtdsLayer;
}

/** What a feature with a runtime key needs; a fake in tests is an object with these. */
export interface RuntimeView {
  /** Another one after every change: for values that are looked up on the hot path. */
  readonly version: number;
  featureEnabled(key: string, fallback: boolean): boolean;
  number(key: string, fallback: number): number;
  share(key: string, fallback: number): number;
}

export class Runtime implements RuntimeView {
  readonly #layers: Layer[] = [];
  readonly #deps: RuntimeDeps;
  #final: ReadonlyMap<string, RuntimeValue> = NOTHING;
  version = 0;
  #stops: (() => void)[] = [];

  /** Throws ConfigError when the layers cannot be used. */
  constructor(message: LayeredRuntime | undefined, deps: RuntimeDeps) {
    this.#deps = deps;
    for (const [i, layer] of (message?.layers ?? []).entries())
      this.#layers.push(readLayer(layer, this.#layers, deps.serviceCluster, `layered_runtime.layers[${i}]`));
    this.#load();
  }

  /** Follows the links of disk layers until `stop`. */
  watch(): void {
    for (const { kind, link } of this.#layers)
      if (kind === 'disk') this.#stops.push(this.#deps.files.watch(link, () => this.#load()));
  }

  stop(): void {
    for (const stop of this.#stops.splice(0)) stop();
  }

  featureEnabled(key: string, fallback: boolean): boolean {
    return this.#final.get(key)?.flag ?? fallback;
  }

  number(key: string, fallback: number): number {
    return this.#final.get(key)?.number ?? fallback;
  }

  /** Share of the whole, 0..1. */
  share(key: string, fallback: number): number {
    return this.#final.get(key)?.share ?? fallback;
  }

  text(key: string): string | undefined {
    return this.#final.get(key)?.text;
  }

  /** Layers that wait for RTDS. */
  rtds(): RtdsRequest[] {
    return this.#layers.flatMap(({ name, rtds }) => (rtds ? [{ layer: name, message: rtds }] : []));
  }

  /** RTDS: the whole content of `layer`. Throws ConfigError and changes nothing when a value cannot be used. */
  setLayer(layer: string, values: JsonObject): void {
    const found = this.#layers.find((entry) => entry.name === layer && entry.kind === 'rtds');
    if (!found) throw new ConfigError('', `no RTDS layer '${layer}'`);
    const read = structValues(values, `runtime layer '${layer}'`);
    if (read.size > MAX_RUNTIME_KEYS)
      throw new ConfigError('', `runtime layer '${layer}' holds more than ${MAX_RUNTIME_KEYS} values`);
    found.values = read;
    this.#load();
  }

  /** /runtime_modify: an empty value takes an override away. False = there is no admin layer. */
  override(values: ReadonlyMap<string, string>): boolean {
    const layer = this.#layers.find((entry) => entry.kind === 'admin');
    if (!layer) return false;
    const next = new Map(layer.values);
    for (const [key, value] of values) {
      if (value === '') next.delete(key);
      else if (next.size < MAX_RUNTIME_KEYS) next.set(key, textValue(value));
    }
    layer.values = next;
    this.#load();
    return true;
  }

  /** The content of /runtime. */
  dump(): JsonObject {
    const entries: Record<string, JsonObject> = {};
    for (const [key, value] of this.#final)
      entries[key] = {
        final_value: value.text,
        layer_values: this.#layers.map((layer) => layer.values.get(key)?.text ?? ''),
      };
    return { layers: this.#layers.map((layer) => layer.name), entries };
  }

  #load(): void {
    const { stats, files } = this.#deps;
    let failed = false;
    for (const layer of this.#layers) {
      if (layer.kind !== 'disk') continue;
      try {
        const values = diskValues(files, layer.directory);
        const own = layer.ownDirectory && values !== undefined;
        stats.counter(own ? 'runtime.override_dir_exists' : 'runtime.override_dir_not_exists').value += 1;
        layer.values = values ?? NOTHING;
      } catch {
        // What was read before stays.
        failed = true;
      }
    }
    const final = new Map<string, RuntimeValue>();
    for (const layer of this.#layers) for (const [key, value] of layer.values) final.set(key, value);
    this.#final = final;
    this.version += 1;
    stats.counter(failed ? 'runtime.load_error' : 'runtime.load_success').value += 1;
    stats.gauge('runtime.num_keys').value = final.size;
    stats.gauge('runtime.num_layers').value = this.#layers.length;
    const admin = this.#layers.find((layer) => layer.kind === 'admin');
    stats.gauge('runtime.admin_overrides_active').value = admin && admin.values.size > 0 ? 1 : 0;
  }
}

function readLayer(message: RuntimeLayer, before: readonly Layer[], serviceCluster: string, path: string): Layer {
  const { name } = message;
  if (name === '') throw new ConfigError(join(path, 'name'), 'value is required');
  if (before.some((layer) => layer.name === name)) throw new ConfigError(path, `Duplicate layer name: ${name}`);
  const spec = message.layerSpecifier;
  const plain = { name, directory: '', link: '', ownDirectory: false, rtds: undefined, values: NOTHING };
  switch (spec.case) {
    case 'staticLayer':
      return { ...plain, kind: 'static', values: structValues(spec.value, join(path, 'static_layer')) };
    case 'diskLayer': {
      const at = join(path, 'disk_layer');
      only(RuntimeLayer_DiskLayerSchema, spec.value, at, ['symlink_root', 'subdirectory', 'append_service_cluster']);
      const { symlinkRoot, subdirectory, appendServiceCluster } = spec.value;
      const own = appendServiceCluster ? `/${serviceCluster}` : '';
      return {
        ...plain,
        kind: 'disk',
        link: symlinkRoot,
        directory: `${symlinkRoot}/${subdirectory}${own}`,
        ownDirectory: appendServiceCluster,
      };
    }
    case 'adminLayer':
      if (before.some((layer) => layer.kind === 'admin'))
        throw new ConfigError(path, 'Too many admin layers specified in LayeredRuntime, at most one may be specified');
      return { ...plain, kind: 'admin' };
    case 'rtdsLayer':
      only(RuntimeLayer_RtdsLayerSchema, spec.value, join(path, 'rtds_layer'), ['name', 'rtds_config']);
      return { ...plain, kind: 'rtds', rtds: spec.value };
    default:
      throw new ConfigError(join(path, 'layer_specifier'), 'value is required');
  }
}

// --- fields with a default and a runtime key, compiled once

/** Share of the whole, 0..1, at this moment. */
export type Share = () => number;

/** `fallback` when the message is absent. */
export function runtimeShare(
  runtime: RuntimeView,
  message: RuntimeFractionalPercent | undefined,
  fallback: number,
): Share {
  const base = message ? fraction(message.defaultValue, 0) : fallback;
  return keyedShare(runtime, message?.runtimeKey ?? '', base);
}

/** A FractionalPercent beside which the configuration names the key (fault filters). */
export function keyedFraction(
  runtime: RuntimeView,
  key: string,
  percent: FractionalPercent | undefined,
  fallback: number,
): Share {
  return keyedShare(runtime, key, fraction(percent, fallback));
}

function keyedShare(runtime: RuntimeView, key: string, base: number): Share {
  return key === '' ? () => base : () => runtime.share(key, base);
}

export function runtimeFlag(
  runtime: RuntimeView,
  message: RuntimeFeatureFlag | undefined,
  fallback: boolean,
): () => boolean {
  const base = message?.defaultValue ?? fallback;
  const key = message?.runtimeKey ?? '';
  return key === '' ? () => base : () => runtime.featureEnabled(key, base);
}

export function runtimeNumber(
  runtime: RuntimeView,
  message: RuntimeUInt32 | RuntimeDouble | undefined,
  fallback: number,
): () => number {
  const base = message?.defaultValue ?? fallback;
  const key = message?.runtimeKey ?? '';
  return key === '' ? () => base : () => runtime.number(key, base);
}

/** 0..100. */
export function runtimePercent(
  runtime: RuntimeView,
  message: RuntimePercent | undefined,
  fallback: number,
): () => number {
  const base = message?.defaultValue?.value ?? fallback;
  const key = message?.runtimeKey ?? '';
  return key === '' ? () => base : () => runtime.number(key, base);
}

/** A runtime without values, for parts that are built alone. */
export const EMPTY_RUNTIME: RuntimeView = {
  version: 0,
  featureEnabled: (_key, fallback) => fallback,
  number: (_key, fallback) => fallback,
  share: (_key, fallback) => fallback,
};
