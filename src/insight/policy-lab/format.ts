// The MeshTest file as checked values (`meltemi.dev/v1alpha1`). Made by read.ts; used by everything in this folder.
import type { KubeObject } from '../../base/kube/types.ts';

export const API_VERSION = 'meltemi.dev/v1alpha1';
export const KIND = 'MeshTest';

/** What is wrong with a file, and where. */
export interface FileProblem {
  readonly file: string;
  readonly path: string;
  /** From 1. */
  readonly line: number;
  readonly column: number;
  readonly code: string;
  readonly message: string;
}

export interface MeshTest {
  readonly file: string;
  readonly name: string;
  readonly line: number;
  readonly trustDomain: string;
  readonly meshConfig: Readonly<Record<string, unknown>>;
  readonly namespaces: readonly { readonly name: string; readonly labels: Readonly<Record<string, string>> }[];
  readonly services: readonly TestService[];
  readonly workloads: readonly TestWorkload[];
  readonly resources: readonly TestResource[];
  /** Host name → `<namespace>/<workload>`. */
  readonly dns: Readonly<Record<string, string>>;
  readonly requests: readonly TestRequest[];
  /** Line of a path such as `spec.requests[0].expect.status`. */
  readonly lineOf: (path: string) => number;
}

export interface TestService {
  readonly name: string;
  readonly namespace: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
  readonly ports: readonly TestPort[];
  readonly selector: Readonly<Record<string, string>>;
  /** A Service without a cluster address: clients get the addresses of the pods. */
  readonly headless: boolean;
}

export interface TestPort {
  readonly name: string;
  readonly port: number;
  readonly targetPort: number;
  readonly appProtocol?: string;
}

export type Image =
  | { readonly kind: 'echo' | 'tcp-echo' | 'gateway' | 'scripted' }
  | { readonly kind: 'status'; readonly status: number }
  | { readonly kind: 'slow'; readonly ms: number };

export interface TestWorkload {
  readonly name: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly mesh: boolean;
  readonly image: Image;
  readonly replicas: number;
  readonly ip?: string;
  /** `region/zone/subzone`. */
  readonly locality?: string;
}

export interface TestResource {
  readonly object: KubeObject;
  readonly file: string;
  readonly line: number;
}

export const SCHEMES = ['http', 'https', 'h2c', 'grpc', 'ws', 'tcp', 'tls'] as const;
export type Scheme = (typeof SCHEMES)[number];

export interface TestRequest {
  readonly name: string;
  readonly line: number;
  /** `<namespace>/<workload>`, or `external`. */
  readonly from: string;
  readonly scheme: Scheme;
  readonly host: string;
  readonly port: number;
  /** Path and query as they go on the wire; rawPath is appended to the path of `to`. */
  readonly path: string;
  readonly method: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
  readonly times: number;
  readonly concurrency: number;
  readonly followRedirects: boolean;
  readonly sni?: string;
  readonly alpn?: readonly string[];
  /** Speak HTTP/2 over TLS (https) or without (http). */
  readonly http2: boolean;
  /** `<namespace>/<name>` of a Secret of type kubernetes.io/tls among the resources. */
  readonly clientCert?: string;
  readonly insecureSkipVerify: boolean;
  /** `<namespace>/<workload or service>` or an address to connect to, whatever the host says. */
  readonly resolveTo?: string;
  /** What a tcp, tls or ws client sends. */
  readonly send?: string;
  readonly timeoutMs: number;
  /** The client waits for the server's first bytes. */
  readonly serverFirst: boolean;
  readonly upstreamScript: readonly ScriptedAnswer[];
  readonly expect: Expectation;
}

/** One answer of a scripted upstream. */
export interface ScriptedAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
  readonly delayMs: number;
  /** Instead of an answer the connection is reset or closed. */
  readonly close?: 'reset' | 'fin';
}

export type Code = 'ok' | 'reset' | 'refused' | 'timeout' | 'tls';
export const CODES: readonly Code[] = ['ok', 'reset', 'refused', 'timeout', 'tls'];

export interface TextMatch {
  readonly equals?: string;
  readonly contains?: string;
  readonly notContains?: string;
  readonly matches?: string;
}

export interface Expectation {
  readonly status?: number;
  readonly statusAnyOf?: readonly number[];
  readonly grpcStatus?: string;
  readonly ok?: boolean;
  readonly code?: Code;
  readonly body?: TextMatch;
  readonly headers?: Readonly<Record<string, TextMatch>>;
  readonly absentHeaders?: readonly string[];
  readonly responder?: string;
  readonly sameResponder?: boolean;
  readonly upstream?: UpstreamExpectation;
  readonly mirrored?: Readonly<Record<string, number>>;
  readonly responseFlag?: string;
  readonly log?: TextMatch;
  readonly distribution?: Readonly<Record<string, number>>;
  readonly tolerance: number;
  readonly minMs?: number;
  readonly maxMs?: number;
}

export interface UpstreamExpectation {
  readonly headers?: Readonly<Record<string, TextMatch>>;
  readonly absentHeaders?: readonly string[];
  readonly path?: string;
  readonly method?: string;
  readonly host?: string;
  readonly protocol?: string;
  readonly mtls?: boolean;
  readonly peer?: string;
  readonly body?: TextMatch;
  /** How many requests reached applications in all. */
  readonly requests?: number;
}
