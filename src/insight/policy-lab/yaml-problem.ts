// What a YAML parser refused, as a person may read it. Called by read.ts and read-resources.ts.
import type { Document, LineCounter } from 'yaml';
import { yamlHint } from '../../base/yaml-hints.ts';
import type { FileProblem } from './format.ts';

/** Undefined when the document is YAML. */
export function yamlProblem(
  file: string,
  document: Document.Parsed,
  lines: LineCounter,
  source: string,
): FileProblem | undefined {
  const wrong = document.errors[0];
  if (!wrong) return undefined;
  const [from] = wrong.pos;
  const { line, col } = lines.linePos(from);
  const word = /^["']?[^\s:,{}[\]"']+/.exec(source.slice(from))?.[0] ?? '';
  const text =
    wrong.code === 'DUPLICATE_KEY'
      ? `the key ${word} stands twice in one map`
      : `this is not YAML: ${yamlHint(source, line, from) ?? wrong.message.split('\n')[0]}`;
  return { file, path: '', line, column: col, code: 'yaml', message: text };
}
