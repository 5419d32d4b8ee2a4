// Runs a command in a container through the API server (WebSocket, v5.channel.k8s.io), as `kubectl exec` does.
// Called by proxy-status and proxy-config; works on any cluster.
import WebSocket from 'ws';

export interface ExecTarget {
  readonly namespace: string;
  readonly pod: string;
  readonly container: string;
}

/** Where the API server is and how to speak to it; taken from the kubeconfig. */
export interface ApiEndpoint {
  readonly server: string;
  readonly tls: {
    readonly ca?: string;
    readonly cert?: string;
    readonly key?: string;
    readonly rejectUnauthorized?: boolean;
  };
  readonly headers: Readonly<Record<string, string>>;
}

export interface ExecOutput {
  readonly stdout: string;
  readonly stderr: string;
  readonly exitCode: number;
}

const MAX_OUTPUT_BYTES = 256 * 1024 * 1024;
const STDOUT = 1;
const STDERR = 2;
const STATUS = 3;

/** Rejects when the container cannot be reached; a command that fails resolves with its exit code. */
export function execInPod(endpoint: ApiEndpoint, target: ExecTarget, command: readonly string[]): Promise<ExecOutput> {
  const url = new URL(`/api/v1/namespaces/${target.namespace}/pods/${target.pod}/exec`, endpoint.server);
  url.protocol = 'wss:';
  url.searchParams.set('container', target.container);
  url.searchParams.set('stdout', 'true');
  url.searchParams.set('stderr', 'true');
  for (const word of command) url.searchParams.append('command', word);
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, ['v5.channel.k8s.io', 'v4.channel.k8s.io'], {
      ...endpoint.tls,
      headers: endpoint.headers,
    });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let size = 0;
    let exitCode: number | undefined;
    let failure: string | undefined;
    socket.on('unexpected-response', (_request, response) => {
      let body = '';
      response.on('data', (chunk: Buffer) => {
        body += chunk.toString('utf8');
      });
      response.on('end', () => reject(new Error(statusMessage(body) ?? `HTTP ${response.statusCode} for exec`)));
    });
    socket.on('message', (data: Buffer) => {
      size += data.length;
      if (size > MAX_OUTPUT_BYTES) {
        failure = `more than ${MAX_OUTPUT_BYTES} bytes of output`;
        socket.terminate();
        return;
      }
      const body = data.subarray(1);
      if (data[0] === STDOUT) out.push(body);
      else if (data[0] === STDERR) err.push(body);
      else if (data[0] === STATUS) exitCode = exitCodeOf(body.toString('utf8'));
    });
    socket.on('error', (error) => reject(error));
    socket.on('close', () => {
      if (failure !== undefined || exitCode === undefined)
        reject(new Error(failure ?? `the connection to ${target.pod} closed before the command ended`));
      else
        resolve({ stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8'), exitCode });
    });
  });
}

interface Status {
  readonly status?: string;
  readonly message?: string;
  readonly details?: { readonly causes?: readonly { readonly reason?: string; readonly message?: string }[] };
}

function exitCodeOf(text: string): number {
  const status = JSON.parse(text) as Status;
  if (status.status === 'Success') return 0;
  const cause = status.details?.causes?.find((c) => c.reason === 'ExitCode');
  return cause ? Number(cause.message) : 1;
}

function statusMessage(text: string): string | undefined {
  try {
    return (JSON.parse(text) as Status).message;
  } catch {
    return undefined;
  }
}
