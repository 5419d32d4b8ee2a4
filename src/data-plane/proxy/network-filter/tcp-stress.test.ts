// The byte path under stress, plain and through a pair with mutual TLS: many connections at once, writes of any size, readers that
// pause, half-closes from either end, key updates in between. Every byte says whose it is (testing/stamped.ts).
// MELTEMI_STRESS_SECONDS makes it longer; a seed that failed is printed and taken from MELTEMI_STRESS_SEED.
import assert from 'node:assert/strict';
import { connect, createServer, type Socket } from 'node:net';
import { type TestContext, test } from 'node:test';
import type { JsonObject } from '@bufbuild/protobuf';
import {
  bootstrap,
  clientTls,
  commonTls,
  createCa,
  listen,
  listener,
  serverTls,
  startEngine,
  staticCluster,
  tcpProxy,
  until,
} from '../testing/engine.ts';
import { watchKeyUpdates } from '../testing/key-update.ts';
import { connectionOf, type Direction, STAMP_BYTES, StampReader, stamped } from '../testing/stamped.ts';
import type { TlsTransport } from '../transport-socket/tls-context.ts';

const SECONDS = Number(process.env.MELTEMI_STRESS_SECONDS ?? 1);
const SEED = Number(process.env.MELTEMI_STRESS_SEED ?? Date.now() % 1_000_000);
const CONNECTIONS = 24;

type Random = (below: number) => number;

function seeded(seed: number): Random {
  let state = seed >>> 0 || 1;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

/** What one side says, and how it behaves. */
interface Plan {
  readonly total: number;
  readonly largest: number;
  /** Of 100 reads, so many are followed by a pause. */
  readonly pauses: number;
  /** Speaks only when the other side has ended. */
  readonly answersLast: boolean;
}

function planOf(random: Random, side: Direction): Plan {
  const sizes = [STAMP_BYTES, 1_000, 70_000, 400_000, 2_500_000] as const;
  return {
    total: STAMP_BYTES + random(sizes[random(sizes.length)]!),
    largest: 1 + random([10, 3_000, 70_000, 300_000][random(4)]!),
    pauses: [0, 0, 5, 40][random(4)]!,
    answersLast: side === 'down' && random(3) === 0,
  };
}

/** One end of one connection: says its stream in pieces, ends, and checks what it hears. */
class End {
  ended = false;
  closed: string | undefined;
  readonly heard: StampReader;
  readonly plan: Plan;
  readonly #socket: Socket;
  readonly #random: Random;
  readonly #connection: number;
  readonly #direction: Direction;
  #said = 0;

  constructor(socket: Socket, connection: number, direction: Direction, seed: number) {
    this.#socket = socket;
    this.#connection = connection;
    this.#direction = direction;
    this.#random = seeded(seed * 4 + (direction === 'up' ? 1 : 2));
    this.plan = planOf(this.#random, direction);
    this.heard = new StampReader(connection, direction === 'up' ? 'down' : 'up');
    socket.on('error', (error) => {
      this.closed ??= error.message;
    });
    socket.on('end', () => {
      this.ended = true;
      if (this.plan.answersLast) this.#say();
    });
    if (!this.plan.answersLast) this.#say();
  }

  hear(bytes: Buffer): void {
    this.heard.read(bytes);
    if (this.#random(100) >= this.plan.pauses) return;
    this.#socket.pause();
    setTimeout(() => this.#socket.resume(), this.#random(4));
  }

  readonly #say = (): void => {
    const { total, largest } = this.plan;
    while (this.#said < total) {
      // Many tiny pieces of a large stream would take for ever.
      const size = Math.min(total - this.#said, Math.max(1 + this.#random(largest), Math.ceil(total / 400)));
      const room = this.#socket.write(stamped(this.#connection, this.#direction, this.#said, size));
      this.#said += size;
      if (!room) return void this.#socket.once('drain', this.#say);
      if (this.#random(8) === 0) return void setImmediate(this.#say);
    }
    this.#socket.end();
  };
}

async function round(port: number, server: ReturnType<typeof createServer>, seed: number, first: number) {
  const accepted = new Map<number, End>();
  const onConnection = (socket: Socket): void => {
    let head: Buffer = Buffer.alloc(0);
    let end: End | undefined;
    socket.on('error', () => {});
    socket.on('data', (bytes: Buffer) => {
      if (!end) {
        head = Buffer.concat([head, bytes]);
        if (head.length < STAMP_BYTES) return;
        const number = connectionOf(head);
        end = new End(socket, number, 'down', seed + number);
        accepted.set(number, end);
        end.hear(head);
      } else end.hear(bytes);
    });
  };
  server.on('connection', onConnection);
  const clients = Array.from({ length: CONNECTIONS }, (_, i) => {
    const socket = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    const end = new End(socket, first + i, 'up', seed + first + i);
    socket.on('data', (bytes: Buffer) => end.hear(bytes));
    return { socket, end };
  });
  const faults = (): string[] =>
    [...clients.map(({ end }) => end), ...accepted.values()].flatMap((end) => end.heard.fault ?? end.closed ?? []);
  try {
    await until(
      () =>
        faults().length > 0 ||
        (accepted.size === CONNECTIONS &&
          clients.every(({ end }) => end.ended) &&
          [...accepted.values()].every((end) => end.ended)),
      `seed ${seed}: all streams to their ends`,
      60_000,
    );
    assert.deepEqual(faults(), [], `seed ${seed}`);
    for (const [i, { end }] of clients.entries()) {
      const other = accepted.get(first + i)!;
      assert.equal(end.heard.received, other.plan.total, `seed ${seed}: connection ${first + i} down is whole`);
      assert.equal(other.heard.received, end.plan.total, `seed ${seed}: connection ${first + i} up is whole`);
    }
  } finally {
    server.off('connection', onConnection);
    for (const { socket } of clients) socket.destroy();
  }
}

async function stress(t: TestContext, chain: (target: number) => Promise<number>, meanwhile: (random: Random) => void) {
  const server = createServer({ allowHalfOpen: true });
  const port = await chain(await listen(t, server as never));
  const random = seeded(SEED);
  const timer = setInterval(() => meanwhile(random), 1);
  t.after(() => clearInterval(timer));
  const until = Date.now() + SECONDS * 1000;
  let done = 0;
  do {
    await round(port, server, SEED + done, done * CONNECTIONS);
    done += 1;
  } while (Date.now() < until);
  t.diagnostic(`${done * CONNECTIONS} connections, seed ${SEED}`);
}

const hop = async (
  t: TestContext,
  target: number,
  inside: JsonObject,
  outside: JsonObject,
  tlsTransport: TlsTransport = 'openssl',
): Promise<number> => {
  const engine = await startEngine(
    t,
    bootstrap([listener('in', [{ ...inside, filters: [tcpProxy('up')] }])], [staticCluster('up', [target], outside)]),
    true,
    { deps: { tlsTransport } },
  );
  return engine.port('in');
};

test('plain TCP under stress', async (t) => {
  await stress(
    t,
    (target) => hop(t, target, {}, {}),
    () => {},
  );
});

for (const transport of ['openssl', 'tlssocket'] as const)
  test(`${transport}: a pair with mutual TLS under stress`, async (t) => {
    const ca = await createCa();
    const tls = commonTls(await ca.issue('spiffe://cluster.local/ns/a/sa/b'), ca.pem, []);
    const keys = watchKeyUpdates(t);
    let updates = 0;
    await stress(
      t,
      async (target) => {
        const inner = await hop(t, target, { transport_socket: serverTls(tls) }, {}, transport);
        return await hop(t, inner, {}, { transport_socket: clientTls(tls) }, transport);
      },
      (random) => {
        const live = keys.live();
        if (live.length > 0 && keys.request(live[random(live.length)]!)) updates += 1;
      },
    );
    t.diagnostic(`${updates} key updates`);
  });
