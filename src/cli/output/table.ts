// Tables as kubectl and istioctl print them: columns padded with spaces, no lines, header in capitals.

/** `gap` spaces between columns; trailing spaces are cut. An empty list of rows still prints the header. */
export function renderTable(header: readonly string[], rows: readonly (readonly string[])[], gap = 5): string {
  const widths = header.map((title, i) => Math.max(title.length, ...rows.map((row) => (row[i] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, i) => cell.padEnd(widths[i]! + gap))
      .join('')
      .trimEnd();
  return `${[header, ...rows].map(line).join('\n')}\n`;
}
