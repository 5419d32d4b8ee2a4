// Who this proxy says it is: the bootstrap's node, with what the command line sets and this program can do. Called by engine.ts.
import { clone, create } from '@bufbuild/protobuf';
import { LocalitySchema, type Node, NodeSchema } from '#proto/envoy/config/core/v3/base_pb.js';

export interface NodeOptions {
  readonly nodeId: string;
  readonly nodeCluster: string;
  readonly nodeZone: string;
}

export function ownNode(given: Node | undefined, { nodeId, nodeCluster, nodeZone }: NodeOptions): Node {
  const node = given ? clone(NodeSchema, given) : create(NodeSchema);
  if (nodeId !== '') node.id = nodeId;
  if (nodeCluster !== '') node.cluster = nodeCluster;
  if (nodeZone !== '') {
    node.locality ??= create(LocalitySchema);
    node.locality.zone = nodeZone;
  }
  node.userAgentName = 'envoy';
  node.clientFeatures = ['envoy.lb.does_not_support_overprovisioning', 'envoy.lrs.supports_send_all_clusters'];
  return node;
}
