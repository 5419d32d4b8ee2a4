// Istio's kinds by group: which this version obeys and which it refuses by name. Used by config/ and the webhook.
import { nearest } from '../../base/nearest.ts';

export interface IstioKind {
  readonly kind: string;
  readonly group: string;
  readonly version: string;
  readonly resource: string;
  readonly supported: boolean;
}

const NETWORKING = 'networking.istio.io';
const SECURITY = 'security.istio.io';

const kind = (name: string, group: string, version: string, resource: string, supported: boolean): IstioKind => ({
  kind: name,
  group,
  version,
  resource,
  supported,
});

export const ISTIO_KINDS: readonly IstioKind[] = [
  kind('PeerAuthentication', SECURITY, 'v1', 'peerauthentications', true),
  kind('DestinationRule', NETWORKING, 'v1', 'destinationrules', true),
  kind('VirtualService', NETWORKING, 'v1', 'virtualservices', true),
  kind('Gateway', NETWORKING, 'v1', 'gateways', true),
  kind('AuthorizationPolicy', SECURITY, 'v1', 'authorizationpolicies', false),
  kind('RequestAuthentication', SECURITY, 'v1', 'requestauthentications', false),
  kind('ServiceEntry', NETWORKING, 'v1', 'serviceentries', true),
  kind('Sidecar', NETWORKING, 'v1', 'sidecars', false),
  kind('WorkloadEntry', NETWORKING, 'v1', 'workloadentries', true),
  kind('WorkloadGroup', NETWORKING, 'v1', 'workloadgroups', false),
  kind('EnvoyFilter', NETWORKING, 'v1alpha3', 'envoyfilters', false),
  kind('ProxyConfig', NETWORKING, 'v1beta1', 'proxyconfigs', false),
  kind('Telemetry', 'telemetry.istio.io', 'v1', 'telemetries', false),
  kind('WasmPlugin', 'extensions.istio.io', 'v1alpha1', 'wasmplugins', false),
];

/** A kind of Istio's groups that is not obeyed: another version's, of another group, or mistyped. */
export function notSupported(kindName: string, group?: string): string {
  if (group !== undefined && !ISTIO_KINDS.some((each) => each.kind === kindName && each.group === group)) {
    const elsewhere = ISTIO_KINDS.find((each) => each.kind === kindName);
    if (elsewhere) return `${kindName} is a kind of ${elsewhere.group}/${elsewhere.version}, not of ${group}`;
    const near = nearest(
      kindName,
      ISTIO_KINDS.map((each) => each.kind),
    );
    if (near !== undefined) return `there is no kind ${kindName} in ${group}; did you mean ${near}?`;
  }
  return `${kindName} is not supported by this version of Meltemi`;
}
