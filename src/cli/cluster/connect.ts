// Which cluster a command means: --kubeconfig, $KUBECONFIG, the local cluster's file, ~/.kube/config, in this order.
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { KubeConfigError, type KubeConnection, loadKubeconfig } from '../../base/kube/connection.ts';
import { createHttpKubeClient, type HttpKubeClient } from '../../base/kube/http-client.ts';
import { type Context, type Flags, stringFlag, UserError } from '../command.ts';
import { type ApiEndpoint, type ExecOutput, type ExecTarget, execInPod } from './exec.ts';
import { kubeconfigPath } from './local.ts';

export interface Cluster {
  readonly client: HttpKubeClient;
  readonly namespace: string;
  readonly kubeconfig: string;
  exec(target: ExecTarget, command: readonly string[]): Promise<ExecOutput>;
}

/** Throws {@link UserError} when there is no usable kubeconfig. Nothing is sent yet. */
export function connect(context: Context, flags: Flags): Cluster {
  const kubeconfig = findKubeconfig(context, stringFlag(flags, 'kubeconfig'));
  const connection = load(context, kubeconfig, stringFlag(flags, 'context'));
  const endpoint = endpointOf(connection);
  return {
    client: createHttpKubeClient(connection),
    namespace: stringFlag(flags, 'namespace') ?? connection.namespace ?? 'default',
    kubeconfig,
    exec: (target, command) => execInPod(endpoint(), target, command),
  };
}

export function findKubeconfig(context: Context, given: string | undefined): string {
  if (given !== undefined) {
    const file = path.resolve(context.cwd, given);
    if (!existsSync(file)) throw new UserError(`--kubeconfig ${given}: there is no such file.`);
    return file;
  }
  const fromEnv = (context.env.KUBECONFIG ?? '').split(':').filter((f) => f !== '');
  const candidates = [
    ...fromEnv,
    kubeconfigPath(context.home),
    ...(context.env.HOME ? [path.join(context.env.HOME, '.kube', 'config')] : []),
  ];
  const found = candidates.find((file) => existsSync(file));
  if (!found)
    throw new UserError(
      'There is no cluster to talk to: no local cluster is up ("meltemi up" starts one), and there is no kubeconfig ' +
        '($KUBECONFIG, ~/.kube/config or --kubeconfig).',
    );
  return found;
}

function load(context: Context, file: string, name: string | undefined): KubeConnection {
  try {
    return loadKubeconfig(file, {
      clock: context.clock,
      readFile: (f) => readFileSync(f, 'utf8'),
      ...(name === undefined ? {} : { context: name }),
    });
  } catch (error) {
    if (error instanceof KubeConfigError) throw new UserError(error.message);
    throw error;
  }
}

function endpointOf(connection: KubeConnection): () => ApiEndpoint {
  return () => {
    const token = connection.token?.();
    return {
      server: connection.server,
      tls: {
        ...(connection.caPem === undefined ? {} : { ca: connection.caPem }),
        ...(connection.clientCertPem === undefined ? {} : { cert: connection.clientCertPem }),
        ...(connection.clientKeyPem === undefined ? {} : { key: connection.clientKeyPem }),
        ...(connection.insecureSkipTlsVerify ? { rejectUnauthorized: false } : {}),
      },
      headers: (token === undefined ? {} : { authorization: `Bearer ${token}` }) as Readonly<Record<string, string>>,
    };
  };
}
