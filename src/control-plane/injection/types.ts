// The sidecar injector as the webhook server sees it.

/** `admission.k8s.io/v1` AdmissionReview, the parts that are used. */
export interface AdmissionRequest {
  readonly uid: string;
  readonly namespace: string;
  readonly operation: string;
  readonly object: unknown;
  readonly oldObject?: unknown;
  readonly dryRun?: boolean;
  readonly kind: { readonly group: string; readonly version: string; readonly kind: string };
}

export interface AdmissionResponse {
  readonly uid: string;
  readonly allowed: boolean;
  readonly status?: { readonly code: number; readonly message: string };
  /** JSON patch, not yet base64. */
  readonly patch?: readonly unknown[];
  readonly warnings?: readonly string[];
}

export interface Injector {
  /** `path` is the webhook URL path; it may carry `/:ENV:k=v` or `/cluster/…/net/…` overrides. */
  handle(request: AdmissionRequest, path: string): Promise<AdmissionResponse>;
  /** `kube-inject`: the same patch applied to every pod template in a multi-document YAML. */
  injectYaml(yaml: string, namespace: string): string;
}
