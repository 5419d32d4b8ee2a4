// Host patterns of Istio's objects: `*`, `*.suffix`, or a name. Used by validation and by the model.

/** `pattern` is a host, `*` or `*.suffix`. */
export function hostMatches(pattern: string, host: string): boolean {
  if (pattern === '*' || pattern === host) return true;
  return pattern.startsWith('*') && host.length > pattern.length - 1 && host.endsWith(pattern.slice(1));
}
