// Which program an image name means. A data table: the kubelet looks every container's image up here, because localkube
// runs programs of this repository and of the host instead of downloaded layers. To add an image, add a row.

export interface ImageUser {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
  readonly home: string;
  readonly shell: string;
}

export interface ImageEntry {
  /** Repository names this row serves, without registry and tag. `a/b` also matches `registry.example/x/a/b`. */
  readonly repositories: readonly string[];
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Absent: root. */
  readonly user?: ImageUser;
  readonly workingDir: string;
  /** Debian packages of the host whose programs the image is expected to hold. */
  readonly packages: readonly string[];
  /** Files added to the container's root: path → content and mode. */
  readonly files: Readonly<Record<string, { readonly content: string; readonly mode: number }>>;
  /** Sees the engines folder of the home, for stock Envoys (`meltemi engine add`). */
  readonly engines: boolean;
  /** One line for `what images are there`. */
  readonly summary: string;
}

/** Where the checkout is seen inside containers. */
export const CHECKOUT = '/usr/lib/meltemi';
/** Where containers that run proxies see $MELTEMI_HOME/engines. */
export const ENGINES = '/usr/lib/meltemi-engines';
const BIN = `${CHECKOUT}/images/bin`;
const app = (name: string): readonly string[] => [`${BIN}/run-app`, name];

const ISTIO_PROXY: ImageUser = {
  name: 'istio-proxy',
  uid: 1337,
  gid: 1337,
  home: '/home/istio-proxy',
  shell: '/bin/bash',
};
const CURL_USER: ImageUser = { name: 'curl_user', uid: 100, gid: 101, home: '/home/curl_user', shell: '/bin/sh' };

interface Row extends Partial<Omit<ImageEntry, 'repositories' | 'summary'>> {
  readonly repositories: readonly string[];
  readonly summary: string;
}

const ROWS: readonly Row[] = [
  {
    repositories: ['meltemi/pilot', 'istio/pilot'],
    entrypoint: [`${BIN}/pilot-discovery`],
    user: ISTIO_PROXY,
    summary: 'the control plane (istiod)',
  },
  {
    repositories: ['meltemi/proxyv2', 'istio/proxyv2'],
    entrypoint: [`${BIN}/pilot-agent`],
    user: ISTIO_PROXY,
    engines: true,
    packages: ['iptables', 'iproute2', 'openssl', 'curl', 'sudo', 'tcpdump', 'procps'],
    files: {
      // sudo reads only files nobody else can write; it works only in containers that may gain privileges.
      '/etc/sudoers.d/istio-proxy': { content: 'istio-proxy ALL=NOPASSWD: ALL\n', mode: 0o440 },
    },
    summary: 'sidecar and gateway: agent, proxy and istio-iptables',
  },
  {
    repositories: ['curlimages/curl', 'curl/curl', 'governmentpaas/curl-ssl'],
    entrypoint: [`${BIN}/curl-entrypoint`],
    cmd: ['curl', '--help'],
    user: CURL_USER,
    packages: ['curl'],
    summary: 'curl, and a shell',
  },
  { repositories: ['busybox', 'alpine'], cmd: ['/bin/sh'], summary: "the host's shell and tools" },
  { repositories: ['debian', 'ubuntu'], cmd: ['/bin/bash'], summary: "the host's shell and tools" },
  {
    repositories: ['nicolaka/netshoot'],
    cmd: ['/bin/bash'],
    workingDir: '/root',
    packages: ['curl', 'iproute2', 'iptables', 'openssl', 'procps', 'tcpdump'],
    summary: "the host's network tools",
  },
  {
    repositories: ['nginx'],
    entrypoint: [`${BIN}/nginx-like`],
    env: { NGINX_VERSION: '1.27.0' },
    summary: 'a small web server with the nginx welcome page, port 80',
  },
  {
    repositories: ['kennethreitz/httpbin', 'istio/httpbin'],
    entrypoint: app('httpbin'),
    cmd: ['--port', '80'],
    summary: 'httpbin-like request echo, port 80',
  },
  {
    repositories: ['mccutchen/go-httpbin'],
    entrypoint: app('httpbin'),
    cmd: ['--port', '8080'],
    summary: 'httpbin-like request echo, port 8080',
  },
  {
    repositories: ['istioinaction/catalog'],
    entrypoint: app('catalog'),
    env: { PORT: '3000' },
    summary: 'the catalog service of the istio-in-action lab, port 3000',
  },
  {
    repositories: ['istioinaction/webapp'],
    entrypoint: app('webapp'),
    env: { PORT: '8080' },
    summary: 'the web application of the istio-in-action lab, port 8080',
  },
  {
    repositories: ['istio/tcp-echo-server'],
    entrypoint: app('tcp-echo'),
    cmd: ['9000,9001,9002', 'hello'],
    summary: 'answers each line with a prefix, TCP',
  },
  {
    repositories: ['pause', 'google_containers/pause'],
    entrypoint: ['/bin/sh', '-c', 'trap "exit 0" TERM INT; while :; do sleep 2147483 & wait $!; done'],
    summary: 'does nothing',
  },
];

export const CATALOG: readonly ImageEntry[] = ROWS.map((row) => ({
  entrypoint: [],
  cmd: [],
  env: {},
  workingDir: '/',
  packages: [],
  files: {},
  engines: false,
  ...row,
}));
