// The injector's configuration from its ConfigMaps as they are now; a broken edit leaves the last good one in force.
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { MetricsRegistry } from '../../base/runtime/metrics.ts';
import { type InjectionConfig, injectionConfig, parseTree } from '../injection/config.ts';
import { createInjector } from '../injection/injector.ts';
import type { Injector } from '../injection/types.ts';

export interface InjectionTexts {
  /** ConfigMap keys; empty while the ConfigMap is not there. */
  readonly config: () => string;
  readonly values: () => string;
  /** YAML of the mesh config. */
  readonly mesh: () => string;
}

export interface LiveInjectionOptions {
  readonly texts: InjectionTexts;
  readonly revision: string;
  readonly nativeSidecars: boolean;
  readonly log: Logger;
  readonly metrics: MetricsRegistry;
}

export function createLiveInjector(options: LiveInjectionOptions): Injector {
  const { texts, metrics, log } = options;
  const total = metrics.counter('sidecar_injection_requests_total', 'Total number of sidecar injection requests.');
  const outcomes = {
    success: metrics.counter('sidecar_injection_success_total', 'Total number of successful sidecar injections.'),
    failure: metrics.counter('sidecar_injection_failure_total', 'Total number of failed sidecar injections.'),
    skip: metrics.counter('sidecar_injection_skip_total', 'Total number of skipped sidecar injections.'),
  };
  let seen = '';
  let good: InjectionConfig | undefined;
  const config = (): InjectionConfig => {
    const now = [texts.config(), texts.values(), texts.mesh()];
    const key = JSON.stringify(now);
    if (good && key === seen) return good;
    seen = key;
    try {
      const policy = parseTree(now[0]).policy;
      good = injectionConfig({
        values: parseTree(now[1]),
        meshConfig: parseTree(now[2]),
        ...(typeof policy === 'string' ? { policy } : {}),
        revision: options.revision,
        nativeSidecars: options.nativeSidecars,
      });
    } catch (error) {
      if (!good) throw new Error(`the injector's ConfigMaps cannot be read: ${errorText(error)}`);
      log.error("the injector's ConfigMaps cannot be read; the last good ones stay in force", {
        error: errorText(error),
      });
    }
    return good;
  };
  return createInjector({
    config,
    count(outcome) {
      total.inc();
      outcomes[outcome].inc();
    },
  });
}
