// Host name → virtual host: exact, then the longest `*.suffix`, then the longest `prefix.*`, then `*`. Wildcards are looked
// up by their lengths, so the number of virtual hosts does not count.
import { ConfigError } from '../config/fields.ts';

export class DomainIndex<T> {
  readonly #table: string;
  readonly #exact = new Map<string, T>();
  /** By length of the fixed part. */
  readonly #suffixes = new Map<number, Map<string, T>>();
  readonly #prefixes = new Map<number, Map<string, T>>();
  #suffixLengths: number[] = [];
  #prefixLengths: number[] = [];
  #any: T | undefined;

  constructor(table: string) {
    this.#table = table;
  }

  /** Throws ConfigError for a domain that is there already. */
  add(domain: string, value: T, path: string): void {
    const name = domain.toLowerCase();
    if (name === '*') {
      if (this.#any) throw new ConfigError(path, `Only a single wildcard domain is permitted in route ${this.#table}`);
      this.#any = value;
      return;
    }
    if (name === '') throw new ConfigError(path, 'value length must be at least 1 characters');
    const duplicate = name.startsWith('*')
      ? !insert(this.#suffixes, name.slice(1), value)
      : name.endsWith('*')
        ? !insert(this.#prefixes, name.slice(0, -1), value)
        : this.#exact.has(name);
    if (duplicate)
      throw new ConfigError(
        path,
        `Only unique values for domains are permitted. Duplicate entry of domain ${name} in route ${this.#table}`,
      );
    if (!name.startsWith('*') && !name.endsWith('*')) this.#exact.set(name, value);
    this.#suffixLengths = [...this.#suffixes.keys()].sort((a, b) => b - a);
    this.#prefixLengths = [...this.#prefixes.keys()].sort((a, b) => b - a);
  }

  /** `host` in lower case. A wildcard stands for at least one character. */
  find(host: string): T | undefined {
    const exact = this.#exact.get(host);
    if (exact) return exact;
    for (const length of this.#suffixLengths) {
      if (length >= host.length) continue;
      const found = this.#suffixes.get(length)!.get(host.slice(host.length - length));
      if (found) return found;
    }
    for (const length of this.#prefixLengths) {
      if (length >= host.length) continue;
      const found = this.#prefixes.get(length)!.get(host.slice(0, length));
      if (found) return found;
    }
    return this.#any;
  }
}

function insert<T>(index: Map<number, Map<string, T>>, fixed: string, value: T): boolean {
  let same = index.get(fixed.length);
  if (!same) {
    same = new Map();
    index.set(fixed.length, same);
  }
  if (same.has(fixed)) return false;
  same.set(fixed, value);
  return true;
}
