// Checked configuration, as the whole proxy reads it: base/envoy-api/fields.ts, which the policy engine shares.
export * from '../../../base/envoy-api/fields.ts';
