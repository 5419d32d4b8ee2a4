// The JSON patch (RFC 6902) that turns one JSON value into another: objects field by field, lists replaced whole. Pure.

export type PatchOp =
  | { readonly op: 'add' | 'replace'; readonly path: string; readonly value: unknown }
  | { readonly op: 'remove'; readonly path: string };

export function diff(from: unknown, to: unknown, path = ''): readonly PatchOp[] {
  if (JSON.stringify(from) === JSON.stringify(to)) return [];
  if (!isObject(from) || !isObject(to)) return [{ op: 'replace', path, value: to }];
  const out: PatchOp[] = [];
  for (const key of Object.keys(from))
    if (to[key] === undefined && from[key] !== undefined) out.push({ op: 'remove', path: at(path, key) });
  for (const [key, value] of Object.entries(to)) {
    if (value === undefined) continue;
    if (from[key] === undefined) out.push({ op: 'add', path: at(path, key), value });
    else out.push(...diff(from[key], value, at(path, key)));
  }
  return out;
}

function at(path: string, key: string): string {
  return `${path}/${key.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}
function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
