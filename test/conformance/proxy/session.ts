// Runs the steps of one case against a running engine and writes down what happened. Called by run-file.ts.
import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { Certificates } from './certificates.ts';
import {
  type ClientContext,
  type Connection,
  converse,
  dial,
  dialH2,
  exchangeH2,
  type H2Connection,
  type Outcome,
} from './client.ts';
import type { RunningEngine } from './engine-process.ts';
import { bytesOf, type LoadedCase, list, pairsOf, type Step } from './format.ts';
import { cleanRaw, type Observation, setHeaders, shownBytes } from './observation.ts';
import type { Upstream } from './upstreams.ts';

const STEP_MS = 8_000;
const SETTLE_MS = 25;
const STAT_WAIT_MS = 3_000;
const LOG_WAIT_MS = 1_500;

/** This machine's own addresses: Envoy tells upstreams one of them for a client on loopback. */
const MACHINE = Object.values(networkInterfaces())
  .flat()
  .flatMap((one) => (one && !one.internal ? [one.address] : []));

export interface SessionInput {
  readonly test: LoadedCase;
  readonly prefix: string;
  readonly engine: RunningEngine;
  readonly upstreams: ReadonlyMap<string, Upstream>;
  readonly certificates: Certificates;
  readonly logFile: string;
  variable(name: string): string | undefined;
}

export async function runSession(input: SessionInput): Promise<Observation> {
  const session = new Session(input);
  try {
    return await session.run();
  } finally {
    session.close();
  }
}

class Session {
  readonly #input: SessionInput;
  readonly #seen: Observation = new Map();
  readonly #connections = new Map<string, Connection>();
  readonly #h2 = new Map<string, H2Connection>();
  readonly #loose: Connection[] = [];
  readonly #looseH2: H2Connection[] = [];
  #logged = 0;

  constructor(input: SessionInput) {
    this.#input = input;
  }

  async run(): Promise<Observation> {
    const { test } = this.#input;
    for (const [i, step] of (test.steps ?? []).entries()) await this.#step(`step${i + 1}`, step);
    if (test.live) await this.#live();
    // TCP access logs are written when connections end.
    this.close();
    await this.#readLog();
    await this.#readStats();
    this.#readUpstreams();
    return this.#seen;
  }

  close(): void {
    for (const connection of [...this.#connections.values(), ...this.#loose]) connection.socket.destroy();
    for (const connection of [...this.#h2.values(), ...this.#looseH2]) connection.session.destroy();
  }

  #port(name: string | undefined): number {
    const { engine, prefix, test } = this.#input;
    const own = name ?? Object.keys(test.config?.listeners ?? { in: 0 })[0]!;
    const port = engine.ports.get(prefix + own);
    if (port === undefined) throw new Error(`listener ${own} is not bound`);
    return port;
  }

  /** Free of what the harness chose: prefixes and ports. */
  #clean = (text: string): string => {
    const { prefix, engine, upstreams } = this.#input;
    let out = text.replaceAll(prefix, '');
    for (const [name, port] of engine.ports)
      if (name.startsWith(prefix)) out = out.replaceAll(`:${port}`, `:{${name.slice(prefix.length)}}`);
    for (const [name, upstream] of upstreams) out = out.replaceAll(`:${upstream.port}`, `:{${name}}`);
    for (const address of MACHINE) out = out.replaceAll(address, '{machine}');
    return out.replaceAll(/(127\.0\.0\.1):[3-6]\d{4}\b/g, '$1:{client}');
  };

  #context(step: Step): ClientContext {
    return {
      certificates: this.#input.certificates,
      timeoutMs: step.timeout_ms ?? STEP_MS,
      awaitUpstream: (name, contains) => {
        const upstream = this.#upstream(name);
        return this.#until(`upstream ${name} receives ${contains ?? 'a connection'}`, () =>
          contains === undefined ? upstream.connections() > 0 : upstream.received().includes(contains),
        );
      },
    };
  }

  #upstream(name: string): Upstream {
    const upstream = this.#input.upstreams.get(name);
    if (!upstream) throw new Error(`there is no upstream "${name}" in this case`);
    return upstream;
  }

  async #until(what: string, test: () => boolean | Promise<boolean>, ms = STEP_MS): Promise<void> {
    const deadline = Date.now() + ms;
    while (!(await test())) {
      if (Date.now() > deadline) throw new Error(`did not happen in ${ms} ms: ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async #step(key: string, step: Step): Promise<void> {
    if (step.admin !== undefined) return this.#admin(key, this.#fillStep(step));
    if (step.wait) {
      const { stat, is, min } = step.wait;
      return this.#until(`${stat} is ${is ?? `at least ${min}`}`, async () => {
        const value = await this.#stat(stat);
        return is !== undefined ? value === is : value !== undefined && value >= (min ?? 1);
      });
    }
    if (step.wait_ms !== undefined) return new Promise((resolve) => setTimeout(resolve, step.wait_ms));
    if (step.close !== undefined) return this.#close(step.close);
    const times = step.times ?? 1;
    if (step.parallel !== undefined) {
      const outcomes = await Promise.all(Array.from({ length: step.parallel }, () => this.#exchange(step)));
      for (const [i, outcome] of outcomes.entries()) this.#record(i === 0 ? key : `${key}.${i + 1}`, step, outcome);
      return;
    }
    for (let i = 0; i < times; i++) this.#record(i === 0 ? key : `${key}.${i + 1}`, step, await this.#exchange(step));
  }

  async #exchange(step: Step): Promise<Outcome> {
    const context = this.#context(step);
    const filled = this.#fillStep(step);
    if (step.over === 'h2') {
      let connection = step.on === undefined ? undefined : this.#h2.get(step.on);
      if (!connection) {
        connection = dialH2(this.#port(step.listener), step, context);
        if (step.on === undefined) this.#looseH2.push(connection);
        else this.#h2.set(step.on, connection);
      }
      const outcome = await exchangeH2(connection, filled, context);
      if (step.on === undefined) connection.session.close();
      return outcome;
    }
    let connection = step.on === undefined ? undefined : this.#connections.get(step.on);
    if (!connection) {
      connection = await dial(this.#port(step.listener), step, context);
      if (step.on === undefined) this.#loose.push(connection);
      else this.#connections.set(step.on, connection);
    }
    const outcome = await converse(connection, filled, context);
    if (step.on === undefined) connection.socket.destroy();
    return outcome;
  }

  #fillStep(step: Step): Step {
    const text = JSON.stringify(step);
    if (!text.includes('${')) return step;
    return JSON.parse(
      text.replaceAll(/\$\{([\w.-]+)\}/g, (whole, name: string) => {
        const value = this.#variable(name);
        return value === undefined ? whole : JSON.stringify(value).slice(1, -1);
      }),
    ) as Step;
  }

  #variable(name: string): string | undefined {
    if (name.startsWith('listener.')) return String(this.#port(name.slice('listener.'.length)));
    return this.#input.variable(name);
  }

  async #close(name: string): Promise<void> {
    if (this.#input.upstreams.has(name)) {
      this.#upstream(name).drop();
      return;
    }
    this.#connections.get(name)?.socket.destroy();
    this.#h2.get(name)?.session.close();
    this.#connections.delete(name);
    this.#h2.delete(name);
  }

  async #admin(key: string, step: Step): Promise<void> {
    const [method = 'GET', target = '/'] = step.admin!.split(' ');
    const answer = await this.#input.engine.admin(method, target, {
      headers: Object.fromEntries(pairsOf(step.headers)),
      ...(typeof step.body === 'string' ? { body: step.body } : {}),
    });
    this.#seen.set(`${key}.status`, String(answer.status));
    this.#seen.set(`${key}.header.content-type`, answer.type);
    this.#seen.set(`${key}.body`, this.#clean(shownBytes(Buffer.from(answer.body, 'latin1'))));
  }

  #record(key: string, step: Step, outcome: Outcome): void {
    const seen = this.#seen;
    for (const [i, reply] of outcome.replies.entries()) {
      const at = i === 0 ? key : `${key}.${i + 1}`;
      this.#logged += 1;
      if (reply.start !== '') {
        seen.set(`${at}.start`, reply.start);
        seen.set(`${at}.status`, reply.status);
        seen.set(`${at}.framing`, reply.framing);
        seen.set(`${at}.body`, this.#clean(shownBytes(reply.body)));
      }
      setHeaders(seen, `${at}.header`, reply.headers, this.#clean);
      setHeaders(seen, `${at}.trailer`, reply.trailers, this.#clean);
      if (step.order) seen.set(`${at}.order`, reply.headers.map(([name]) => name).join(' '));
      if (reply.informational.length > 0) seen.set(`${at}.informational`, reply.informational.join(', '));
      if (reply.tunnel !== undefined) seen.set(`${at}.tunnel`, this.#clean(reply.tunnel));
      if (reply.reset !== undefined) seen.set(`${at}.reset`, reply.reset);
    }
    if (outcome.raw !== undefined)
      seen.set(`${key}.raw`, this.#clean(cleanRaw(shownBytes(Buffer.from(outcome.raw, 'latin1')))));
    seen.set(`${key}.end`, outcome.end);
    if (outcome.error !== undefined) seen.set(`${key}.error`, outcome.error);
    if (outcome.timedOut) seen.set(`${key}.timed_out`, 'true');
    for (const [what, value] of Object.entries(outcome.tls ?? {})) seen.set(`${key}.tls.${what}`, value);
  }

  async #live(): Promise<void> {
    const { test, engine, certificates } = this.#input;
    await test.live!({
      engine: engine.name,
      port: (name) => this.#port(name),
      upstream: (name) => this.#upstream(name),
      file: (name) => certificates.files.get(name) ?? '',
      pem: (name) => certificates.pem(name),
      send: async (step) => this.#exchange(step),
      stat: async (name) => (await this.#stat(name)) ?? 0,
      admin: engine.admin,
      adminPort: engine.adminPort,
      until: (what, condition, ms) => this.#until(what, condition, ms),
      note: (key, value) => {
        if (value !== undefined) this.#seen.set(`live.${key}`, this.#clean(String(value)));
      },
      expect: (condition, what) => {
        if (!condition) throw new Error(`expected: ${what}`);
      },
    });
  }

  async #stats(): Promise<ReadonlyMap<string, string>> {
    const { body } = await this.#input.engine.admin('GET', '/stats');
    const { prefix } = this.#input;
    const out = new Map<string, string>();
    for (const line of body.split('\n')) {
      const colon = line.indexOf(': ');
      if (colon < 0) continue;
      out.set(line.slice(0, colon).replaceAll(prefix, ''), line.slice(colon + 2));
    }
    return out;
  }

  async #stat(name: string): Promise<number | undefined> {
    const value = (await this.#stats()).get(name);
    return value === undefined ? undefined : Number(value);
  }

  async #readStats(): Promise<void> {
    const wanted = Object.entries(this.#input.test.stats ?? {});
    if (wanted.length === 0) return;
    const deadline = Date.now() + STAT_WAIT_MS;
    for (;;) {
      const stats = await this.#stats();
      const plain = wanted.filter(([, matcher]) => typeof matcher === 'number' || typeof matcher === 'string');
      const there = plain.every(([name, matcher]) => stats.get(name) === String(matcher));
      if (there || Date.now() > deadline) {
        for (const [name] of wanted) {
          const value = stats.get(name);
          if (value !== undefined) this.#seen.set(`stats.${name}`, this.#clean(value));
        }
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Lines come when streams end: waits for as many as there were answers, then a moment for one too many. */
  async #readLog(): Promise<void> {
    const { logFile, test } = this.#input;
    const read = (): readonly string[] =>
      existsSync(logFile)
        ? readFileSync(logFile, 'latin1')
            .split('\n')
            .filter((line) => line !== '')
        : [];
    const wanted = test.log_lines ?? test.log?.length ?? this.#logged;
    const deadline = Date.now() + LOG_WAIT_MS;
    while (read().length < wanted && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 10));
    await new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
    for (const [i, line] of read().entries()) this.#seen.set(`log.${i + 1}`, this.#clean(line));
  }

  #readUpstreams(): void {
    for (const [name, upstream] of this.#input.upstreams) {
      const key = `upstream.${name}`;
      this.#seen.set(`${key}.count`, String(upstream.seen.length));
      for (const [i, one] of upstream.seen.entries()) {
        const at = `${key}.${i + 1}`;
        if (one.kind !== 'tcp') {
          this.#seen.set(`${at}.request`, this.#clean(one.request));
          this.#seen.set(`${at}.framing`, one.complete ? one.framing : `${one.framing}, cut off`);
          this.#seen.set(`${at}.body`, this.#clean(shownBytes(one.body)));
          setHeaders(this.#seen, `${at}.header`, one.headers, this.#clean);
          setHeaders(this.#seen, `${at}.trailer`, one.trailers, this.#clean);
        }
        if (one.bytes.length > 0 || one.kind === 'tcp')
          this.#seen.set(`${at}.bytes`, this.#clean(shownBytes(one.bytes)));
        for (const [what, value] of Object.entries(one.tls ?? {})) this.#seen.set(`${at}.tls.${what}`, value);
      }
    }
  }
}

/** A few words on what a step sent, for reports. */
export function describeStep(step: Step): string {
  if (step.request !== undefined) return `${step.request}${step.over === 'h2' ? ' (HTTP/2)' : ''}`;
  if (step.send !== undefined)
    return list(step.send)
      .map((piece) =>
        typeof piece === 'object' && ('await' in piece || 'wait_ms' in piece || 'await_upstream' in piece)
          ? JSON.stringify(piece)
          : JSON.stringify(bytesOf(piece).toString('latin1').slice(0, 300)),
      )
      .join(' ');
  return JSON.stringify(step);
}
