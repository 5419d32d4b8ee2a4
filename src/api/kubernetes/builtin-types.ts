// Every built-in kind this folder knows, for those that look a type up by its kind: apply, fakes, discovery.
import type { ResourceType } from '../../base/kube/types.ts';
import { CONFIG_MAPS } from './config-map.ts';
import { CONTROLLER_REVISIONS } from './controller-revision.ts';
import { CRON_JOBS } from './cron-job.ts';
import { CUSTOM_RESOURCE_DEFINITIONS } from './custom-resource-definition.ts';
import { DAEMON_SETS } from './daemon-set.ts';
import { DEPLOYMENTS } from './deployment.ts';
import { ENDPOINT_SLICES } from './endpoint-slice.ts';
import { ENDPOINTS } from './endpoints.ts';
import { EVENTS } from './event.ts';
import { JOBS } from './job.ts';
import { LEASES } from './lease.ts';
import { NAMESPACES } from './namespace.ts';
import { NODES } from './node.ts';
import { PODS } from './pod.ts';
import { CLUSTER_ROLE_BINDINGS, CLUSTER_ROLES, ROLE_BINDINGS, ROLES } from './rbac.ts';
import { REPLICA_SETS } from './replica-set.ts';
import { SECRETS } from './secret.ts';
import { SERVICES } from './service.ts';
import { SERVICE_ACCOUNTS } from './service-account.ts';
import { STATEFUL_SETS } from './stateful-set.ts';
import { MUTATING_WEBHOOK_CONFIGURATIONS, VALIDATING_WEBHOOK_CONFIGURATIONS } from './webhook-configuration.ts';

export const BUILTIN_TYPES: readonly ResourceType[] = [
  NAMESPACES,
  NODES,
  PODS,
  SERVICES,
  ENDPOINTS,
  CONFIG_MAPS,
  SECRETS,
  SERVICE_ACCOUNTS,
  EVENTS,
  DEPLOYMENTS,
  REPLICA_SETS,
  STATEFUL_SETS,
  DAEMON_SETS,
  CONTROLLER_REVISIONS,
  JOBS,
  CRON_JOBS,
  ENDPOINT_SLICES,
  LEASES,
  CUSTOM_RESOURCE_DEFINITIONS,
  MUTATING_WEBHOOK_CONFIGURATIONS,
  VALIDATING_WEBHOOK_CONFIGURATIONS,
  ROLES,
  ROLE_BINDINGS,
  CLUSTER_ROLES,
  CLUSTER_ROLE_BINDINGS,
];
