// The environment, command and arguments of a container. Pure; ConfigMaps and Secrets are looked up through the caller.
import type { ConfigMap } from '../../api/kubernetes/config-map.ts';
import type { Container, EnvVar } from '../../api/kubernetes/container.ts';
import type { Pod } from '../../api/kubernetes/pod.ts';
import type { Secret } from '../../api/kubernetes/secret.ts';
import { fieldValue, type PodFacts, resourceValue } from './fields.ts';

export interface ObjectLookup {
  configMap(namespace: string, name: string): ConfigMap | undefined;
  secret(namespace: string, name: string): Secret | undefined;
}

/** Replaces `$(NAME)`; `$$` is a dollar sign; what is unknown stays as written. */
export function expandVariables(text: string, values: ReadonlyMap<string, string>): string {
  return text.replace(/\$\$|\$\(([^()]*)\)/g, (whole, name: string | undefined) => {
    if (name === undefined) return '$';
    return values.get(name) ?? whole;
  });
}

const VARIABLE_NAME = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;

export interface EnvInput {
  readonly pod: Pod;
  readonly container: Container;
  readonly facts: PodFacts;
  readonly lookup: ObjectLookup;
  /** Lowest rank: the image's, then the cluster's. */
  readonly base: Readonly<Record<string, string>>;
}

/** Throws when a needed ConfigMap, Secret or key is missing (reason CreateContainerConfigError). */
export function containerEnv(input: EnvInput): ReadonlyMap<string, string> {
  const out = new Map(Object.entries(input.base));
  const namespace = input.pod.metadata.namespace ?? 'default';
  for (const source of input.container.envFrom ?? []) {
    for (const [key, value] of envFromEntries(source, namespace, input.lookup)) {
      const name = `${source.prefix ?? ''}${key}`;
      if (VARIABLE_NAME.test(name)) out.set(name, value);
    }
  }
  for (const variable of input.container.env ?? []) {
    const value = variableValue(variable, input, namespace, out);
    if (value !== undefined) out.set(variable.name, value);
  }
  return out;
}

function* envFromEntries(
  source: NonNullable<Container['envFrom']>[number],
  namespace: string,
  lookup: ObjectLookup,
): Iterable<readonly [string, string]> {
  if (source.configMapRef) {
    const name = source.configMapRef.name ?? '';
    const map = lookup.configMap(namespace, name);
    if (map) yield* Object.entries(map.data ?? {});
    else if (!source.configMapRef.optional) throw new Error(`configmap "${name}" not found`);
  }
  if (source.secretRef) {
    const name = source.secretRef.name ?? '';
    const secret = lookup.secret(namespace, name);
    if (secret) for (const [key, value] of Object.entries(secret.data ?? {})) yield [key, decode(value)];
    else if (!source.secretRef.optional) throw new Error(`secret "${name}" not found`);
  }
}

function variableValue(
  variable: EnvVar,
  input: EnvInput,
  namespace: string,
  sofar: ReadonlyMap<string, string>,
): string | undefined {
  const from = variable.valueFrom;
  if (!from) return expandVariables(variable.value ?? '', sofar);
  if (from.fieldRef) return fieldValue(input.pod, input.facts, from.fieldRef.fieldPath);
  if (from.resourceFieldRef) return resourceValue(input.pod, input.container, from.resourceFieldRef, input.facts);
  const ref = from.configMapKeyRef ?? from.secretKeyRef;
  if (!ref) return '';
  const name = ref.name ?? '';
  const kind = from.configMapKeyRef ? 'configmap' : 'secret';
  const object = from.configMapKeyRef ? input.lookup.configMap(namespace, name) : input.lookup.secret(namespace, name);
  const stored = object?.data?.[ref.key];
  if (stored !== undefined) return from.configMapKeyRef ? stored : decode(stored);
  if (ref.optional) return undefined;
  if (!object) throw new Error(`${kind} "${name}" not found`);
  const shown = from.configMapKeyRef ? 'ConfigMap' : 'Secret';
  throw new Error(`couldn't find key ${ref.key} in ${shown} ${namespace}/${name}`);
}

function decode(base64: string): string {
  return Buffer.from(base64, 'base64').toString('utf8');
}

/** What is executed: the pod's command and args over the image's. A command without args drops the image's cmd. */
export function containerArgv(
  container: Pick<Container, 'command' | 'args'>,
  image: { readonly entrypoint: readonly string[]; readonly cmd: readonly string[] },
  env: ReadonlyMap<string, string>,
): readonly string[] {
  const expand = (list: readonly string[] | undefined) => (list ?? []).map((item) => expandVariables(item, env));
  const command = container.command?.length ? expand(container.command) : image.entrypoint;
  if (container.args?.length) return [...command, ...expand(container.args)];
  return container.command?.length ? command : [...command, ...image.cmd];
}
