// The capture rules of a pod as iptables-restore text: pure. Called by main.ts (istio-iptables).

/** Where traffic goes and whose own traffic is left alone. Lists are in the order of the command line. */
export interface CaptureOptions {
  readonly outboundPort: number;
  readonly inboundPort: number;
  readonly tunnelPort: number;
  readonly uids: readonly string[];
  readonly gids: readonly string[];
  readonly inboundInclude: PortSelection;
  readonly inboundExclude: readonly number[];
  readonly outboundCidrInclude: CidrSelection;
  readonly outboundCidrExclude: readonly string[];
  readonly outboundPortInclude: readonly number[];
  readonly outboundPortExclude: readonly number[];
  readonly excludeInterfaces: readonly string[];
  readonly virtualInterfaces: readonly string[];
  readonly ownerGroups: OwnerGroups;
  readonly dropInvalid: boolean;
  readonly dns: DnsCapture;
}

export type PortSelection = { readonly kind: 'all' } | { readonly kind: 'only'; readonly ports: readonly number[] };
export type CidrSelection = { readonly kind: 'all' } | { readonly kind: 'only'; readonly cidrs: readonly string[] };
/** Groups whose programs are captured, or are not. */
export type OwnerGroups =
  | { readonly kind: 'all' }
  | { readonly kind: 'include'; readonly groups: readonly string[] }
  | { readonly kind: 'exclude'; readonly groups: readonly string[] };
export type DnsCapture =
  | { readonly kind: 'off' }
  | { readonly kind: 'servers'; readonly servers: readonly string[] }
  | { readonly kind: 'all' };

export type Family = 'ipv4' | 'ipv6';

const DNS_LISTENER_PORT = 15053;
/** The source address of a proxy's connection to its own application. */
const INBOUND_SOURCE = { ipv4: '127.0.0.6/32', ipv6: '::6/128' } as const;
const LOOPBACK = { ipv4: '127.0.0.1/32', ipv6: '::1/128' } as const;

type Table = 'raw' | 'mangle' | 'nat';
const TABLES: readonly Table[] = ['raw', 'mangle', 'nat'];
const BUILT_IN: ReadonlySet<string> = new Set(['PREROUTING', 'INPUT', 'FORWARD', 'OUTPUT', 'POSTROUTING']);
/** Every chain these rules ever make, by table: what a cleanup takes away. */
const OWN_CHAINS: Readonly<Record<Table, readonly string[]>> = {
  raw: ['ISTIO_OUTPUT_DNS', 'ISTIO_INBOUND'],
  mangle: ['ISTIO_DROP'],
  nat: ['ISTIO_INBOUND', 'ISTIO_REDIRECT', 'ISTIO_IN_REDIRECT', 'ISTIO_OUTPUT', 'ISTIO_OUTPUT_DNS'],
};
/** The jumps from built-in chains; the order is that in which a cleanup removes them. */
const JUMPS: readonly (readonly [Table, string, string])[] = [
  ['raw', 'PREROUTING', '-j ISTIO_INBOUND'],
  ['raw', 'OUTPUT', '-j ISTIO_OUTPUT_DNS'],
  ['mangle', 'PREROUTING', '-m conntrack --ctstate INVALID -j ISTIO_DROP'],
  ['nat', 'PREROUTING', '-p tcp -j ISTIO_INBOUND'],
  ['nat', 'OUTPUT', '-j ISTIO_OUTPUT'],
];

class RuleSet {
  readonly #rules: Record<Table, string[]> = { raw: [], mangle: [], nat: [] };
  readonly #chains: Record<Table, Set<string>> = { raw: new Set(), mangle: new Set(), nat: new Set() };

  chain(table: Table, name: string): void {
    this.#chains[table].add(name);
  }

  append(table: Table, chain: string, rule: string): void {
    if (!BUILT_IN.has(chain)) this.chain(table, chain);
    this.#rules[table].push(`-A ${chain} ${rule}`);
  }

  insert(table: Table, chain: string, position: number, rule: string): void {
    this.#rules[table].push(`-I ${chain} ${position} ${rule}`);
  }

  /** iptables-restore input; tables without rules are left out. */
  render(): string {
    let out = '';
    for (const table of TABLES) {
      if (this.#rules[table].length === 0) continue;
      const chains = [...this.#chains[table]].map((name) => `-N ${name}\n`);
      out += `*${table}\n${chains.join('')}${this.#rules[table].join('\n')}\nCOMMIT\n`;
    }
    return out;
  }
}

/** The whole rule set of one address family, for `iptables-restore --noflush`. */
export function buildRules(options: CaptureOptions, family: Family): string {
  const rules = new RuleSet();
  for (const name of ['ISTIO_INBOUND', 'ISTIO_REDIRECT', 'ISTIO_IN_REDIRECT', 'ISTIO_OUTPUT']) rules.chain('nat', name);
  addInterfaceExclusions(rules, options);
  if (options.dropInvalid) {
    rules.append('mangle', 'PREROUTING', '-m conntrack --ctstate INVALID -j ISTIO_DROP');
    rules.append('mangle', 'ISTIO_DROP', '-j DROP');
  }
  rules.append('nat', 'ISTIO_INBOUND', `-p tcp --dport ${options.tunnelPort} -j RETURN`);
  rules.append('nat', 'ISTIO_REDIRECT', `-p tcp -j REDIRECT --to-ports ${options.outboundPort}`);
  rules.append('nat', 'ISTIO_IN_REDIRECT', `-p tcp -j REDIRECT --to-ports ${options.inboundPort}`);
  addInbound(rules, options);
  rules.append('nat', 'OUTPUT', '-j ISTIO_OUTPUT');
  addOutbound(rules, options, family);
  return rules.render();
}

function addInterfaceExclusions(rules: RuleSet, options: CaptureOptions): void {
  for (const name of options.excludeInterfaces) {
    rules.append('nat', 'PREROUTING', `-i ${name} -j RETURN`);
    rules.append('nat', 'OUTPUT', `-o ${name} -j RETURN`);
  }
}

function addInbound(rules: RuleSet, options: CaptureOptions): void {
  const { inboundInclude } = options;
  if (inboundInclude.kind === 'only' && inboundInclude.ports.length === 0) return;
  rules.append('nat', 'PREROUTING', '-p tcp -j ISTIO_INBOUND');
  if (inboundInclude.kind === 'only') {
    for (const port of inboundInclude.ports)
      rules.append('nat', 'ISTIO_INBOUND', `-p tcp --dport ${port} -j ISTIO_IN_REDIRECT`);
    return;
  }
  for (const port of options.inboundExclude) rules.append('nat', 'ISTIO_INBOUND', `-p tcp --dport ${port} -j RETURN`);
  rules.append('nat', 'ISTIO_INBOUND', '-p tcp -j ISTIO_IN_REDIRECT');
}

function addOutbound(rules: RuleSet, options: CaptureOptions, family: Family): void {
  const append = (rule: string): void => rules.append('nat', 'ISTIO_OUTPUT', rule);
  const cidrs = ofFamily(options.outboundCidrInclude, family);
  for (const port of options.outboundPortExclude)
    for (const protocol of ['tcp', 'udp']) append(`-p ${protocol} --dport ${port} -j RETURN`);
  append(`-s ${INBOUND_SOURCE[family]} -o lo -j RETURN`);
  for (const uid of options.uids) addOwner(append, options, family, 'uid', uid, cidrs);
  for (const gid of options.gids) addOwner(append, options, family, 'gid', gid, cidrs);
  addOwnerGroups(append, options.ownerGroups);
  addDns(rules, options, family);
  append(`-d ${LOOPBACK[family]} -j RETURN`);
  for (const cidr of options.outboundCidrExclude) if (familyOf(cidr) === family) append(`-d ${cidr} -j RETURN`);
  for (const name of options.virtualInterfaces) addVirtualInterface(rules, name, cidrs);
  for (const port of options.outboundPortInclude) append(`-p tcp --dport ${port} -j ISTIO_REDIRECT`);
  if (cidrs === 'all') append('-j ISTIO_REDIRECT');
  else for (const cidr of cidrs) append(`-d ${cidr} -j ISTIO_REDIRECT`);
}

type FamilyCidrs = 'all' | readonly string[];

function ofFamily(selection: CidrSelection, family: Family): FamilyCidrs {
  return selection.kind === 'all' ? 'all' : selection.cidrs.filter((cidr) => familyOf(cidr) === family);
}

const familyOf = (cidr: string): Family => (cidr.includes(':') ? 'ipv6' : 'ipv4');

/** The three rules for one owner: to itself through the inbound side, others on loopback past it, the proxy's own out. */
function addOwner(
  append: (rule: string) => void,
  options: CaptureOptions,
  family: Family,
  kind: 'uid' | 'gid',
  id: string,
  cidrs: FamilyCidrs,
): void {
  const owner = `--${kind}-owner ${id}`;
  const dns = options.dns.kind !== 'off';
  // A DNS reply to the agent must not be taken for a call to itself; the agent is known by its uid.
  const ports =
    dns && kind === 'uid' ? `-m multiport ! --dports 53,${options.tunnelPort}` : `! --dport ${options.tunnelPort}`;
  append(`-o lo ! -d ${LOOPBACK[family]} -p tcp ${ports} -m owner ${owner} -j ISTIO_IN_REDIRECT`);
  // Who asks for loopback to be captured means also the calls a program makes to its own address.
  const loopbackWanted = cidrs !== 'all' && cidrs.some((cidr) => isLoopback(cidr, family));
  if (!loopbackWanted) append(`-o lo ${dns ? '-p tcp ! --dport 53 ' : ''}-m owner ! ${owner} -j RETURN`);
  append(`-m owner ${owner} -j RETURN`);
}

function isLoopback(cidr: string, family: Family): boolean {
  return family === 'ipv4' ? cidr.startsWith('127.') : cidr === LOOPBACK.ipv6 || cidr === '::1';
}

function addOwnerGroups(append: (rule: string) => void, owners: OwnerGroups): void {
  if (owners.kind === 'exclude') for (const group of owners.groups) append(`-m owner --gid-owner ${group} -j RETURN`);
  if (owners.kind === 'include' && owners.groups.length > 0)
    append(`${owners.groups.map((group) => `-m owner ! --gid-owner ${group}`).join(' ')} -j RETURN`);
}

function addVirtualInterface(rules: RuleSet, name: string, cidrs: FamilyCidrs): void {
  // Inserted at the top, so the last one written stands first.
  rules.insert('nat', 'PREROUTING', 1, `-i ${name} -j RETURN`);
  const targets = cidrs === 'all' ? [''] : cidrs.map((cidr) => `-d ${cidr} `);
  for (const target of targets.toReversed())
    rules.insert('nat', 'PREROUTING', 1, `-i ${name} ${target}-j ISTIO_REDIRECT`);
}

function addDns(rules: RuleSet, options: CaptureOptions, family: Family): void {
  const { dns } = options;
  if (dns.kind === 'off') return;
  const bits = family === 'ipv4' ? 32 : 128;
  const servers =
    dns.kind === 'all' ? [''] : dns.servers.filter((s) => familyOf(s) === family).map((s) => `${s}/${bits}`);
  const to = (server: string): string => (server === '' ? '' : `-d ${server} `);
  const from = (server: string): string => (server === '' ? '' : `-s ${server} `);
  rules.append('nat', 'ISTIO_OUTPUT', '-j ISTIO_OUTPUT_DNS');
  rules.append('raw', 'OUTPUT', '-j ISTIO_OUTPUT_DNS');
  for (const protocol of ['tcp', 'udp'])
    for (const server of servers)
      rules.append(
        'nat',
        'ISTIO_OUTPUT_DNS',
        `-p ${protocol} --dport 53 ${to(server)}-j REDIRECT --to-ports ${DNS_LISTENER_PORT}`,
      );
  // Two zones keep the application's query and the agent's own apart, though their tuples look alike to conntrack.
  for (const owner of [
    ...options.uids.map((id) => `--uid-owner ${id}`),
    ...options.gids.map((id) => `--gid-owner ${id}`),
  ]) {
    rules.append('raw', 'ISTIO_OUTPUT_DNS', `-p udp --dport 53 -m owner ${owner} -j CT --zone 1`);
    rules.append('raw', 'ISTIO_OUTPUT_DNS', `-p udp --sport ${DNS_LISTENER_PORT} -m owner ${owner} -j CT --zone 2`);
  }
  rules.append('raw', 'PREROUTING', '-j ISTIO_INBOUND');
  for (const server of servers) {
    rules.append('raw', 'ISTIO_OUTPUT_DNS', `-p udp --dport 53 ${to(server)}-j CT --zone 2`);
    rules.append('raw', 'ISTIO_INBOUND', `-p udp --sport 53 ${from(server)}-j CT --zone 1`);
  }
}

/** Commands' arguments that take away whatever an earlier run made; each may fail when its rule is not there. */
export function cleanupCommands(options: CaptureOptions): readonly (readonly string[])[] {
  const commands: string[][] = [];
  for (const [table, chain, rule] of JUMPS) commands.push(['-t', table, '-D', chain, ...rule.split(' ')]);
  for (const name of options.excludeInterfaces) {
    commands.push(['-t', 'nat', '-D', 'PREROUTING', '-i', name, '-j', 'RETURN']);
    commands.push(['-t', 'nat', '-D', 'OUTPUT', '-o', name, '-j', 'RETURN']);
  }
  const { outboundCidrInclude: include } = options;
  const targets = include.kind === 'all' ? [[]] : include.cidrs.map((cidr) => ['-d', cidr]);
  for (const name of options.virtualInterfaces) {
    for (const target of targets)
      commands.push(['-t', 'nat', '-D', 'PREROUTING', '-i', name, ...target, '-j', 'ISTIO_REDIRECT']);
    commands.push(['-t', 'nat', '-D', 'PREROUTING', '-i', name, '-j', 'RETURN']);
  }
  for (const table of TABLES) {
    for (const chain of OWN_CHAINS[table]) commands.push(['-t', table, '-F', chain]);
    for (const chain of OWN_CHAINS[table]) commands.push(['-t', table, '-X', chain]);
  }
  return commands;
}
