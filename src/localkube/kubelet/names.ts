// Host name, /etc/hosts and /etc/resolv.conf of a pod. Pure; called when a pod is set up.
import type { Pod } from '../../api/kubernetes/pod.ts';

export interface DnsSettings {
  readonly clusterDnsIp: string;
  readonly clusterDomain: string;
  /** The host's own resolv.conf, for dnsPolicy Default. */
  readonly hostResolvConf: string;
}

/** Linux allows 64 bytes, Kubernetes 63. */
const MAX_HOSTNAME = 63;
const MAX_KERNEL_HOSTNAME = 64;

export function podHostname(pod: Pod): string {
  const name = pod.spec.hostname ?? pod.metadata.name;
  return name.slice(0, MAX_HOSTNAME).replace(/[-.]+$/, '');
}

/** What `hostname` says inside: with setHostnameAsFQDN the full name. Throws when Linux cannot hold it. */
export function kernelHostname(pod: Pod, clusterDomain: string): string {
  const host = podHostname(pod);
  const { setHostnameAsFQDN, subdomain } = pod.spec;
  if (!setHostnameAsFQDN || !subdomain) return host;
  const full = `${host}.${subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}`;
  if (full.length > MAX_KERNEL_HOSTNAME)
    throw new Error(
      `setHostnameAsFQDN: ${full} has ${full.length} characters, Linux allows ${MAX_KERNEL_HOSTNAME}: shorten hostname or subdomain`,
    );
  return full;
}

export function podHosts(pod: Pod, podIp: string, clusterDomain: string): string {
  const host = podHostname(pod);
  const names = pod.spec.subdomain
    ? `${host}.${pod.spec.subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}\t${host}`
    : host;
  const lines = [
    '# Kubernetes-managed hosts file.',
    '127.0.0.1\tlocalhost',
    '::1\tlocalhost ip6-localhost ip6-loopback',
    'fe00::0\tip6-localnet',
    'fe00::0\tip6-mcastprefix',
    'fe00::1\tip6-allnodes',
    'fe00::2\tip6-allrouters',
    `${podIp}\t${names}`,
  ];
  for (const alias of pod.spec.hostAliases ?? []) lines.push(`${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`);
  return `${lines.join('\n')}\n`;
}

export function podResolvConf(pod: Pod, dns: DnsSettings): string {
  const policy = pod.spec.dnsPolicy ?? 'ClusterFirst';
  const host = parseResolvConf(dns.hostResolvConf);
  const namespace = pod.metadata.namespace ?? 'default';
  const base =
    policy === 'None'
      ? { nameservers: [], searches: [], options: [] }
      : policy === 'Default'
        ? host
        : {
            nameservers: [dns.clusterDnsIp],
            searches: [`${namespace}.svc.${dns.clusterDomain}`, `svc.${dns.clusterDomain}`, dns.clusterDomain],
            options: ['ndots:5'],
          };
  const config = pod.spec.dnsConfig;
  const nameservers = [...new Set([...base.nameservers, ...(config?.nameservers ?? [])])];
  const searches = [...new Set([...base.searches, ...(config?.searches ?? [])])];
  const own = (config?.options ?? []).map((o) => (o.value === undefined ? `${o.name}` : `${o.name}:${o.value}`));
  const named = new Set(own.map(optionName));
  const options = [...base.options.filter((o) => !named.has(optionName(o))), ...own];
  let out = '';
  if (searches.length > 0) out += `search ${searches.join(' ')}\n`;
  for (const server of nameservers) out += `nameserver ${server}\n`;
  if (options.length > 0) out += `options ${options.join(' ')}\n`;
  return out;
}

function optionName(option: string): string {
  return option.split(':', 1)[0] ?? option;
}

function parseResolvConf(text: string): {
  readonly nameservers: readonly string[];
  readonly searches: readonly string[];
  readonly options: readonly string[];
} {
  const nameservers: string[] = [];
  let searches: string[] = [];
  const options: string[] = [];
  for (const line of text.split('\n')) {
    const [word, ...rest] = line.trim().split(/\s+/);
    if (word === 'nameserver' && rest[0]) nameservers.push(rest[0]);
    else if (word === 'search' || word === 'domain') searches = rest;
    else if (word === 'options') options.push(...rest);
  }
  return { nameservers, searches, options };
}
