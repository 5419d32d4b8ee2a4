// YAML as Envoy reads it (yaml-cpp with Envoy's rules for plain scalars), to JSON. Loaded only when a configuration is YAML.
import type { JsonObject, JsonValue } from '@bufbuild/protobuf';
import { type Alias, type Document, isAlias, isMap, isScalar, isSeq, type Node, parseDocument, visit } from 'yaml';
import { ConfigError } from '../../../base/envoy-api/fields.ts';
import { yamlHint } from '../../../base/yaml-hints.ts';
import { MAX_YAML_DEPTH, MAX_YAML_NODES } from '../limits.ts';

/** A longer file that is no configuration may be a key. */
const SHOWN_CHARS = 20;

/** Throws ConfigError that names line and column. */
export function parseYaml(text: string, maxNodes = MAX_YAML_NODES): JsonValue {
  const doc = parseDocument(text, { version: '1.1', prettyErrors: true, customTags: ignoreTag });
  const problem = doc.errors[0];
  if (problem) {
    const [at] = problem.linePos ?? [];
    const where = at ? `line ${at.line}, column ${at.col}` : `offset ${problem.pos[0]}`;
    const reason =
      yamlHint(text, at?.line ?? 1, problem.pos[0]) ?? problem.message.split('\n')[0]!.replace(/ at line \d+.*$/, '');
    throw new ConfigError('', `yaml: error at ${where}: ${reason}`);
  }
  const root = doc.contents;
  if (!isMap(root) && !isSeq(root))
    throw new ConfigError(
      '',
      `Unable to convert YAML as JSON: ${text.trim() === '' ? 'it is empty' : text.length > SHOWN_CHARS ? '…' : text}`,
    );
  return new Reader(targetsOf(doc, text), maxNodes).read(root);
}

/** Envoy's `!ignore` marks a key that only holds anchors. */
const ignoreTag = [{ tag: '!ignore', resolve: (value: string) => value }];

/** What each alias stands for. One look at each node: to resolve one by the library means to search the document anew. */
function targetsOf(doc: Document.Parsed, text: string): ReadonlyMap<Alias, Node> {
  const anchors = new Map<string, Node>();
  const targets = new Map<Alias, Node>();
  visit(doc, {
    Node(_key, node) {
      if (!isAlias(node)) {
        if (node.anchor) anchors.set(node.anchor, node);
        return;
      }
      const target = anchors.get(node.source);
      if (target) {
        targets.set(node, target);
        return;
      }
      const before = text.slice(0, node.range?.[0] ?? 0);
      const line = before.split('\n').length;
      throw new ConfigError(
        '',
        `yaml: error at line ${line}, column ${before.length - before.lastIndexOf('\n')}: the referenced anchor is not defined: ${node.source}`,
      );
    },
  });
  return targets;
}

class Reader {
  readonly #targets: ReadonlyMap<Alias, Node>;
  readonly #max: number;
  #nodes = 0;

  constructor(targets: ReadonlyMap<Alias, Node>, max: number) {
    this.#targets = targets;
    this.#max = max;
  }

  read(node: unknown, depth = 0): JsonValue {
    // An alias may stand within what it names.
    if (depth > MAX_YAML_DEPTH) throw new ConfigError('', `yaml: more than ${MAX_YAML_DEPTH} levels`);
    // Aliases may repeat a tree many times over.
    this.#nodes += 1;
    if (this.#nodes > this.#max) throw new ConfigError('', `yaml: more than ${this.#max} nodes`);
    if (isAlias(node)) return this.read(this.#targets.get(node), depth + 1);
    if (isSeq(node)) return node.items.map((item) => this.read(item, depth + 1));
    if (isMap(node)) {
      const out: JsonObject = {};
      for (const { key, value } of node.items) {
        if ((key as Node).tag === '!ignore') continue;
        if (!isScalar(key)) throw new ConfigError('', 'yaml: a key must be a scalar');
        Object.defineProperty(out, String(key.source ?? key.value), {
          value: this.read(value, depth + 1),
          enumerable: true,
          configurable: true,
          writable: true,
        });
      }
      return out;
    }
    if (!isScalar(node)) return null;
    if (node.type !== 'PLAIN') return typeof node.value === 'string' ? node.value : String(node.source ?? '');
    return plain(node.source ?? '');
  }
}

const TRUE = /^(?:y|Y|yes|Yes|YES|true|True|TRUE|on|On|ON)$/;
const FALSE = /^(?:n|N|no|No|NO|false|False|FALSE|off|Off|OFF)$/;

/** A scalar without quotes: null, bool, 64-bit integer, else text (so are floats: protobuf reads numbers in text). */
export function plain(text: string): JsonValue {
  if (text === '' || /^(?:~|null|Null|NULL)$/.test(text)) return null;
  if (TRUE.test(text)) return true;
  if (FALSE.test(text)) return false;
  const match = /^([-+]?)(?:0x([0-9a-fA-F]+)|0([0-7]+)|(\d+))$/.exec(text);
  if (!match) return text;
  const [, sign, hex, octal, decimal] = match;
  const value = hex ? Number.parseInt(hex, 16) : octal ? Number.parseInt(octal, 8) : Number(decimal);
  return Number.isSafeInteger(value) ? (sign === '-' ? -value : value) : text;
}
