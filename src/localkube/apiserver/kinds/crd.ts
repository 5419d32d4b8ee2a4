// CustomResourceDefinitions: status and validation on the way in; from CRD to served resources. Called by ops/* and crd-watch.ts.
import { asJson, type Core, nowText } from '../core.ts';
import { type ApiObject, at, type Dict, dict, dicts, equal, isDict, str, strings } from '../json.ts';
import type { PrinterColumn, ResourceDef } from '../resources.ts';
import { validateCustomResourceDefinition } from '../schema/index.ts';
import { invalid } from '../status.ts';
import type { Strategy } from './strategy.ts';

export const CRD_FINALIZER = 'customresourcecleanup.apiextensions.k8s.io';

export const crdStrategy: Strategy = {
  prepareCreate(core, crd) {
    fillNames(crd);
    const finalizers = crd.metadata.finalizers ?? [];
    if (!finalizers.includes(CRD_FINALIZER)) crd.metadata.finalizers = [...finalizers, CRD_FINALIZER];
    crd.status = establishedStatus(core, crd, undefined);
  },
  prepareUpdate(core, next, live, _context, subresource) {
    if (subresource === 'status') return;
    fillNames(next);
    next.status = establishedStatus(core, next, live);
  },
  validate(_core, next, live, context, def) {
    if (live && equal(live.spec, next.spec)) return;
    const { errors, warnings } = validateCustomResourceDefinition(asJson(next));
    if (errors.length)
      throw invalid(
        def,
        next.metadata.name,
        errors.map((error) => ({ path: error.field, message: error.message })),
      );
    context.warnings.push(...warnings);
  },
};

function fillNames(crd: ApiObject): void {
  const names = dict(dict(crd.spec).names);
  names.singular ||= str(names.kind).toLowerCase();
  names.listKind ||= `${str(names.kind)}List`;
}

function establishedStatus(core: Core, crd: ApiObject, live: ApiObject | undefined): Dict {
  const spec = dict(crd.spec);
  const before = dict(live?.status);
  const storage = str(dicts(spec.versions).find((version) => version.storage === true)?.name);
  const storedVersions = strings(before.storedVersions);
  const condition = (type: string, reason: string, message: string): Dict => {
    const old = dicts(before.conditions).find((item) => item.type === type && item.status === 'True');
    return {
      lastTransitionTime: old?.lastTransitionTime ?? nowText(core.clock),
      message,
      reason,
      status: 'True',
      type,
    };
  };
  return {
    acceptedNames: spec.names,
    conditions: [
      condition('NamesAccepted', 'NoConflicts', 'no conflicts found'),
      condition('Established', 'InitialNamesAccepted', 'the initial names have been accepted'),
      ...dicts(before.conditions).filter((item) => item.type !== 'NamesAccepted' && item.type !== 'Established'),
    ],
    storedVersions: storedVersions.includes(storage) ? storedVersions : [...storedVersions, storage],
  };
}

/** One definition a served version. */
export function customResources(crd: Dict): readonly ResourceDef[] {
  const spec = dict(crd.spec);
  const names = dict(spec.names);
  const group = str(spec.group);
  const resource = str(names.plural);
  const versions = dicts(spec.versions);
  const storage = str(versions.find((version) => version.storage === true)?.name);
  return [...versions]
    .filter((version) => version.served === true)
    .sort((a, b) => compareVersions(str(a.name), str(b.name)))
    .map((version) => ({
      group,
      version: str(version.name),
      resource,
      kind: str(names.kind),
      namespaced: spec.scope === 'Namespaced',
      singular: str(names.singular) || str(names.kind).toLowerCase(),
      listKind: str(names.listKind) || `${str(names.kind)}List`,
      shortNames: strings(names.shortNames),
      categories: strings(names.categories),
      subresources: ['status', 'scale'].filter((name) => isDict(at(version, 'subresources', name))),
      collection: `${group}/${resource}`,
      storageApiVersion: `${group}/${storage}`,
      ephemeral: false,
      generation: true,
      custom: {
        crdName: str(at(crd, 'metadata', 'name')),
        schema: isDict(at(version, 'schema', 'openAPIV3Schema'))
          ? dict(at(version, 'schema', 'openAPIV3Schema'))
          : undefined,
        preserveUnknown: spec.preserveUnknownFields === true,
        columns: dicts(version.additionalPrinterColumns) as unknown as readonly PrinterColumn[],
        scale: scaleOf(version),
        selectableFields: dicts(version.selectableFields).map((field) => str(field.jsonPath).replace(/^\./, '')),
        deprecationWarning:
          version.deprecated === true
            ? str(version.deprecationWarning) || `${group}/${str(version.name)} ${str(names.kind)} is deprecated`
            : undefined,
      },
    }));
}

function scaleOf(version: Dict): { spec: string; status: string; selector: string } | undefined {
  const scale = at(version, 'subresources', 'scale');
  if (!isDict(scale)) return undefined;
  return {
    spec: str(scale.specReplicasPath),
    status: str(scale.statusReplicasPath),
    selector: str(scale.labelSelectorPath),
  };
}

/** Kubernetes' order of preference: v2, v1, v1beta2, v1beta1, v1alpha1, then names. */
export function compareVersions(a: string, b: string): number {
  const rank = (version: string): readonly number[] | undefined => {
    const match = /^v(\d+)(?:(alpha|beta)(\d+))?$/.exec(version);
    if (!match) return undefined;
    const stage = match[2] === undefined ? 2 : match[2] === 'beta' ? 1 : 0;
    return [stage, Number(match[1]), Number(match[3] ?? 0)];
  };
  const left = rank(a);
  const right = rank(b);
  if (!left || !right) return left ? -1 : right ? 1 : a < b ? -1 : a > b ? 1 : 0;
  for (let i = 0; i < 3; i++) if (left[i] !== right[i]) return (right[i] ?? 0) - (left[i] ?? 0);
  return 0;
}
