// dynamic_resources and RTDS layers of the bootstrap: asks for them in Envoy's order of start (clusters of the bootstrap,
// runtime, clusters, listeners) and knows when all that a start needs has come. Owned by the engine.
import type { Bootstrap } from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import type { ConfigSource } from '#proto/envoy/config/core/v3/config_source_pb.js';
import type { Clock } from '../../../base/runtime/clock.ts';
import type { ClusterManager } from '../cluster/manager.ts';
import { ConfigError } from '../config/fields.ts';
import type { ListenerManager } from '../listener/manager.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { CollectionSink, DiscoveryHub } from './hub.ts';
import { CDS, LDS, type ResourceKind, RTDS } from './kinds.ts';
import { readApiSource, readSource, type Source } from './source.ts';

export interface DynamicDeps {
  readonly hub: DiscoveryHub;
  readonly clusters: ClusterManager;
  readonly listeners: ListenerManager;
  readonly runtime: Runtime;
  readonly clock: Clock;
  /** Something came or its wait is over. */
  readonly changed: () => void;
}

/** Before the clusters of the bootstrap: their endpoints may come by ADS. Throws ConfigError; nothing is asked yet. */
export function readAds(bootstrap: Bootstrap, hub: DiscoveryHub): void {
  const message = bootstrap.dynamicResources?.adsConfig;
  if (!message) return;
  const at = 'dynamic_resources.ads_config';
  const ads = readApiSource(message, at);
  if (!bootstrap.staticResources?.clusters.some(({ name }) => name === ads.cluster))
    throw new ConfigError(at, `unknown gRPC cluster '${ads.cluster}'`);
  hub.requireNode('ads');
  hub.useAds(ads);
}

/** One thing the start waits for. */
interface Step {
  readonly kind: ResourceKind;
  asked: boolean;
  seen: boolean;
  ask(step: Step): void;
}

export class DynamicStart {
  /** True when anything at all is discovered. */
  readonly used: boolean;
  readonly #deps: DynamicDeps;
  readonly #steps: readonly Step[];

  /** Throws ConfigError when a source cannot be used; nothing is asked yet. */
  constructor(bootstrap: Bootstrap, deps: DynamicDeps) {
    this.#deps = deps;
    const dynamic = bootstrap.dynamicResources;
    this.#steps = [...this.#runtimeSteps(bootstrap), ...this.#collections(dynamic?.cdsConfig, dynamic?.ldsConfig)];
    this.used = dynamic?.adsConfig !== undefined || this.#steps.length > 0;
  }

  /** Asks as far as it can; true when everything has come. */
  advance(): boolean {
    const { clusters, listeners } = this.#deps;
    for (const step of this.#steps) {
      if (!clusters.warm) return false;
      if (!step.asked) {
        step.asked = true;
        step.ask(step);
      }
      if (!step.seen) return false;
    }
    return clusters.warm && listeners.warm;
  }

  /** Only listeners, and what they wait for, are missing. */
  get clustersDone(): boolean {
    return this.#deps.clusters.warm && this.#steps.every((step) => step.seen || step.kind === LDS);
  }

  #settle(step: Step): void {
    step.seen = true;
    this.#deps.changed();
  }

  #runtimeSteps(bootstrap: Bootstrap): Step[] {
    const { hub, runtime } = this.#deps;
    return (bootstrap.layeredRuntime?.layers ?? []).flatMap((layer, i) => {
      if (layer.layerSpecifier.case !== 'rtdsLayer') return [];
      const path = `layered_runtime.layers[${i}].rtds_layer`;
      const { name, rtdsConfig } = layer.layerSpecifier.value;
      const source = this.#source(RTDS, rtdsConfig, `${path}.rtds_config`);
      return [
        {
          kind: RTDS,
          asked: false,
          seen: false,
          ask: (step: Step) =>
            hub.named(
              source,
              RTDS,
              name,
              {
                statPrefix: `runtime.${name}.`,
                update: (message) => {
                  runtime.setLayer(layer.name, message.layer ?? {});
                  this.#settle(step);
                },
                removed: () => {
                  runtime.setLayer(layer.name, {});
                  this.#settle(step);
                },
                timedOut: () => this.#settle(step),
              },
              path,
            ),
        },
      ];
    });
  }

  #collections(cds: ConfigSource | undefined, lds: ConfigSource | undefined): Step[] {
    const { clusters, listeners } = this.#deps;
    const out: Step[] = [];
    if (cds)
      out.push(
        this.#collection(CDS, cds, 'dynamic_resources.cds_config', {
          statPrefix: 'cluster_manager.cds.',
          apply: (message) => void clusters.apply(message, false),
          remove: (name) => void clusters.remove(name),
          held: () => clusters.dynamicNames(),
          refusalPrefix: 'Error adding/updating cluster(s) ',
        }),
      );
    if (lds)
      out.push(
        this.#collection(LDS, lds, 'dynamic_resources.lds_config', {
          statPrefix: 'listener_manager.lds.',
          apply: (message) => void listeners.apply(message, false),
          remove: (name) => void listeners.remove(name),
          held: () => listeners.dynamicNames(),
          refusalPrefix: 'Error adding/updating listener(s) ',
        }),
      );
    return out;
  }

  #collection<M>(
    kind: ResourceKind & { nameOf(message: M): string },
    config: ConfigSource,
    path: string,
    sink: Omit<CollectionSink<M>, 'done' | 'timedOut'>,
  ): Step {
    const source = this.#source(kind, config, path);
    return {
      kind,
      asked: false,
      seen: false,
      ask: (step) => {
        const settle = (): void => this.#settle(step);
        this.#deps.hub.collection(
          source,
          kind,
          { ...sink, done: settle, timedOut: settle } as CollectionSink<never>,
          path,
        );
      },
    };
  }

  #source(kind: { readonly typeUrl: string }, config: ConfigSource | undefined, path: string): Source {
    this.#deps.hub.requireNode(kind.typeUrl);
    const source = readSource(config, path);
    if (source.kind === 'ads' && !this.#deps.hub.hasAds)
      throw new ConfigError(path, 'dynamic_resources.ads_config is required by `ads`');
    return source;
  }
}
