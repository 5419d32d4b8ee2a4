// The JSONPath of printer columns: fields, indexes, wildcards, `[?(@.type=="Ready")]`. Called by table.ts.

type Step =
  | { readonly kind: 'field'; readonly name: string }
  | { readonly kind: 'index'; readonly index: number }
  | { readonly kind: 'all' }
  | {
      readonly kind: 'filter';
      readonly path: readonly string[];
      readonly operator: '==' | '!=';
      readonly value: string;
    };

/** Undefined when the path cannot be read. */
export function compileJsonPath(text: string): readonly Step[] | undefined {
  const steps: Step[] = [];
  let rest = text
    .trim()
    .replace(/^\{|\}$/g, '')
    .replace(/^\$/, '');
  while (rest !== '') {
    const match =
      /^\.((?:\\.|[^.[\]\\])+)/.exec(rest) ??
      /^\[(\d+)\]/.exec(rest) ??
      /^\[(\*)\]/.exec(rest) ??
      /^\['((?:[^'\\]|\\.)*)'\]/.exec(rest) ??
      /^\["((?:[^"\\]|\\.)*)"\]/.exec(rest) ??
      /^\[\?\(\s*@\.([\w./-]+)\s*(==|!=)\s*["']([^"']*)["']\s*\)\]/.exec(rest);
    if (!match) return undefined;
    steps.push(stepOf(match, rest));
    rest = rest.slice(match[0].length);
  }
  return steps;
}

function stepOf(match: RegExpExecArray, rest: string): Step {
  const [whole, first = '', operator, value = ''] = match;
  if (rest.startsWith('[?'))
    return { kind: 'filter', path: first.split('.'), operator: operator === '!=' ? '!=' : '==', value };
  if (whole === '[*]' || whole === '.*') return { kind: 'all' };
  if (/^\[\d/.test(whole)) return { kind: 'index', index: Number(first) };
  return { kind: 'field', name: first.replace(/\\(.)/g, '$1') };
}

/** Every value the path reaches, in order. */
export function evaluateJsonPath(steps: readonly Step[], root: unknown): unknown[] {
  let values: unknown[] = [root];
  for (const step of steps) values = values.flatMap((value) => apply(step, value));
  return values;
}

function apply(step: Step, value: unknown): unknown[] {
  if (typeof value !== 'object' || value === null) return [];
  switch (step.kind) {
    case 'field': {
      const child = Array.isArray(value) ? undefined : (value as Record<string, unknown>)[step.name];
      return child === undefined ? [] : [child];
    }
    case 'index':
      return Array.isArray(value) && step.index < value.length ? [value[step.index]] : [];
    case 'all':
      return Array.isArray(value) ? value : Object.values(value);
    default:
      if (!Array.isArray(value)) return [];
      return value.filter((item: unknown) => {
        let current = item;
        for (const field of step.path) current = (current as Record<string, unknown> | null | undefined)?.[field];
        return (String(current) === step.value) === (step.operator === '==');
      });
  }
}
