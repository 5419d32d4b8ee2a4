// The line a mistake stands on: the path of a ConfigError looked up in the YAML or JSON it came from. Called by wiring.ts once a
// configuration was refused, so its time does not matter.
import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';

/** What the engine calls resources that stand in lists of the bootstrap. */
const NAMED: Readonly<Record<string, readonly string[]>> = {
  listener: ['static_resources', 'listeners'],
  cluster: ['static_resources', 'clusters'],
};

/** Line of the deepest part of `path` that stands in `text`; undefined when nothing of it does. */
export function lineOf(text: string, path: string): number | undefined {
  const lines = new LineCounter();
  const document = parseDocument(text, { version: '1.1', lineCounter: lines, prettyErrors: false, logLevel: 'silent' });
  let node: unknown = document.contents;
  let offset: number | undefined;
  for (const part of partsOf(path)) {
    if (isAlias(node)) node = node.resolve(document);
    const next = step(node, part);
    if (!next) break;
    offset = (next.at as Node | null)?.range?.[0] ?? offset;
    node = next.node;
  }
  return offset === undefined ? undefined : lines.linePos(offset).line;
}

interface Part {
  readonly name: string;
  /** An element by its name, not its key. */
  readonly byName: boolean;
}

/** `listener 'web'.filter_chains[0].<any>.typed_config["key"]` as steps. */
function partsOf(path: string): Part[] {
  const out: Part[] = [];
  const named = /^(\w+) '([^']*)'/.exec(path);
  const lists = NAMED[named?.[1] ?? ''];
  if (named && lists)
    out.push(...lists.map((name) => ({ name, byName: false })), { name: named[2] ?? '', byName: true });
  for (const [, bracket, plain] of path.slice(named?.[0].length ?? 0).matchAll(/\["?([^\]"]*)"?\]|([^.[\]]+)/g))
    if (plain !== '<any>') out.push({ name: bracket ?? plain ?? '', byName: false });
  return out;
}

function step(node: unknown, { name, byName }: Part): { readonly at: unknown; readonly node: unknown } | undefined {
  if (isSeq(node)) {
    const item = byName
      ? node.items.find((each) => isMap(each) && each.get('name') === name)
      : node.items[Number(name)];
    return item === undefined ? undefined : { at: item, node: item };
  }
  if (!isMap(node)) return undefined;
  const pair = node.items.find((item) => isScalar(item.key) && plain(String(item.key.value)) === plain(name));
  return pair && { at: pair.key, node: pair.value };
}

/** A field may be written as `typed_config` or `typedConfig`. */
const plain = (name: string): string => name.replaceAll('_', '').toLowerCase();
