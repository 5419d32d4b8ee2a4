// One living object of each kind that traffic makes and ends: written by those who make or end them, read by nobody.
// V8's optimised code knows the shapes of the objects it works on, but does not keep them. A full collection in a pause finds
// no object of a kind, forgets its shape and throws away every function that knew it: about 90 had to be compiled again while
// the next requests waited (p99 of a pair after a pause: 6 ms, with these references 1.6 ms).

/** By kind; what such an object refers to (connection, exchange, sockets' objects) lives on with it, once per worker. */
export const newest: {
  /** Of HTTP, with its connection, filters' state and exchange with the upstream. */
  stream: unknown;
  h1Server: unknown;
  h2Server: unknown;
  h1Client: unknown;
  h2Client: unknown;
  h2ClientStream: unknown;
  tcpSession: unknown;
} = {
  stream: undefined,
  h1Server: undefined,
  h2Server: undefined,
  h1Client: undefined,
  h2Client: undefined,
  h2ClientStream: undefined,
  tcpSession: undefined,
};
