// Volumes of a pod. Sources not named here are refused by the kubelet by name.
import type { ObjectFieldSelector, ResourceFieldSelector } from './container.ts';

export interface KeyToPath {
  readonly key: string;
  readonly path: string;
  readonly mode?: number;
}

export interface SecretVolumeSource {
  readonly secretName?: string;
  readonly items?: readonly KeyToPath[];
  readonly defaultMode?: number;
  readonly optional?: boolean;
}

export interface ConfigMapVolumeSource {
  readonly name?: string;
  readonly items?: readonly KeyToPath[];
  readonly defaultMode?: number;
  readonly optional?: boolean;
}

export interface DownwardApiFile {
  readonly path: string;
  readonly fieldRef?: ObjectFieldSelector;
  readonly resourceFieldRef?: ResourceFieldSelector;
  readonly mode?: number;
}

export interface DownwardApiVolumeSource {
  readonly items?: readonly DownwardApiFile[];
  readonly defaultMode?: number;
}

export interface ServiceAccountTokenProjection {
  readonly audience?: string;
  readonly expirationSeconds?: number;
  readonly path: string;
}

export interface VolumeProjection {
  readonly serviceAccountToken?: ServiceAccountTokenProjection;
  readonly configMap?: Omit<ConfigMapVolumeSource, 'defaultMode'>;
  readonly secret?: { readonly name?: string; readonly items?: readonly KeyToPath[]; readonly optional?: boolean };
  readonly downwardAPI?: Omit<DownwardApiVolumeSource, 'defaultMode'>;
}

export interface ProjectedVolumeSource {
  readonly sources?: readonly VolumeProjection[];
  readonly defaultMode?: number;
}

export interface EmptyDirVolumeSource {
  readonly medium?: '' | 'Memory';
  readonly sizeLimit?: string | number;
}

export interface HostPathVolumeSource {
  readonly path: string;
  readonly type?: string;
}

export interface Volume {
  readonly name: string;
  readonly emptyDir?: EmptyDirVolumeSource;
  readonly hostPath?: HostPathVolumeSource;
  readonly secret?: SecretVolumeSource;
  readonly configMap?: ConfigMapVolumeSource;
  readonly projected?: ProjectedVolumeSource;
  readonly downwardAPI?: DownwardApiVolumeSource;
  readonly persistentVolumeClaim?: { readonly claimName: string; readonly readOnly?: boolean };
}
