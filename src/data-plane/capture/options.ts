// istio-iptables' flags and their environment fallbacks → CaptureOptions. Called by main.ts.
import { isIP } from 'node:net';
import { parseArgs } from 'node:util';
import type { CaptureOptions, CidrSelection, DnsCapture, OwnerGroups, PortSelection } from './rules.ts';

export interface CaptureCommand {
  readonly options: CaptureOptions;
  readonly dryRun: boolean;
  readonly cleanupOnly: boolean;
  /** Remove what another configuration left before applying this one. */
  readonly reconcile: boolean;
  readonly skipRuleApply: boolean;
  readonly runValidation: boolean;
  readonly dualStack: boolean;
  readonly probeTimeoutMs: number;
  readonly validationPort: number;
}

/** The command line is wrong: the message names the flag and what it may be. */
export class CaptureUsageError extends Error {}

const DEFAULT_PROXY_ID = '1337';
const DEFAULT_PROBE_TIMEOUT = '5s';
/** A list on the command line never holds more entries: each becomes a kernel rule or several. */
export const MAX_LIST_ENTRIES = 1024;

const FLAGS = {
  'envoy-port': { type: 'string', short: 'p' },
  'inbound-capture-port': { type: 'string', short: 'z' },
  'inbound-tunnel-port': { type: 'string', short: 'e' },
  'proxy-uid': { type: 'string', short: 'u' },
  'proxy-gid': { type: 'string', short: 'g' },
  'istio-inbound-interception-mode': { type: 'string', short: 'm' },
  'istio-inbound-ports': { type: 'string', short: 'b' },
  'istio-local-exclude-ports': { type: 'string', short: 'd' },
  'istio-service-cidr': { type: 'string', short: 'i' },
  'istio-service-exclude-cidr': { type: 'string', short: 'x' },
  'istio-outbound-ports': { type: 'string', short: 'q' },
  'istio-local-outbound-ports-exclude': { type: 'string', short: 'o' },
  'kube-virt-interfaces': { type: 'string', short: 'k' },
  'istio-exclude-interfaces': { type: 'string', short: 'c' },
  'redirect-dns': { type: 'boolean' },
  'capture-all-dns': { type: 'boolean' },
  'drop-invalid': { type: 'boolean' },
  'dual-stack': { type: 'boolean' },
  'dry-run': { type: 'boolean', short: 'n' },
  'cleanup-only': { type: 'boolean' },
  reconcile: { type: 'boolean' },
  'skip-rule-apply': { type: 'boolean' },
  'run-validation': { type: 'boolean' },
  'force-apply': { type: 'boolean' },
  'native-nftables': { type: 'boolean' },
  'probe-timeout': { type: 'string' },
  'iptables-probe-port': { type: 'string' },
  'istio-inbound-tproxy-mark': { type: 'string', short: 't' },
  'istio-inbound-tproxy-route-table': { type: 'string', short: 'r' },
  log_output_level: { type: 'string' },
} as const;

type Env = Readonly<Record<string, string | undefined>>;

/** `resolvConf` is the text of /etc/resolv.conf: the servers whose queries are captured. Throws {@link CaptureUsageError}. */
export function parseCaptureCommand(args: readonly string[], env: Env, resolvConf: string): CaptureCommand {
  const values = readFlags(args);
  const truthy = (flag: boolean | undefined, name: string): boolean => flag ?? /^(1|t|true)$/i.test(env[name] ?? '');
  refuseUnsupported(values, env);
  const uids = list(values['proxy-uid'] ?? env.PROXY_UID ?? DEFAULT_PROXY_ID);
  const gids = list(values['proxy-gid'] || env.PROXY_GID || uids.join(','));
  for (const id of [...uids, ...gids])
    if (!/^[\w.-]+$/.test(id)) throw new CaptureUsageError(`"${id}" is neither a user or group id nor a name`);
  const options: CaptureOptions = {
    outboundPort: onePort('-p', values['envoy-port'] ?? env.ENVOY_PORT ?? '15001'),
    inboundPort: onePort('-z', values['inbound-capture-port'] ?? env.INBOUND_CAPTURE_PORT ?? '15006'),
    tunnelPort: onePort('-e', values['inbound-tunnel-port'] ?? env.INBOUND_TUNNEL_PORT ?? '15008'),
    uids,
    gids,
    inboundInclude: portSelection('-b', values['istio-inbound-ports'] ?? env.ISTIO_INBOUND_PORTS ?? ''),
    inboundExclude: ports('-d', values['istio-local-exclude-ports'] ?? env.ISTIO_LOCAL_EXCLUDE_PORTS ?? ''),
    outboundCidrInclude: cidrSelection('-i', values['istio-service-cidr'] ?? env.ISTIO_SERVICE_CIDR ?? ''),
    outboundCidrExclude: cidrs('-x', values['istio-service-exclude-cidr'] ?? env.ISTIO_SERVICE_EXCLUDE_CIDR ?? ''),
    outboundPortInclude: ports('-q', values['istio-outbound-ports'] ?? env.ISTIO_OUTBOUND_PORTS ?? ''),
    outboundPortExclude: ports(
      '-o',
      values['istio-local-outbound-ports-exclude'] ?? env.ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE ?? '',
    ),
    excludeInterfaces: interfaces('-c', values['istio-exclude-interfaces'] ?? env.ISTIO_EXCLUDE_INTERFACES ?? ''),
    virtualInterfaces: interfaces('-k', values['kube-virt-interfaces'] ?? env.KUBE_VIRT_INTERFACES ?? ''),
    ownerGroups: ownerGroups(env),
    dropInvalid: truthy(values['drop-invalid'], 'INVALID_DROP'),
    dns: dnsCapture(
      truthy(values['redirect-dns'], 'ISTIO_META_DNS_CAPTURE'),
      truthy(values['capture-all-dns'], 'CAPTURE_ALL_DNS'),
      resolvConf,
    ),
  };
  return {
    options,
    dryRun: truthy(values['dry-run'], 'DRY_RUN'),
    cleanupOnly: truthy(values['cleanup-only'], 'CLEANUP_ONLY'),
    reconcile: truthy(values.reconcile, 'RECONCILE') || (values['force-apply'] ?? false),
    skipRuleApply: truthy(values['skip-rule-apply'], 'SKIP_RULE_APPLY'),
    runValidation: truthy(values['run-validation'], 'RUN_VALIDATION'),
    dualStack: truthy(values['dual-stack'], 'ISTIO_DUAL_STACK'),
    probeTimeoutMs: duration('--probe-timeout', values['probe-timeout'] ?? env.PROBE_TIMEOUT ?? DEFAULT_PROBE_TIMEOUT),
    validationPort: onePort(
      '--iptables-probe-port',
      values['iptables-probe-port'] ?? env.IPTABLES_PROBE_PORT ?? '15002',
    ),
  };
}

function readFlags(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: FLAGS, strict: true, allowPositionals: false }).values;
  } catch (error) {
    throw new CaptureUsageError(error instanceof Error ? error.message : String(error));
  }
}

function refuseUnsupported(values: ReturnType<typeof readFlags>, env: Env): void {
  const mode = (
    values['istio-inbound-interception-mode'] ||
    env.ISTIO_INBOUND_INTERCEPTION_MODE ||
    'REDIRECT'
  ).toUpperCase();
  if (mode === 'TPROXY') throw new CaptureUsageError('interception mode TPROXY (-m) is not supported: use REDIRECT');
  if (mode !== 'REDIRECT') throw new CaptureUsageError(`interception mode "${mode}" (-m) is unknown: use REDIRECT`);
  if (values['native-nftables'])
    throw new CaptureUsageError(
      '--native-nftables is not supported: iptables-restore over nf_tables or legacy is used',
    );
}

function list(text: string): string[] {
  const entries = text
    .split(',')
    .map((entry) => entry.trim())
    .filter((entry) => entry !== '');
  if (entries.length > MAX_LIST_ENTRIES)
    throw new CaptureUsageError(`a list of ${entries.length} entries is too long: at most ${MAX_LIST_ENTRIES}`);
  return entries;
}

function onePort(flag: string, text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535)
    throw new CaptureUsageError(`${flag}: "${text}" is not a port (1 to 65535)`);
  return port;
}

const ports = (flag: string, text: string): number[] => list(text).map((entry) => onePort(flag, entry));

function portSelection(flag: string, text: string): PortSelection {
  return text.trim() === '*' ? { kind: 'all' } : { kind: 'only', ports: ports(flag, text) };
}

function cidrs(flag: string, text: string): string[] {
  return list(text).map((entry) => {
    if (entry === '*') throw new CaptureUsageError(`${flag}: "*" is not allowed here: list the ranges`);
    const [address = '', length, ...rest] = entry.split('/');
    const family = isIP(address);
    const bits = family === 4 ? 32 : 128;
    const valid = length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= bits);
    if (family === 0 || !valid || rest.length > 0)
      throw new CaptureUsageError(`${flag}: "${entry}" is not an address range (CIDR)`);
    return length === undefined ? `${address}/${bits}` : entry;
  });
}

function cidrSelection(flag: string, text: string): CidrSelection {
  return text.trim() === '*' ? { kind: 'all' } : { kind: 'only', cidrs: cidrs(flag, text) };
}

function interfaces(flag: string, text: string): string[] {
  return list(text).map((name) => {
    if (!/^[\w.@+-]{1,15}$/.test(name)) throw new CaptureUsageError(`${flag}: "${name}" is not an interface name`);
    return name;
  });
}

function ownerGroups(env: Env): OwnerGroups {
  const include = env.ISTIO_OUTBOUND_OWNER_GROUPS ?? '*';
  const exclude = list(env.ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE ?? '');
  const groups = include.trim() === '*' ? undefined : list(include);
  for (const group of [...(groups ?? []), ...exclude])
    if (!/^[\w.-]+$/.test(group)) throw new CaptureUsageError(`ISTIO_OUTBOUND_OWNER_GROUPS: "${group}" is not a group`);
  if (groups && exclude.length > 0)
    throw new CaptureUsageError(
      'ISTIO_OUTBOUND_OWNER_GROUPS and ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE cannot both be given',
    );
  if (groups) return { kind: 'include', groups };
  return exclude.length > 0 ? { kind: 'exclude', groups: exclude } : { kind: 'all' };
}

function dnsCapture(wanted: boolean, all: boolean, resolvConf: string): DnsCapture {
  if (!wanted) return { kind: 'off' };
  if (all) return { kind: 'all' };
  const servers = [...resolvConf.matchAll(/^\s*nameserver\s+(\S+)/gm)].map((match) => match[1] ?? '');
  return { kind: 'servers', servers: servers.filter((server) => isIP(server) !== 0) };
}

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 };

function duration(flag: string, text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text);
  if (!match) throw new CaptureUsageError(`${flag}: "${text}" is not a duration such as 5s`);
  return Number(match[1]) * (UNIT_MS[match[2] ?? ''] ?? 1);
}
