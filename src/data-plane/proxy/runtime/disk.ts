// The disk layer of the runtime: a directory tree below a symbolic link, one file a key. Read at start and whenever the
// link is moved. Used by runtime.ts.
import { MAX_RUNTIME_DEPTH, MAX_RUNTIME_FILE_BYTES, MAX_RUNTIME_KEYS } from '../limits.ts';
import { type LayerValues, type RuntimeValue, textValue } from './values.ts';

/** The file system as the runtime sees it. */
export interface RuntimeFiles {
  /** Entries of a directory (links followed); undefined when there is no such directory. */
  list(path: string): readonly { readonly name: string; readonly directory: boolean }[] | undefined;
  read(path: string): string;
  /** Calls back when the link at `path` may point elsewhere. */
  watch(path: string, changed: () => void): () => void;
}

/** Values of the tree at `root`; undefined when it is not there. Throws when a file cannot be read. */
export function diskValues(files: RuntimeFiles, root: string): LayerValues | undefined {
  const top = files.list(root);
  if (!top) return undefined;
  const out = new Map<string, RuntimeValue>();
  const visit = (entries: typeof top, path: string, prefix: string, depth: number): void => {
    for (const { name, directory } of entries) {
      if (name === '.' || name === '..') continue;
      const key = prefix === '' ? name : `${prefix}.${name}`;
      if (directory) {
        if (depth >= MAX_RUNTIME_DEPTH) throw new Error(`${path}/${name} is nested too deeply`);
        visit(files.list(`${path}/${name}`) ?? [], `${path}/${name}`, key, depth + 1);
        continue;
      }
      const text = files.read(`${path}/${name}`);
      if (text.length > MAX_RUNTIME_FILE_BYTES)
        throw new Error(`${path}/${name} is larger than a runtime value may be`);
      if (out.size >= MAX_RUNTIME_KEYS) throw new Error(`${root} holds more than ${MAX_RUNTIME_KEYS} runtime values`);
      out.set(key, textValue(withoutComments(text)));
    }
  };
  visit(top, root, '', 0);
  return out;
}

function withoutComments(text: string): string {
  if (!text.includes('#')) return text;
  return text
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n');
}
