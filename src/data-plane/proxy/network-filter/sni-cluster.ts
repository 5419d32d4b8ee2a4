// envoy.filters.network.sni_cluster: tcp_proxy behind it takes the cluster that is named like the client's server
// name, by a state of Envoy's that overrides its own.
import {
  type SniCluster,
  SniClusterSchema,
} from '#proto/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js';
import { only } from '../config/fields.ts';
import { CLUSTER_STATE } from '../route/metadata-match.ts';
import { ADMIT, type NetworkFilter } from './filter.ts';

export function createSniCluster(message: SniCluster, context: { readonly name: string }, path: string): NetworkFilter {
  only(SniClusterSchema, message, path, []);
  return {
    name: context.name,
    admit(info) {
      if (info.requestedServerName !== '') info.state.set(CLUSTER_STATE, info.requestedServerName);
      return ADMIT;
    },
  };
}
