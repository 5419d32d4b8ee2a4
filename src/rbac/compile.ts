// Envoy's RBAC message → policies as conditions. What is not supported is refused by name and path. Called by engine.ts.
import type { DescMessage } from '@bufbuild/protobuf';
import type { Any } from '@bufbuild/protobuf/wkt';
import type { CidrRange } from '#proto/envoy/config/core/v3/address_pb.js';
import {
  MetadataSource,
  type Permission,
  PermissionSchema,
  type Policy,
  PolicySchema,
  type Principal,
  Principal_AuthenticatedSchema,
  PrincipalSchema,
  type RBAC,
  RBAC_Action,
  RBACSchema,
  type SourcedMetadata,
  SourcedMetadataSchema,
} from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import { UriTemplateMatchConfigSchema } from '#proto/envoy/extensions/path/match/uri_template/v3/uri_template_match_pb.js';
import type { PathMatcher } from '#proto/envoy/type/matcher/v3/path_pb.js';
import { openAny } from '../base/envoy-api/extension.ts';
import { ConfigError, join, only } from '../base/envoy-api/fields.ts';
import { compileTemplate } from '../base/envoy-api/uri-template.ts';
import { parseCidr } from '../base/ip/ip.ts';
import { PATH, PORT, PRINCIPAL, SERVER_NAME } from './attributes.ts';
import { filterState, header, metadata, text } from './compile-values.ts';
import { ANY, type Expr, NEVER } from './expression.ts';
import type { Facts } from './facts.ts';
import type { IpSide } from './ip-side.ts';

/** Policies in one RBAC message, and nesting of its conditions. */
const MAX_POLICIES = 100_000;
const MAX_DEPTH = 64;

export type PolicyAction = 'allow' | 'deny' | 'log';

export interface CompiledPolicy {
  readonly name: string;
  readonly permissions: Expr;
  readonly principals: Expr;
}

export interface CompiledRules {
  readonly action: PolicyAction;
  /** In the order in which the first match decides: by name. */
  readonly policies: readonly CompiledPolicy[];
}

export function compileRules(message: RBAC, path: string): CompiledRules {
  only(RBACSchema, message, path, ['action', 'policies']);
  const names = Object.keys(message.policies);
  if (names.length > MAX_POLICIES) throw new ConfigError(join(path, 'policies'), `more than ${MAX_POLICIES} policies`);
  // Envoy keeps them in a map ordered by bytes.
  names.sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return {
    action: actionOf(message.action, join(path, 'action')),
    policies: names.map((name) => compilePolicy(name, message.policies[name]!, join(path, `policies[${name}]`))),
  };
}

export function actionOf(action: RBAC_Action, path: string): PolicyAction {
  switch (action) {
    case RBAC_Action.ALLOW:
      return 'allow';
    case RBAC_Action.DENY:
      return 'deny';
    case RBAC_Action.LOG:
      return 'log';
    default:
      throw new ConfigError(path, `action ${action} is not supported by this proxy`);
  }
}

function compilePolicy(name: string, message: Policy, path: string): CompiledPolicy {
  only(PolicySchema, message, path, ['permissions', 'principals']);
  if (message.permissions.length === 0)
    throw new ConfigError(join(path, 'permissions'), 'value must contain at least 1 item(s)');
  if (message.principals.length === 0)
    throw new ConfigError(join(path, 'principals'), 'value must contain at least 1 item(s)');
  return {
    name,
    permissions: or(message.permissions.map((one, i) => permission(one, join(path, `permissions[${i}]`), 0))),
    principals: or(message.principals.map((one, i) => principal(one, join(path, `principals[${i}]`), 0))),
  };
}

export function or(of: readonly Expr[]): Expr {
  if (of.some((one) => one.kind === 'any')) return ANY;
  if (of.length === 1) return of[0]!;
  return of.length === 0 ? NEVER : { kind: 'or', of };
}

export function and(of: readonly Expr[]): Expr {
  const rest = of.filter((one) => one.kind !== 'any');
  if (rest.some((one) => one.kind === 'never')) return NEVER;
  if (rest.length === 1) return rest[0]!;
  return rest.length === 0 ? ANY : { kind: 'and', of: rest };
}

export function not(of: Expr): Expr {
  if (of.kind === 'any') return NEVER;
  if (of.kind === 'never') return ANY;
  return of.kind === 'not' ? of.of : { kind: 'not', of };
}

/** `any: false` and an empty list are refused by Envoy too. */
function set<T>(list: readonly T[], path: string, one: (entry: T, path: string) => Expr): Expr[] {
  if (list.length === 0) throw new ConfigError(path, 'value must contain at least 1 item(s)');
  return list.map((entry, i) => one(entry, `${path}[${i}]`));
}

/** Every kind of condition is handled or refused below; only fields of a newer API are unknown. */
function allFields(schema: DescMessage): string[] {
  return schema.fields.map((field) => field.name);
}

function deeper(depth: number, path: string): number {
  if (depth >= MAX_DEPTH) throw new ConfigError(path, `conditions are nested deeper than ${MAX_DEPTH}`);
  return depth + 1;
}

function permission(message: Permission, path: string, depth: number): Expr {
  only(PermissionSchema, message, path, allFields(PermissionSchema));
  const { rule } = message;
  const down = deeper(depth, path);
  const inner = (entry: Permission, at: string) => permission(entry, at, down);
  switch (rule.case) {
    case 'andRules':
      return and(set(rule.value.rules, join(path, 'and_rules.rules'), inner));
    case 'orRules':
      return or(set(rule.value.rules, join(path, 'or_rules.rules'), inner));
    case 'notRule':
      return not(inner(rule.value, join(path, 'not_rule')));
    case 'any':
      return any(rule.value, path);
    case 'header':
      return header(rule.value, join(path, 'header'));
    case 'urlPath':
      return urlPath(rule.value.rule, join(path, 'url_path'));
    case 'destinationIp':
      return ip('destination', rule.value, join(path, 'destination_ip'));
    case 'destinationPort':
      return port(rule.value, path);
    case 'destinationPortRange':
      return portRange(rule.value.start, rule.value.end, join(path, 'destination_port_range'));
    case 'metadata':
      return metadata(rule.value, 'dynamic', join(path, 'metadata'));
    case 'sourcedMetadata':
      return sourced(rule.value, join(path, 'sourced_metadata'));
    case 'requestedServerName':
      return text(SERVER_NAME, rule.value, join(path, 'requested_server_name'));
    case 'uriTemplate':
      return uriTemplate(rule.value.typedConfig, join(path, 'uri_template'));
    case 'matcher':
      throw new ConfigError(
        join(path, 'matcher'),
        `Didn't find a registered implementation for '${rule.value.name}': permission extensions are not supported by this proxy`,
      );
    case undefined:
      throw new ConfigError(join(path, 'rule'), 'value is required');
    default:
      return rule satisfies never;
  }
}

function principal(message: Principal, path: string, depth: number): Expr {
  only(PrincipalSchema, message, path, allFields(PrincipalSchema));
  const { identifier: id } = message;
  const down = deeper(depth, path);
  const inner = (entry: Principal, at: string) => principal(entry, at, down);
  switch (id.case) {
    case 'andIds':
      return and(set(id.value.ids, join(path, 'and_ids.ids'), inner));
    case 'orIds':
      return or(set(id.value.ids, join(path, 'or_ids.ids'), inner));
    case 'notId':
      return not(inner(id.value, join(path, 'not_id')));
    case 'any':
      return any(id.value, path);
    case 'authenticated': {
      const at = join(path, 'authenticated');
      only(Principal_AuthenticatedSchema, id.value, at, ['principal_name']);
      const name = id.value.principalName;
      return name ? text(PRINCIPAL, name, join(at, 'principal_name')) : AUTHENTICATED;
    }
    case 'sourceIp':
      return ip('source', id.value, join(path, 'source_ip'));
    case 'directRemoteIp':
      return ip('direct', id.value, join(path, 'direct_remote_ip'));
    case 'remoteIp':
      return ip('remote', id.value, join(path, 'remote_ip'));
    case 'header':
      return header(id.value, join(path, 'header'));
    case 'urlPath':
      return urlPath(id.value.rule, join(path, 'url_path'));
    case 'metadata':
      return metadata(id.value, 'dynamic', join(path, 'metadata'));
    case 'sourcedMetadata':
      return sourced(id.value, join(path, 'sourced_metadata'));
    case 'filterState':
      return filterState(id.value, join(path, 'filter_state'));
    case 'custom':
      throw new ConfigError(
        join(path, 'custom'),
        `Didn't find a registered implementation for '${id.value.name}': principal extensions are not supported by this proxy`,
      );
    case undefined:
      throw new ConfigError(join(path, 'identifier'), 'value is required');
    default:
      return id satisfies never;
  }
}

const AUTHENTICATED: Expr = {
  kind: 'test',
  label: 'an authenticated peer',
  test: (facts: Facts) => facts.tls && facts.peerVerified,
};

function any(value: boolean, path: string): Expr {
  if (!value) throw new ConfigError(join(path, 'any'), 'value must equal true');
  return ANY;
}

function urlPath(rule: PathMatcher['rule'], path: string): Expr {
  if (rule.case !== 'path') throw new ConfigError(join(path, 'rule'), 'value is required');
  return text(PATH, rule.value, join(path, 'path'));
}

function ip(side: IpSide, range: CidrRange, path: string): Expr {
  const cidr = parseCidr(range.addressPrefix, range.prefixLen);
  const written = `${range.addressPrefix}/${range.prefixLen ?? 0}`;
  if (!cidr) throw new ConfigError(path, `'${written}' is not a CIDR range`);
  return { kind: 'ip', side, cidr, text: written };
}

function port(value: number, path: string): Expr {
  if (value > 65_535) throw new ConfigError(join(path, 'destination_port'), 'value must be at most 65535');
  return { kind: 'text', attribute: PORT, match: { kind: 'exact', value: String(value), fold: false } };
}

function portRange(start: number, end: number, path: string): Expr {
  if (start < 0 || start > 65_536 || end < 0 || end > 65_536 || start >= end)
    throw new ConfigError(path, `range [${start}, ${end}) is invalid`);
  return {
    kind: 'test',
    label: `destination port in [${start}, ${end})`,
    test: (facts: Facts) => facts.destination.port >= start && facts.destination.port < end,
  };
}

function sourced(message: SourcedMetadata, path: string): Expr {
  only(SourcedMetadataSchema, message, path, ['metadata_matcher', 'metadata_source']);
  if (!message.metadataMatcher) throw new ConfigError(join(path, 'metadata_matcher'), 'value is required');
  const source = message.metadataSource === MetadataSource.ROUTE ? 'route' : 'dynamic';
  return metadata(message.metadataMatcher, source, join(path, 'metadata_matcher'));
}

function uriTemplate(any: Any | undefined, path: string): Expr {
  if (!any) throw new ConfigError(path, 'uri_template has no typed_config');
  const opened = openAny(any, path);
  if (opened.typeName !== UriTemplateMatchConfigSchema.typeName)
    throw new ConfigError(path, `path matcher '${opened.typeName}' is not supported by this proxy`);
  const message = opened.open(UriTemplateMatchConfigSchema);
  only(UriTemplateMatchConfigSchema, message, path, ['path_template']);
  const compiled = compileTemplate(message.pathTemplate, join(path, 'path_template'));
  return {
    kind: 'text',
    attribute: PATH,
    match: { kind: 'template', source: message.pathTemplate, prefix: compiled.prefix, test: compiled.test },
  };
}
