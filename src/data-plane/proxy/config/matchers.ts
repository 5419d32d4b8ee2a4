// StringMatcher, RE2 and fractions, as the whole proxy compiles them: base/envoy-api/matchers.ts, which the policy engine shares.
export * from '../../../base/envoy-api/matchers.ts';
