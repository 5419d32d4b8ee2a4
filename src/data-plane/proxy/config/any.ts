// Any and TypedStruct, as the whole proxy opens them: base/envoy-api/extension.ts, which the policy engine shares.
export * from '../../../base/envoy-api/extension.ts';
