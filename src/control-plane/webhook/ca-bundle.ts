// Keeps the webhook configurations pointing at us with the right roots, and makes validation strict once we are ready.

import {
  type Informer,
  type KubeClient,
  KubeError,
  type KubeObject,
  type ResourceType,
} from '../../base/kube/types.ts';
import type { Clock } from '../../base/runtime/clock.ts';
import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { InformerFactory } from '../config/store.ts';
import type { ServerCertificate } from '../serve/server-certificate.ts';

interface WebhookConfiguration extends KubeObject {
  readonly webhooks?: readonly {
    readonly name: string;
    readonly failurePolicy?: string;
    readonly clientConfig: {
      readonly caBundle?: string;
      readonly service?: { readonly name: string; readonly namespace: string };
    };
  }[];
}

const type = (resource: string, kind: string): ResourceType => ({
  group: 'admissionregistration.k8s.io',
  version: 'v1',
  resource,
  kind,
  namespaced: false,
});
export const MUTATING = type('mutatingwebhookconfigurations', 'MutatingWebhookConfiguration');
export const VALIDATING = type('validatingwebhookconfigurations', 'ValidatingWebhookConfiguration');

export interface CaBundleOptions {
  readonly client: KubeClient;
  readonly informer: InformerFactory;
  readonly certificate: ServerCertificate;
  readonly namespace: string;
  readonly injectorName: string;
  readonly validatorName: string;
  readonly clock: Clock;
  readonly log: Logger;
}

const RETRY_MS = 1000;

/** Returns the function that stops it. */
export function keepCaBundles(options: CaBundleOptions): () => void {
  const closers = [
    keep(options, MUTATING, options.injectorName, false),
    keep(options, VALIDATING, options.validatorName, true),
  ];
  return () => {
    for (const close of closers) close();
  };
}

function keep(options: CaBundleOptions, resource: ResourceType, name: string, strict: boolean): () => void {
  const { client, log, clock } = options;
  const informer: Informer<WebhookConfiguration> = options.informer(resource, {
    fieldSelector: `metadata.name=${name}`,
  });
  let cancelRetry = (): void => {};
  const reconcile = (): void => {
    const found = informer.get(undefined, name);
    if (!found) return;
    const patch = patchFor(found, options, strict);
    if (patch.length === 0) return;
    client.patch(resource, undefined, name, 'json', patch).then(
      () => log.info('webhook configuration patched', { name }),
      (error: unknown) => {
        if (error instanceof KubeError && error.code === 404) return;
        log.warn('webhook configuration could not be patched; trying again', { name, error: errorText(error) });
        cancelRetry();
        cancelRetry = clock.after(RETRY_MS, reconcile);
      },
    );
  };
  const unsubscribe = informer.onChange((change) => {
    if (change.kind !== 'deleted' && change.object.metadata.name === name) reconcile();
  });
  options.certificate.onChange(reconcile);
  return () => {
    unsubscribe();
    cancelRetry();
    informer.close();
  };
}

/** JSON patch operations that make `found` right; empty when it is. */
export function patchFor(
  found: WebhookConfiguration,
  options: Pick<CaBundleOptions, 'certificate' | 'namespace'>,
  strict: boolean,
): readonly unknown[] {
  const bundle = Buffer.from(options.certificate.current().rootsPem).toString('base64');
  const operations: unknown[] = [];
  for (const [i, webhook] of (found.webhooks ?? []).entries()) {
    const { service, caBundle } = webhook.clientConfig;
    if (service?.namespace !== options.namespace) continue;
    if (caBundle !== bundle)
      operations.push({ op: 'add', path: `/webhooks/${i}/clientConfig/caBundle`, value: bundle });
    if (strict && webhook.failurePolicy !== 'Fail')
      operations.push({ op: 'add', path: `/webhooks/${i}/failurePolicy`, value: 'Fail' });
  }
  return operations;
}
