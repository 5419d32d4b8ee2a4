// /stats/recentlookups: names of statistics looked up by any thread, those that were looked up least often first, as Envoy lists them.
import type { LookupNumbers, LookupQuestion } from '../stats/recent-lookups.ts';
import { type AdminReply, type AdminTarget, OK } from './target.ts';

const OFF = 'Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n';

export async function lookupsPage(target: AdminTarget): Promise<AdminReply> {
  const all = await target.askThreads({ kind: 'lookups', act: 'show' } as const);
  return { body: lookupsText(all.map(({ answer }) => answer)) };
}

export function lookupsText(all: readonly LookupNumbers[]): string {
  const counts = new Map<string, number>();
  let total = 0;
  let recorded = false;
  for (const { total: each, recent } of all) {
    total += each;
    recorded ||= recent !== undefined;
    for (const [name, count] of recent ?? []) counts.set(name, (counts.get(name) ?? 0) + count);
  }
  const lines = [...counts]
    .sort(([a, x], [b, y]) => x - y || (a < b ? -1 : 1))
    .map(([name, count]) => `${String(count).padStart(8)} ${name}\n`);
  return `${recorded ? `   Count Lookup\n${lines.join('')}` : OFF}\ntotal: ${total}\n`;
}

export async function changeLookups(target: AdminTarget, act: LookupQuestion['act']): Promise<AdminReply> {
  await target.askThreads({ kind: 'lookups', act });
  return OK;
}
