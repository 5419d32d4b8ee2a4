// The injector with an installation's values and no cluster. Called by kube-inject.
import { injectionConfig } from '../../control-plane/injection/config.ts';
import { createInjector } from '../../control-plane/injection/injector.ts';
import type { Injector } from '../../control-plane/injection/types.ts';
import type { InstallSpec } from './profiles.ts';

export function createOfflineInjector(spec: InstallSpec): Injector {
  const config = injectionConfig({
    values: { ...spec.values, hub: spec.hub, tag: spec.tag },
    meshConfig: spec.meshConfig,
    revision: 'default',
    nativeSidecars: false,
  });
  return createInjector({ config: () => config });
}
