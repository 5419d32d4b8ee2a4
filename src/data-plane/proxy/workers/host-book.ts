// A worker's side of the numbers of hosts: where the main thread said they stand. A host of DNS may be here before the main
// thread has spoken of it.
import { type GiveNumbers, type HostLedger, HostNumbers, type SharedHosts } from '../tally/host-numbers.ts';
import type { SharedBlocks } from '../tally/numbers.ts';
import { SharedPlaces } from '../tally/places.ts';
import type { HostsTold } from './protocol.ts';

export class HostBook implements SharedHosts {
  readonly #blocks: SharedBlocks;
  readonly #known = new Map<string, Map<string, HostNumbers>>();
  readonly #open = new Map<string, Set<GiveNumbers>>();

  constructor(blocks: SharedBlocks) {
    this.#blocks = blocks;
  }

  take(told: HostsTold): void {
    const { cluster } = told;
    const hosts = this.#known.get(cluster) ?? new Map<string, HostNumbers>();
    if (told.kind === 'hosts-gone') {
      for (const host of told.hosts) hosts.delete(host);
      if (hosts.size === 0) this.#known.delete(cluster);
      return;
    }
    this.#known.set(cluster, hosts);
    const { threads, thread } = this.#blocks;
    const cells = this.#cells(told.segment, told.bytes);
    const first = this.#cells(told.first, told.firstBytes);
    const all = new SharedPlaces(first, thread, 0, first.length / threads);
    for (const [host, slot] of told.slots) {
      const numbers = new HostNumbers(cells, threads, thread, slot, all);
      hosts.set(host, numbers);
      for (const give of this.#open.get(cluster) ?? []) give(host, numbers);
    }
  }

  open(cluster: string, give: GiveNumbers): HostLedger {
    const list = this.#open.get(cluster) ?? new Set();
    this.#open.set(cluster, list);
    list.add(give);
    return {
      added: (hosts) => {
        const known = this.#known.get(cluster);
        for (const host of hosts) {
          const numbers = known?.get(host);
          if (numbers) give(host, numbers);
        }
      },
      removed() {},
      close: () => {
        list.delete(give);
        if (list.size === 0 && this.#open.get(cluster) === list) this.#open.delete(cluster);
      },
    };
  }

  #cells(key: string, bytes: number): Int32Array {
    return new Int32Array(this.#blocks.get(key, bytes, true, () => {}));
  }
}
