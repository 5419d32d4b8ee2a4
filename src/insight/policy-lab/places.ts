// Where a path such as `spec.requests[0].expect.status` stands in a YAML document: line and column of its key or value.
import { type Document, isMap, isScalar, isSeq, type LineCounter, type Node } from 'yaml';

export interface Place {
  readonly line: number;
  readonly column: number;
}

export type Places = (path: string) => Place;

/** `base` goes before every path. The deepest part that exists decides. */
export function placesOf(document: Document, lines: LineCounter): Places {
  return (path) => {
    let node: unknown = document.contents;
    let offset = startOf(node) ?? 0;
    for (const part of partsOf(path)) {
      if (isMap(node)) {
        const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === part);
        if (!pair) break;
        offset = startOf(pair.key) ?? offset;
        node = pair.value;
      } else if (isSeq(node)) {
        const item = node.items[Number(part)];
        if (item === undefined) break;
        offset = startOf(item) ?? offset;
        node = item;
      } else break;
    }
    const { line, col } = lines.linePos(offset);
    return { line, column: col };
  };
}

function startOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

/** `a.b[0][x.y]` → a, b, 0, x.y. */
export function partsOf(path: string): string[] {
  const out: string[] = [];
  for (const [, bracket, plain] of path.matchAll(/\[([^\]]*)\]|([^.[\]]+)/g)) out.push(bracket ?? plain ?? '');
  return out;
}
