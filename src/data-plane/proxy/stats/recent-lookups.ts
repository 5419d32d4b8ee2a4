// Which statistics were looked up by name of late: what makes names again and again shows here (/stats/recentlookups). Counting
// costs one addition a lookup; names are kept only while somebody asked for it.
import { MAX_RECENT_LOOKUPS } from '../limits.ts';

export type LookupQuestion = {
  readonly kind: 'lookups';
  readonly act: 'show' | 'enable' | 'disable' | 'clear';
};

export interface LookupNumbers {
  /** Since the start or the last `clear`. */
  readonly total: number;
  /** Undefined = not recorded. */
  readonly recent: readonly (readonly [name: string, count: number])[] | undefined;
}

export class RecentLookups {
  total = 0;
  /** In the order of their last lookup; the oldest goes first. */
  #recent: Map<string, number> | undefined;

  note(leaf: string, prefix = ''): void {
    this.total += 1;
    const recent = this.#recent;
    if (!recent) return;
    const name = prefix + leaf;
    const before = recent.get(name) ?? 0;
    recent.delete(name);
    recent.set(name, before + 1);
    if (recent.size <= MAX_RECENT_LOOKUPS) return;
    for (const oldest of recent.keys()) {
      recent.delete(oldest);
      return;
    }
  }

  answer({ act }: LookupQuestion): LookupNumbers {
    if (act === 'enable') this.#recent ??= new Map();
    else if (act === 'disable') this.#recent = undefined;
    else if (act === 'clear') {
      this.total = 0;
      this.#recent?.clear();
    }
    return { total: this.total, recent: this.#recent && [...this.#recent] };
  }
}
