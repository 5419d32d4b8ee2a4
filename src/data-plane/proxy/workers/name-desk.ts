// The names in the DNS caches of all workers: a cache's limit counts each once. Asked by the supervisor for its workers.

export class NameDesk {
  /** By cache and name: the workers that have it. */
  readonly #caches = new Map<string, Map<string, Set<number>>>();

  hold(worker: number, cache: string, name: string, max: number): boolean {
    const names = this.#caches.get(cache) ?? new Map<string, Set<number>>();
    const holders = names.get(name) ?? new Set();
    if (holders.size === 0 && names.size >= max) return false;
    this.#caches.set(cache, names);
    names.set(name, holders);
    holders.add(worker);
    return true;
  }

  letGo(worker: number, cache: string, name: string): void {
    const names = this.#caches.get(cache);
    const holders = names?.get(name);
    if (!holders?.delete(worker) || holders.size > 0) return;
    names!.delete(name);
    if (names!.size === 0) this.#caches.delete(cache);
  }

  ended(worker: number): void {
    for (const [cache, names] of [...this.#caches])
      for (const name of [...names.keys()]) this.letGo(worker, cache, name);
  }
}
