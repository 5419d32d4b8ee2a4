// Everything an installation applies, in the order in which it must exist. Pure but for reading the generated CRDs.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { KubeObject } from '../../base/kube/types.ts';
import { mutatingWebhookConfiguration } from '../../control-plane/injection/webhook-configuration.ts';
import { egressManifests, ingressManifests } from './gateway.ts';
import { istiodManifests } from './istiod.ts';
import { type Manifest, named, OWNED_LABEL, ROOT_NAMESPACE } from './manifest.ts';
import type { InstallSpec } from './profiles.ts';

export interface InstallPlan {
  readonly namespace: KubeObject;
  readonly crds: readonly KubeObject[];
  readonly controlPlane: readonly KubeObject[];
  readonly ingress: readonly KubeObject[];
  readonly egress: readonly KubeObject[];
  /** Deployments to wait for, by component. */
  readonly deployments: {
    readonly istiod: readonly string[];
    readonly ingress: readonly string[];
    readonly egress: readonly string[];
  };
}

export function installPlan(spec: InstallSpec, repoRoot: string): InstallPlan {
  const ingress = spec.ingressGateways.filter((g) => g.enabled);
  const egress = spec.egressGateways.filter((g) => g.enabled);
  return {
    namespace: named('v1', 'Namespace', ROOT_NAMESPACE, {}),
    crds: spec.profile === 'empty' ? [] : crds(repoRoot),
    controlPlane: spec.pilotEnabled ? [...istiodManifests(spec), injectorWebhook(spec), validatorWebhook()] : [],
    ingress: ingress.flatMap((g) => ingressManifests(spec, g.name)),
    egress: egress.flatMap((g) => egressManifests(spec, g.name)),
    deployments: {
      istiod: spec.pilotEnabled ? ['istiod'] : [],
      ingress: ingress.map((g) => g.name),
      egress: egress.map((g) => g.name),
    },
  };
}

function crds(repoRoot: string): readonly KubeObject[] {
  const file = path.join(repoRoot, 'generated', 'crds', 'istio.json');
  const parsed = JSON.parse(readFileSync(file, 'utf8')) as
    | readonly KubeObject[]
    | { readonly items: readonly KubeObject[] };
  return 'items' in parsed ? parsed.items : parsed;
}

function injectorWebhook(spec: InstallSpec): KubeObject {
  const webhook = spec.values.sidecarInjectorWebhook as { readonly enableNamespacesByDefault?: boolean } | undefined;
  const enableNamespacesByDefault = webhook?.enableNamespacesByDefault === true;
  const config = mutatingWebhookConfiguration({
    revision: 'default',
    namespace: ROOT_NAMESPACE,
    caBundle: '',
    enableNamespacesByDefault,
  });
  return {
    ...config,
    metadata: { ...config.metadata, labels: { ...config.metadata.labels, [OWNED_LABEL]: 'meltemi' } },
  };
}

/** Until istiod is ready and has put its CA in, a failure of this webhook is ignored; istiod then makes it Fail. */
function validatorWebhook(): Manifest {
  return named(
    'admissionregistration.k8s.io/v1',
    'ValidatingWebhookConfiguration',
    'istio-validator-istio-system',
    {
      app: 'istiod',
      istio: 'istiod',
      'istio.io/rev': 'default',
    },
    {
      webhooks: [
        {
          name: 'rev.validation.istio.io',
          clientConfig: { service: { name: 'istiod', namespace: ROOT_NAMESPACE, path: '/validate' } },
          rules: [
            {
              operations: ['CREATE', 'UPDATE'],
              apiGroups: ['security.istio.io', 'networking.istio.io', 'telemetry.istio.io', 'extensions.istio.io'],
              apiVersions: ['*'],
              resources: ['*'],
            },
          ],
          failurePolicy: 'Ignore',
          sideEffects: 'None',
          admissionReviewVersions: ['v1'],
        },
      ],
    },
  );
}
