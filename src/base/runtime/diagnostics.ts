// Bad input becomes a list of these; the last good state stays. One boundary maps them to a status, a NACK or a report.

export interface Diagnostic {
  /** Where in the input: `spec.mtls.mode`, `servers[0].port`. */
  readonly path: string;
  /** Stable, kebab-case: programs may compare it. */
  readonly code: string;
  /** What is wrong and what would be right. */
  readonly message: string;
}

export type Parsed<T> =
  | { readonly kind: 'ok'; readonly value: T }
  | { readonly kind: 'invalid'; readonly diagnostics: readonly Diagnostic[] };
