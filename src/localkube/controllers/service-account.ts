// Gives every namespace its `default` ServiceAccount and the cluster's CA as ConfigMap kube-root-ca.crt.
// Started by start.ts.
import { CONFIG_MAPS, type ConfigMap } from '../../api/kubernetes/config-map.ts';
import { NAMESPACES, type Namespace } from '../../api/kubernetes/namespace.ts';
import { SERVICE_ACCOUNTS, type ServiceAccount } from '../../api/kubernetes/service-account.ts';
import { type Controller, type ControllerContext, isConflict, startController } from './context.ts';

export const ROOT_CA_CONFIG_MAP = 'kube-root-ca.crt';
const DESCRIPTION =
  'Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc.';

export function startServiceAccountController(context: ControllerContext, caPem: string): Controller {
  const namespaces = context.store<Namespace>(NAMESPACES);
  const accounts = context.store<ServiceAccount>(SERVICE_ACCOUNTS);
  const maps = context.store<ConfigMap>(CONFIG_MAPS);
  return startController(context, {
    name: 'serviceaccount',
    async reconcile(_, name) {
      const namespace = namespaces.get(undefined, name);
      if (!namespace || namespace.metadata.deletionTimestamp) return undefined;
      const account = accounts.get(name, 'default');
      const map = maps.get(name, ROOT_CA_CONFIG_MAP);
      await Promise.all([
        account ??
          orElse(
            accounts.create({
              apiVersion: 'v1',
              kind: 'ServiceAccount',
              metadata: { name: 'default', namespace: name },
            }),
          ),
        map
          ? map.data?.['ca.crt'] === caPem
            ? undefined
            : maps.update({ ...map, data: { 'ca.crt': caPem } })
          : orElse(
              maps.create({
                apiVersion: 'v1',
                kind: 'ConfigMap',
                metadata: {
                  name: ROOT_CA_CONFIG_MAP,
                  namespace: name,
                  annotations: { 'kubernetes.io/description': DESCRIPTION },
                },
                data: { 'ca.crt': caPem },
              }),
            ),
      ]);
      return undefined;
    },
    watch: (add) => [
      namespaces.onChange((change) => add(`/${change.object.metadata.name}`)),
      accounts.onChange((change) => {
        if (change.kind === 'deleted' && change.object.metadata.name === 'default')
          add(`/${change.object.metadata.namespace}`);
      }),
      maps.onChange((change) => {
        if (change.kind !== 'added' && change.object.metadata.name === ROOT_CA_CONFIG_MAP)
          add(`/${change.object.metadata.namespace}`);
      }),
    ],
  });
}

/** Somebody made it first: as good. */
async function orElse(creation: Promise<unknown>): Promise<void> {
  try {
    await creation;
  } catch (error) {
    if (!isConflict(error)) throw error;
  }
}
