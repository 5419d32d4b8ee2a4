// What is really wrong where a YAML parser tripped: a tab, or a bracket that was opened long before. Called by readers of YAML that
// a person wrote. Pure.

/** A reason in place of the parser's; undefined = its own says it. `line` is from 1, `offset` where it tripped. */
export function yamlHint(text: string, line: number, offset: number): string | undefined {
  const lines = text.split('\n', line + 1);
  const tab = [line - 1, line].find((i) => /^ *\t/.test(lines[i] ?? ''));
  if (tab !== undefined) return `line ${tab + 1} is indented with a tab, where YAML takes spaces only`;
  const open = unclosed(text, offset);
  if (open === undefined) return undefined;
  const before = text.slice(0, open);
  const at = `line ${before.split('\n').length}, column ${open - before.lastIndexOf('\n')}`;
  return `the ${text[open]} of ${at} is not closed`;
}

/** The innermost bracket that is still open at `end`. */
function unclosed(text: string, end: number): number | undefined {
  const open: number[] = [];
  for (let i = 0; i < end; i++) {
    const char = text[i];
    // A quote inside a word is part of it.
    if ((char === '"' || char === "'") && /[\s[{,:]/.test(text[i - 1] ?? ' ')) i = endOfQuote(text, i);
    else if (char === '#' && /\s/.test(text[i - 1] ?? ' ')) i = endOfLine(text, i);
    else if (char === '[' || char === '{') {
      // In block style a bracket opens a collection only at the start of a value.
      if (open.length > 0 || /(?:^|[\s])$/.test(text.slice(Math.max(0, i - 1), i))) open.push(i);
    } else if ((char === ']' || char === '}') && open.length > 0) open.pop();
  }
  return open.at(-1);
}

function endOfQuote(text: string, from: number): number {
  for (let i = from + 1; i < text.length; i++) {
    if (text[i] === '\\' && text[from] === '"') i += 1;
    else if (text[i] === text[from]) return i;
  }
  return text.length;
}

function endOfLine(text: string, from: number): number {
  const found = text.indexOf('\n', from);
  return found < 0 ? text.length : found;
}
