// The control plane without a cluster: objects given at once, ADS on loopback, a certificate authority in memory. The store,
// the snapshot, the translation, the streams and the CA are the production ones. Called by src/insight/policy-lab/.
import { createPublicKey, randomBytes } from 'node:crypto';
import { Server as GrpcServer, ServerCredentials } from '@grpc/grpc-js';
import type { KubeObject } from '../../base/kube/types.ts';
import { systemClock } from '../../base/runtime/clock.ts';
import type { Diagnostic } from '../../base/runtime/diagnostics.ts';
import { type Logger, silentLog } from '../../base/runtime/log.ts';
import { createMetrics } from '../../base/runtime/metrics.ts';
import { parseWorkloadId } from '../../base/spiffe/spiffe-id.ts';
import { certificatePem, type Issuer, issueLeaf, issueRoot, readCertificate } from '../../base/x509/certificate.ts';
import { createCsr } from '../../base/x509/csr.ts';
import { altName } from '../../base/x509/extensions.ts';
import { generateKey, writePrivateKey } from '../../base/x509/keys.ts';
import { readPem } from '../../base/x509/pem.ts';
import { shortTypeName } from '../../base/xds/type-urls.ts';
import { loadCertificateAuthority } from '../ca/load.ts';
import { createConfigStore } from '../config/store.ts';
import { buildSnapshot, type Snapshot } from '../model/snapshot.ts';
import { createDiscovery } from '../serve/discovery.ts';
import { addDiscoveryService } from '../serve/grpc.ts';
import { createServeMetrics } from '../serve/metrics.ts';
import type { Adapt } from '../serve/stream.ts';
import { NO_CLUSTER, staticInformers } from './static-objects.ts';

export { hostMatches, resolveHost } from '../model/hosts.ts';
export { validateObject } from '../webhook/validate.ts';
export type { Adapt, Snapshot };

export interface OfflineControlPlaneOptions {
  /** Everything an API server would hold, the mesh's ConfigMap `istio` in the root namespace included. */
  readonly objects: readonly KubeObject[];
  readonly rootNamespace: string;
  readonly domain: string;
  readonly adapt: Adapt;
  readonly log?: Logger;
}

export interface OfflineControlPlane {
  readonly snapshot: Snapshot;
  /** Objects that are not obeyed, and why. */
  readonly problems: readonly OfflineProblem[];
  /** Port of the aggregated discovery service on 127.0.0.1, without TLS. */
  readonly port: number;
  /** What a proxy refused, in its own words. */
  rejections(): readonly string[];
  close(): void;
}

export interface OfflineProblem {
  readonly kind: string;
  readonly namespace: string;
  readonly name: string;
  readonly diagnostics: readonly Diagnostic[];
}

export async function startOfflineControlPlane(options: OfflineControlPlaneOptions): Promise<OfflineControlPlane> {
  const log = options.log ?? silentLog;
  const store = createConfigStore({
    client: NO_CLUSTER,
    informer: staticInformers(options.objects),
    rootNamespace: options.rootNamespace,
    meshConfigMap: 'istio',
    log: silentLog,
  });
  await store.synced;
  const snapshot = buildSnapshot(store.read(), { version: 'offline/1', domain: options.domain });
  const problems = store.problems();
  store.close();
  const discovery = createDiscovery({
    clock: systemClock,
    log: log.scope('ads'),
    metrics: createServeMetrics(createMetrics(), 'offline'),
    version: 'offline',
    pushThrottle: 100,
    adapt: options.adapt,
    trustEveryone: true,
  });
  discovery.publish(snapshot, 'full', systemClock.now());
  const server = new GrpcServer();
  addDiscoveryService(server, { discovery, identifier: 'offline', log: log.scope('ads') });
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    ),
  );
  const rejections = (): readonly string[] =>
    discovery
      .streams()
      .flatMap((stream) =>
        [...stream.watches.values()]
          .filter((watch) => watch.lastError !== '')
          .map((watch) => `${stream.proxy.id} refused its ${shortTypeName(watch.typeUrl)}: ${watch.lastError}`),
      );
  return { snapshot, problems, port, rejections, close: () => server.forceShutdown() };
}

export interface OfflineSecret {
  readonly chainPem: string;
  readonly keyPem: string;
  readonly rootsPem: string;
  readonly serialNumber: string;
  readonly receivedAt: number;
  readonly expiresAt: number;
}

export interface OfflineAuthority {
  readonly rootsPem: string;
  /** A key and certificate for a SPIFFE ID, by way of a CSR. */
  issueWorkload(spiffeId: string): Promise<OfflineSecret>;
}

const TTL_SECONDS = 3600;

/** A mesh root in memory with P-256 keys: RSA would cost a hundred times the time. */
export async function createOfflineAuthority(trustDomain: string): Promise<OfflineAuthority> {
  const authority = await loadCertificateAuthority({
    namespace: 'istio-system',
    trustDomain,
    clock: systemClock,
    random: randomBytes,
    log: silentLog,
    keyKind: 'p256',
    rootCheckIntervalMs: 0,
  });
  return {
    rootsPem: authority.rootBundlePem(),
    async issueWorkload(spiffeId) {
      const id = parseWorkloadId(spiffeId);
      if (id.kind === 'invalid') throw new Error(id.diagnostics[0]?.message ?? `${spiffeId} is no SPIFFE ID`);
      const key = await generateKey('p256');
      const chain = await authority.signWorkload(await createCsr(key, [altName(id.value)]), [id.value], TTL_SECONDS);
      const leaf = readCertificate(readPem(chain[0] ?? '')[0]?.der ?? Buffer.alloc(0));
      return {
        chainPem: chain.slice(0, -1).join(''),
        keyPem: writePrivateKey(key, 'pkcs8'),
        rootsPem: authority.rootBundlePem(),
        serialNumber: leaf.serialHex,
        receivedAt: systemClock.now(),
        expiresAt: leaf.notAfter,
      };
    },
  };
}

export interface PublicAuthority {
  readonly rootPem: string;
  /** A certificate for DNS names or addresses. */
  issue(names: readonly string[]): Promise<{ readonly certificatePem: string; readonly keyPem: string }>;
}

/** A CA outside the mesh: what signs the certificates of websites and of clients of a gateway. */
export async function createPublicAuthority(organization: string): Promise<PublicAuthority> {
  const key = await generateKey('p256');
  const now = systemClock.now();
  const certificate = await issueRoot({
    key,
    organization,
    now,
    ttlMs: TTL_SECONDS * 1000 * 24,
    random: randomBytes,
  });
  const issuer: Issuer = { certificate, key };
  return {
    rootPem: certificatePem(certificate),
    async issue(names) {
      const leafKey = await generateKey('p256');
      const leaf = await issueLeaf(issuer, {
        publicKey: createPublicKey(leafKey),
        names: names.map(altName),
        withCommonName: true,
        now: systemClock.now(),
        ttlMs: TTL_SECONDS * 1000,
        random: randomBytes,
      });
      return { certificatePem: certificatePem(leaf), keyPem: writePrivateKey(leafKey, 'pkcs8') };
    },
  };
}
