// The main thread's side of the numbers of hosts: gives each a place in its cluster's memory, and tells the workers which.
import {
  type GiveNumbers,
  type HostLedger,
  HostNumbers,
  type SharedHosts,
  segmentBytes,
} from '../tally/host-numbers.ts';
import type { SharedBlocks } from '../tally/numbers.ts';
import { SharedPlaces } from '../tally/places.ts';
import type { Told } from './protocol.ts';

/** Places of a cluster's first piece of memory; the first place is the cluster's own, for the sum. Later pieces double. */
const FIRST_SLOTS = 8;

interface Segment {
  readonly key: string;
  readonly bytes: number;
  readonly cells: Int32Array;
  readonly slots: number;
  next: number;
}

interface Seat {
  readonly segment: Segment;
  readonly slot: number;
  readonly numbers: HostNumbers;
  /** Clusters of the same configuration, of which one may end while another begins. */
  users: number;
}

interface Book {
  readonly segments: Segment[];
  readonly hosts: Map<string, Seat>;
  /** Places of hosts that are gone. */
  free: Seat[];
  users: number;
}

export class HostDesk implements SharedHosts {
  readonly #blocks: SharedBlocks;
  readonly #tell: (told: Told) => void;
  readonly #books = new Map<string, Book>();

  constructor(blocks: SharedBlocks, tell: (told: Told) => void) {
    this.#blocks = blocks;
    this.#tell = tell;
  }

  open(cluster: string, give: GiveNumbers): HostLedger {
    const known = this.#books.get(cluster);
    const book = known ?? { segments: [], hosts: new Map(), free: [], users: 0 };
    this.#books.set(cluster, book);
    book.users += 1;
    const own = new Set<string>();
    let closed = false;
    return {
      added: (hosts) => {
        if (closed) return;
        const made: [string, Seat][] = [];
        for (const host of hosts) {
          let seat = book.hosts.get(host);
          if (!seat) {
            seat = this.#seat(cluster, book);
            book.hosts.set(host, seat);
            made.push([host, seat]);
          }
          if (!own.has(host)) seat.users += 1;
          own.add(host);
          give(host, seat.numbers);
        }
        for (const told of toldOf(cluster, book, made)) this.#tell(told);
      },
      removed: (hosts) => {
        const mine = hosts.filter((host) => own.delete(host));
        this.#leave(cluster, book, mine);
      },
      close: () => {
        if (closed) return;
        closed = true;
        this.#leave(cluster, book, [...own]);
        own.clear();
        book.users -= 1;
        if (book.users === 0) this.#books.delete(cluster);
      },
    };
  }

  /** For a worker that starts now. */
  known(): Told[] {
    return [...this.#books].flatMap(([cluster, book]) => toldOf(cluster, book, [...book.hosts]));
  }

  #leave(cluster: string, book: Book, hosts: readonly string[]): void {
    const gone: string[] = [];
    for (const host of hosts) {
      const seat = book.hosts.get(host)!;
      seat.users -= 1;
      if (seat.users > 0) continue;
      book.hosts.delete(host);
      book.free.push(seat);
      gone.push(host);
    }
    if (gone.length > 0) this.#tell({ kind: 'hosts-gone', cluster, hosts: gone });
  }

  #seat(cluster: string, book: Book): Seat {
    // One whose host's last requests are still under way waits.
    const at = book.free.findIndex(({ numbers }) => numbers.idle);
    if (at >= 0) {
      const { segment, slot, numbers } = book.free[at]!;
      book.free.splice(at, 1);
      return { segment, slot, numbers, users: 0 };
    }
    const { threads, thread } = this.#blocks;
    let segment = book.segments.at(-1);
    if (!segment || segment.next === segment.slots) {
      const before = book.segments.at(-1);
      const slots = before ? before.slots * 2 : FIRST_SLOTS;
      const key = `hosts ${cluster} ${book.segments.length}`;
      const bytes = segmentBytes(threads, slots);
      const cells = new Int32Array(this.#blocks.get(key, bytes, true, () => {}));
      segment = { key, bytes, cells, slots, next: before ? 0 : 1 };
      book.segments.push(segment);
    }
    const slot = segment.next;
    segment.next += 1;
    const first = book.segments[0]!.cells;
    const all = new SharedPlaces(first, thread, 0, first.length / threads);
    return { segment, slot, numbers: new HostNumbers(segment.cells, threads, thread, slot, all), users: 0 };
  }
}

function toldOf(cluster: string, book: Book, seats: readonly (readonly [string, Seat])[]): Told[] {
  return book.segments.flatMap((segment) => {
    const slots = seats.filter(([, seat]) => seat.segment === segment).map(([host, { slot }]) => [host, slot] as const);
    const { key: first, bytes: firstBytes } = book.segments[0]!;
    const { key, bytes } = segment;
    return slots.length === 0
      ? []
      : [{ kind: 'hosts' as const, cluster, segment: key, bytes, first, firstBytes, slots }];
  });
}
