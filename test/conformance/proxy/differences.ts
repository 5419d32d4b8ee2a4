// docs/reference/engine-differences.md: its list is made from what the cases allow to differ, so that neither can drift from
// the other. Called by main.ts (`--differences`) and conformance.test.ts, which checks it.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { type CaseFile, list } from './format.ts';

export const DIFFERENCES_FILE = path.resolve(import.meta.dirname, '../../../docs/reference/engine-differences.md');
const MARK = '<!-- Made from the cases by `npm run conformance -- --differences`; do not edit below. -->\n';

export function renderDifferences(files: readonly CaseFile[]): string {
  const byReason = new Map<string, string[]>();
  for (const file of files)
    for (const test of file.cases)
      for (const { reason } of list(test.differs)) {
        const text = reason.trim().replaceAll(/\s+/g, ' ');
        const cases = byReason.get(text) ?? [];
        cases.push(`\`${file.file.replace('cases/', '')}\`: ${test.name}`);
        byReason.set(text, cases);
      }
  if (byReason.size === 0) return '\nNone.\n';
  return [...byReason]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([reason, cases]) => `\n- ${reason}\n${cases.map((one) => `  - ${one}\n`).join('')}`)
    .join('');
}

/** The page as it must be: what is written by hand stays, the list is made anew. */
export function expectedPage(current: string, files: readonly CaseFile[]): string {
  const at = current.indexOf(MARK);
  if (at < 0) throw new Error(`${DIFFERENCES_FILE} has lost the line that opens its made part`);
  return current.slice(0, at + MARK.length) + renderDifferences(files);
}

export function writeDifferences(files: readonly CaseFile[]): void {
  writeFileSync(DIFFERENCES_FILE, expectedPage(readFileSync(DIFFERENCES_FILE, 'utf8'), files));
}
