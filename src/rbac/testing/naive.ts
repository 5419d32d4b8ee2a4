// Evaluates Envoy's RBAC message directly, condition by condition and policy by policy, with nothing compiled or indexed:
// the yardstick of the property test. Knows the kinds of conditions that the test makes.
import type { Permission, Principal, RBAC } from '#proto/envoy/config/rbac/v3/rbac_pb.js';
import type { StringMatcher } from '#proto/envoy/type/matcher/v3/string_pb.js';
import type { Facts } from '../facts.ts';

/** The first policy that matches, by name; undefined = none. */
export function naiveMatch(rules: RBAC, facts: Facts): string | undefined {
  const names = Object.keys(rules.policies).sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
  return names.find((name) => {
    const policy = rules.policies[name]!;
    return (
      policy.permissions.some((one) => permission(one, facts)) && policy.principals.some((one) => principal(one, facts))
    );
  });
}

function permission({ rule }: Permission, facts: Facts): boolean {
  switch (rule.case) {
    case 'andRules':
      return rule.value.rules.every((one) => permission(one, facts));
    case 'orRules':
      return rule.value.rules.some((one) => permission(one, facts));
    case 'notRule':
      return !permission(rule.value, facts);
    case 'any':
      return true;
    case 'header':
      return header(rule.value, facts);
    case 'urlPath':
      return rule.value.rule.case === 'path' && text(rule.value.rule.value, facts.path.split('?')[0]!);
    case 'destinationIp':
      return inRange(rule.value, facts.destination.ip);
    case 'destinationPort':
      return rule.value === facts.destination.port;
    case 'destinationPortRange':
      return facts.destination.port >= rule.value.start && facts.destination.port < rule.value.end;
    case 'requestedServerName':
      return text(rule.value, facts.serverName);
    default:
      throw new Error(`the yardstick does not know ${rule.case}`);
  }
}

function principal({ identifier: id }: Principal, facts: Facts): boolean {
  switch (id.case) {
    case 'andIds':
      return id.value.ids.every((one) => principal(one, facts));
    case 'orIds':
      return id.value.ids.some((one) => principal(one, facts));
    case 'notId':
      return !principal(id.value, facts);
    case 'any':
      return true;
    case 'authenticated': {
      const { principalName } = id.value;
      if (!facts.tls) return false;
      if (!principalName) return facts.peerVerified;
      const names = facts.peerVerified ? [...facts.peerUris, ...facts.peerDns, facts.peerSubject] : [''];
      return names.some((name) => text(principalName, name));
    }
    case 'directRemoteIp':
      return inRange(id.value, facts.direct.ip);
    case 'remoteIp':
      return inRange(id.value, facts.remote.ip);
    case 'header':
      return header(id.value, facts);
    default:
      throw new Error(`the yardstick does not know ${id.case}`);
  }
}

function header(
  matcher: { name: string; headerMatchSpecifier: { case?: string | undefined; value?: unknown }; invertMatch: boolean },
  facts: Facts,
): boolean {
  const value =
    matcher.name === ':method'
      ? facts.method
      : matcher.name === ':authority'
        ? facts.authority || undefined
        : facts.header(matcher.name);
  const spec = matcher.headerMatchSpecifier;
  if (spec.case === 'presentMatch') return ((value !== undefined) === spec.value) !== matcher.invertMatch;
  if (value === undefined) return false;
  const values = typeof value === 'string' ? [value] : value;
  return values.some((one) => text(spec.value as StringMatcher, one)) !== matcher.invertMatch;
}

function text(matcher: StringMatcher, value: string): boolean {
  const { matchPattern: pattern } = matcher;
  const fold = (one: string): string => (matcher.ignoreCase ? one.toLowerCase() : one);
  switch (pattern.case) {
    case 'exact':
      return fold(value) === fold(pattern.value);
    case 'prefix':
      return fold(value).startsWith(fold(pattern.value));
    case 'suffix':
      return fold(value).endsWith(fold(pattern.value));
    case 'contains':
      return fold(value).includes(fold(pattern.value));
    case 'safeRegex':
      return new RegExp(`^(?:${pattern.value.regex})$`).test(value);
    default:
      throw new Error(`the yardstick does not know ${pattern.case}`);
  }
}

/** IPv4 only. */
function inRange(range: { addressPrefix: string; prefixLen?: number | undefined }, ip: string): boolean {
  if (ip === '') return false;
  const bits = (address: string): string =>
    address
      .split('.')
      .map((part) => Number(part).toString(2).padStart(8, '0'))
      .join('');
  const length = range.prefixLen ?? 0;
  return bits(ip).slice(0, length) === bits(range.addressPrefix).slice(0, length);
}
