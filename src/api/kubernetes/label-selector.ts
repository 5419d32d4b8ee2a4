// The LabelSelector of Deployments, webhooks and the rest; matched by src/base/kube/selectors.ts.
export type { LabelSelector, LabelSelectorRequirement } from '../../base/kube/selectors.ts';
