// Who this proxy says it is: the bootstrap's node, with what the command line sets and this program can do. Called by engine.ts.
import { clone, create } from '@bufbuild/protobuf';
import { BuildVersionSchema, LocalitySchema, type Node, NodeSchema } from '#proto/envoy/config/core/v3/base_pb.js';

/** `<commit>/<version>/<state>/<type>/<ssl>` as fields. */
function buildVersion(text: string) {
  const [sha = '', version = '', status = '', type = '', ssl = ''] = text.split('/');
  const [majorNumber = 0, minorNumber = 0, patch = 0] = version.split('.').map(Number);
  return create(BuildVersionSchema, {
    version: { majorNumber, minorNumber, patch },
    metadata: { 'build.type': type, 'revision.sha': sha, 'revision.status': status, 'ssl.version': ssl },
  });
}

export interface NodeOptions {
  readonly nodeId: string;
  readonly nodeCluster: string;
  readonly nodeZone: string;
}

/** `version`: as --version prints it. */
export function ownNode(
  given: Node | undefined,
  { nodeId, nodeCluster, nodeZone }: NodeOptions,
  version: string,
): Node {
  const node = given ? clone(NodeSchema, given) : create(NodeSchema);
  if (nodeId !== '') node.id = nodeId;
  if (nodeCluster !== '') node.cluster = nodeCluster;
  if (nodeZone !== '') {
    node.locality ??= create(LocalitySchema);
    node.locality.zone = nodeZone;
  }
  node.userAgentName = 'envoy';
  node.userAgentVersionType = { case: 'userAgentBuildVersion', value: buildVersion(version) };
  node.clientFeatures = ['envoy.lb.does_not_support_overprovisioning', 'envoy.lrs.supports_send_all_clusters'];
  return node;
}
