// What formats want to know that costs something to know: nobody pays before a format asks. Set where formats are compiled, read
// on the way of requests; it stays set, as the certificates' details do.
export const LOG_NEEDS = {
  /** When the first byte of a response's body came. */
  bodyBegin: false,
  /** Times finer than a millisecond. */
  fineTime: false,
};
