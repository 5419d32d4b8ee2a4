// Which pod a stream is for. Passed from the HTTP layer through the handlers.

export interface StreamTarget {
  readonly namespace: string;
  readonly pod: string;
}
