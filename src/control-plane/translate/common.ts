// Small makers of Envoy messages that every translation uses.
import type { JsonObject, MessageInitShape } from '@bufbuild/protobuf';
import type { AddressSchema } from '#proto/envoy/config/core/v3/address_pb.js';
import type { MetadataSchema, TransportSocketSchema } from '#proto/envoy/config/core/v3/base_pb.js';
import {
  ApiConfigSource_ApiType,
  ApiVersion,
  type ConfigSourceSchema,
} from '#proto/envoy/config/core/v3/config_source_pb.js';
import { RawBufferSchema } from '#proto/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js';
import { packAny } from '../../base/envoy-api/any.ts';

export interface ProtoDuration {
  readonly seconds: bigint;
  readonly nanos: number;
}

export function protoDuration(ms: number): ProtoDuration {
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.round((ms - seconds * 1000) * 1e6) };
}

export const ZERO = protoDuration(0);

export function address(ip: string, port: number): MessageInitShape<typeof AddressSchema> {
  return {
    address: { case: 'socketAddress', value: { address: ip, portSpecifier: { case: 'portValue', value: port } } },
  };
}

/** Resources that come by the same stream; waits for them without end. */
export const ADS_SOURCE: MessageInitShape<typeof ConfigSourceSchema> = {
  configSourceSpecifier: { case: 'ads', value: {} },
  resourceApiVersion: ApiVersion.V3,
  initialFetchTimeout: ZERO,
};

/** Secrets by the same stream; one that is missing holds a listener up for Envoy's default of 15 s only. */
export const ADS_SECRETS: MessageInitShape<typeof ConfigSourceSchema> = {
  configSourceSpecifier: { case: 'ads', value: {} },
  resourceApiVersion: ApiVersion.V3,
};

/** Certificates come from the agent in the pod. */
export const SDS_SOURCE: MessageInitShape<typeof ConfigSourceSchema> = {
  configSourceSpecifier: {
    case: 'apiConfigSource',
    value: {
      apiType: ApiConfigSource_ApiType.GRPC,
      transportApiVersion: ApiVersion.V3,
      setNodeOnFirstMessageOnly: true,
      grpcServices: [{ targetSpecifier: { case: 'envoyGrpc', value: { clusterName: 'sds-grpc' } } }],
    },
  },
  resourceApiVersion: ApiVersion.V3,
  initialFetchTimeout: ZERO,
};

export const RAW_BUFFER: MessageInitShape<typeof TransportSocketSchema> = {
  name: 'envoy.transport_sockets.raw_buffer',
  configType: { case: 'typedConfig', value: packAny(RawBufferSchema, {}) },
};

/** Metadata under the key `istio`: what telemetry and `istioctl` read. */
export function istioMetadata(value: JsonObject): MessageInitShape<typeof MetadataSchema> {
  return { filterMetadata: { istio: value } };
}

export const MAX_UINT32 = 4_294_967_295;
