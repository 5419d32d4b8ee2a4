// What a case in TypeScript is given: the same clients and upstreams, driven by code. It returns or notes what it saw, and the
// notes of the two engines are compared like everything else. Made by session.ts.
import type { Outcome } from './client.ts';
import type { AdminAnswer, AdminMore } from './engine-process.ts';
import type { EngineName, Step } from './format.ts';
import type { Upstream } from './upstreams.ts';

export interface Live {
  readonly engine: EngineName;
  /** Port of a listener of the case, by its own name. */
  port(listener?: string): number;
  upstream(name: string): Upstream;
  /** Path of a certificate, key or CA (`cert.server`). */
  file(name: string): string;
  pem(name: string): string;
  send(step: Step): Promise<Outcome>;
  stat(name: string): Promise<number>;
  admin(method: string, path: string, more?: AdminMore): Promise<AdminAnswer>;
  readonly adminPort: number;
  /** Waits for a condition; throws when it does not come. */
  until(what: string, test: () => boolean | Promise<boolean>, ms?: number): Promise<void>;
  /** Puts a fact into the observation: compared between the engines. */
  note(key: string, value: string | number | boolean | undefined): void;
  /** A failed expectation of this engine alone. */
  expect(condition: boolean, what: string): void;
}

export type LiveCase = (live: Live) => Promise<void>;
