// envoy.filters.network.sni_cluster: tcp_proxy behind it takes the cluster that is named like the client's server name.
import {
  type SniCluster,
  SniClusterSchema,
} from '#proto/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js';
import { only } from '../config/fields.ts';
import { ADMIT, type NetworkFilter } from './filter.ts';

/** Envoy's name of the state that overrides tcp_proxy's cluster. */
export const CLUSTER_STATE = 'envoy.tcp_proxy.cluster';

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
