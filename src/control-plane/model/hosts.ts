// Host names in rules (traffic.md §3): short names get the rule's namespace; wildcards match sub-domains.

import { hostMatches } from '../../api/istio/hosts.ts';

export { hostMatches };

/** A name without a dot means a Service of the rule's own namespace. */
export function resolveHost(host: string, ruleNamespace: string, domain: string): string {
  const lower = host.toLowerCase();
  if (lower === '' || lower.includes('.') || lower.startsWith('*') || lower.includes(':')) return lower;
  return `${lower}.${ruleNamespace}.svc.${domain}`;
}

/** Two patterns name at least one common host. */
export function hostsOverlap(a: string, b: string): boolean {
  if (a.startsWith('*') && b.startsWith('*')) return a.endsWith(b.slice(1)) || b.endsWith(a.slice(1));
  return hostMatches(a, b) || hostMatches(b, a);
}

/** Sort key: exact hosts first, then the longer wildcard. */
export function moreSpecific(a: string, b: string): number {
  const wildA = a.startsWith('*') ? 1 : 0;
  const wildB = b.startsWith('*') ? 1 : 0;
  return wildA - wildB || b.length - a.length;
}

/** `exportTo` of an object in `own`; empty means everyone. */
export function isVisible(exportTo: readonly string[], own: string, viewer: string): boolean {
  if (exportTo.length === 0) return true;
  return exportTo.some((e) => e === '*' || e === viewer || (e === '.' && own === viewer));
}
