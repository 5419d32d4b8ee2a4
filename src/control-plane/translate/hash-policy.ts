// What a consistent hash of a DestinationRule is computed from; it stands on the route. Called by http-routes.ts, routes.ts and tcp-routes.ts.
import type { MessageInitShape } from '@bufbuild/protobuf';
import type { RouteAction_HashPolicySchema } from '#proto/envoy/config/route/v3/route_components_pb.js';
import type { HashKey } from '../../api/istio/traffic-policy.ts';
import { effectivePolicy, findDestinationRule } from '../model/destination-rules.ts';
import type { Snapshot } from '../model/snapshot.ts';
import { protoDuration } from './common.ts';

export type HashPolicy = MessageInitShape<typeof RouteAction_HashPolicySchema>;

interface HashedDestination {
  readonly host: string;
  readonly port: number;
  readonly destination?: { readonly subset: string };
}

export function hashKey(snapshot: Snapshot, namespace: string, to: HashedDestination): HashKey | undefined {
  const service = snapshot.servicesByHost.get(to.host);
  if (!service) return undefined;
  const client = { namespace, rootNamespace: snapshot.mesh.rootNamespace };
  const rule = findDestinationRule(snapshot.destinationRules, client, service);
  const subset = rule?.subsets.find((s) => s.name === to.destination?.subset);
  return effectivePolicy(rule, subset, to.port).lb?.hash?.key;
}

export function hashPolicies(snapshot: Snapshot, namespace: string, to: HashedDestination): readonly HashPolicy[] {
  const key = hashKey(snapshot, namespace, to);
  return key ? [policyOf(key)] : [];
}

function policyOf(key: HashKey): HashPolicy {
  switch (key.kind) {
    case 'header':
      return { policySpecifier: { case: 'header', value: { headerName: key.name } } };
    case 'query':
      return { policySpecifier: { case: 'queryParameter', value: { name: key.name } } };
    case 'source-ip':
      return { policySpecifier: { case: 'connectionProperties', value: { sourceIp: true } } };
    case 'cookie':
      return {
        policySpecifier: {
          case: 'cookie',
          value: {
            name: key.name,
            path: key.path,
            ...(key.ttlMs === undefined ? {} : { ttl: protoDuration(key.ttlMs) }),
          },
        },
      };
  }
}
