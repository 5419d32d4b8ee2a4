// Pages of /stats for a browser: the same lines with the choices as a form, and one that follows what changes.
// Called by the admin interface.
import type { StatsQuery } from './query.ts';
import { statsText } from './render.ts';
import type { StatsStore } from './stats.ts';

const TYPES = ['All', 'Counters', 'Histograms', 'Gauges', 'TextReadouts'];

export function escapeHtml(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

function choice(name: string, values: readonly string[], chosen: string): string {
  const options = values.map((value) => `<option${value === chosen ? ' selected' : ''}>${value}</option>`);
  return `<label>${name} <select name="${name}">${options.join('')}</select></label>\n`;
}

function form(query: StatsQuery, filter: string, more: string): string {
  const used = query.usedOnly ? ' checked' : '';
  return `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Envoy Admin</title></head><body>
<form id="stats" action="stats" method="get">
<label>filter <input name="filter" value="${escapeHtml(filter)}"></label>
<label>usedonly <input type="checkbox" name="usedonly"${used}></label>
${choice('type', TYPES, query.type)}${more}</form>
`;
}

export function* statsHtml(stats: StatsStore, query: StatsQuery, filter: string): Generator<string> {
  const formats = choice('format', ['html', 'active-html', 'text', 'json', 'prometheus'], 'html');
  const buckets = choice('histogram_buckets', ['summary', 'cumulative', 'disjoint', 'detailed'], query.buckets);
  yield `${form(query, filter, `${formats}${buckets}<button>show</button>\n`)}<pre>\n`;
  for (const part of statsText(stats, query)) yield escapeHtml(part);
  yield '</pre>\n</body></html>\n';
}

/** Asks for the statistics again and again, and shows first what changed last. */
export function activeHtml(query: StatsQuery, filter: string): string {
  const choices = `<label>rows <input name="rows" type="number" min="1" value="50"></label>
<label>every <input name="seconds" type="number" min="1" value="5"> s</label>
`;
  return `${form(query, filter, choices)}<p id="problem"></p>
<table><thead><tr><th>name</th><th>value</th><th>changes</th></tr></thead><tbody id="rows"></tbody></table>
<script>${ACTIVE_SCRIPT}</script>
</body></html>
`;
}

/** Runs in the browser. Names and values are only ever set as text. */
const ACTIVE_SCRIPT = `
const form = document.getElementById('stats');
const seen = new Map();
let round = 0;
let timer;

function shown(stat) {
  return typeof stat.value === 'string' ? JSON.stringify(stat.value) : String(stat.value);
}

function quantiles(list) {
  const names = list.supported_quantiles;
  return list.computed_quantiles.map(({ name, values }) => [
    name,
    values.map((value, i) => value.cumulative === null ? '' : 'P' + names[i] + ' ' + value.cumulative).join(' '),
  ]);
}

function note(name, value) {
  const before = seen.get(name);
  if (!before) seen.set(name, { value, changes: 0, last: 0, round });
  else {
    if (before.value !== value) {
      before.value = value;
      before.changes += 1;
      before.last = round;
    }
    before.round = round;
  }
}

function draw() {
  const rows = [...seen].sort(([a, x], [b, y]) => y.last - x.last || y.changes - x.changes || (a < b ? -1 : 1));
  const body = document.getElementById('rows');
  body.replaceChildren(...rows.slice(0, Number(form.rows.value) || 50).map(([name, { value, changes }]) => {
    const row = document.createElement('tr');
    for (const text of [name, value, changes]) row.appendChild(document.createElement('td')).textContent = text;
    return row;
  }));
}

async function update() {
  clearTimeout(timer);
  const query = new URLSearchParams({ format: 'json', type: form.type.value, filter: form.filter.value });
  if (form.usedonly.checked) query.set('usedonly', '');
  const problem = document.getElementById('problem');
  try {
    const answer = await fetch('stats?' + query);
    if (!answer.ok) throw new Error(await answer.text());
    round += 1;
    for (const stat of (await answer.json()).stats) {
      if (stat.histograms) for (const [name, value] of quantiles(stat.histograms)) note(name, value);
      else note(stat.name, shown(stat));
    }
    for (const [name, { round: last }] of seen) if (last !== round) seen.delete(name);
    draw();
    problem.textContent = '';
  } catch (error) {
    problem.textContent = error.message;
  }
  timer = setTimeout(update, 1000 * Math.max(1, Number(form.seconds.value) || 5));
}

form.addEventListener('change', update);
form.addEventListener('submit', (event) => { event.preventDefault(); update(); });
update();
`;
