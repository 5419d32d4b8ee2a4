// The few protobuf messages the agent speaks, by hand: discovery, Secret, the CA's request (field numbers: spec wire.md).
// Generated code for Envoy's tree would cost this small process some 25 MB.
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire';

export const SECRET_TYPE = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret';

export interface DiscoveryRequest {
  readonly versionInfo: string;
  readonly resourceNames: readonly string[];
  readonly typeUrl: string;
  readonly responseNonce: string;
  /** Message of error_detail: the client refused what it got. */
  readonly error: string | undefined;
}

/** Throws when the bytes are no message. The node is skipped: only its own Envoy is at the other end. */
export function decodeDiscoveryRequest(bytes: Uint8Array): DiscoveryRequest {
  const out = { versionInfo: '', resourceNames: [] as string[], typeUrl: '', responseNonce: '' };
  let error: string | undefined;
  eachField(bytes, {
    1: (reader) => (out.versionInfo = reader.string()),
    3: (reader) => out.resourceNames.push(reader.string()),
    4: (reader) => (out.typeUrl = reader.string()),
    5: (reader) => (out.responseNonce = reader.string()),
    6: (reader) => (error = decodeStatusMessage(reader.bytes())),
  });
  return { ...out, error };
}

function decodeStatusMessage(bytes: Uint8Array): string {
  let message = '';
  eachField(bytes, { 2: (reader) => (message = reader.string()) });
  return message;
}

export interface DiscoveryResponse {
  readonly versionInfo: string;
  readonly typeUrl: string;
  readonly nonce: string;
  /** Each already a serialized message of `typeUrl`. */
  readonly resources: readonly Uint8Array[];
}

export function encodeDiscoveryResponse(response: DiscoveryResponse): Buffer {
  const writer = new BinaryWriter();
  text(writer, 1, response.versionInfo);
  for (const resource of response.resources) {
    const any = new BinaryWriter();
    text(any, 1, response.typeUrl);
    bytesField(any, 2, resource);
    bytesField(writer, 2, any.finish());
  }
  text(writer, 4, response.typeUrl);
  text(writer, 5, response.nonce);
  return Buffer.from(writer.finish());
}

/** For the debug port and tests. `resources` are the values of the Any members. */
export function decodeDiscoveryResponse(bytes: Uint8Array): DiscoveryResponse {
  const out = { versionInfo: '', typeUrl: '', nonce: '', resources: [] as Uint8Array[] };
  eachField(bytes, {
    1: (reader) => (out.versionInfo = reader.string()),
    2: (reader) => {
      eachField(reader.bytes(), { 2: (any) => out.resources.push(any.bytes()) });
    },
    4: (reader) => (out.typeUrl = reader.string()),
    5: (reader) => (out.nonce = reader.string()),
  });
  return out;
}

export function encodeDiscoveryRequest(request: Partial<DiscoveryRequest> & { readonly nodeId?: string }): Buffer {
  const writer = new BinaryWriter();
  text(writer, 1, request.versionInfo ?? '');
  if (request.nodeId !== undefined) {
    const node = new BinaryWriter();
    text(node, 1, request.nodeId);
    bytesField(writer, 2, node.finish());
  }
  for (const name of request.resourceNames ?? []) writer.tag(3, WireType.LengthDelimited).string(name);
  text(writer, 4, request.typeUrl ?? '');
  text(writer, 5, request.responseNonce ?? '');
  if (request.error !== undefined) {
    const status = new BinaryWriter();
    text(status, 2, request.error);
    bytesField(writer, 6, status.finish());
  }
  return Buffer.from(writer.finish());
}

export type SecretContent =
  | { readonly kind: 'key-pair'; readonly chainPem: string; readonly keyPem: string }
  | { readonly kind: 'roots'; readonly rootsPem: string };

/** envoy.extensions.transport_sockets.tls.v3.Secret with inline bytes. */
export function encodeSecret(name: string, content: SecretContent): Uint8Array {
  const writer = new BinaryWriter();
  text(writer, 1, name);
  const inner = new BinaryWriter();
  if (content.kind === 'key-pair') {
    bytesField(inner, 1, inlineBytes(content.chainPem));
    bytesField(inner, 2, inlineBytes(content.keyPem));
    bytesField(writer, 2, inner.finish());
  } else {
    bytesField(inner, 1, inlineBytes(content.rootsPem));
    bytesField(writer, 4, inner.finish());
  }
  return writer.finish();
}

function inlineBytes(pem: string): Uint8Array {
  const source = new BinaryWriter();
  bytesField(source, 2, Buffer.from(pem, 'utf8'));
  return source.finish();
}

/** istio.v1.auth.IstioCertificateRequest. */
export function encodeCertificateRequest(csrPem: string, validitySeconds: number): Buffer {
  const writer = new BinaryWriter();
  text(writer, 1, csrPem);
  if (validitySeconds !== 0) writer.tag(3, WireType.Varint).int64(validitySeconds);
  return Buffer.from(writer.finish());
}

/** The PEM elements of istio.v1.auth.IstioCertificateResponse. */
export function decodeCertificateResponse(bytes: Uint8Array): readonly string[] {
  const chain: string[] = [];
  eachField(bytes, { 1: (reader) => chain.push(reader.string()) });
  return chain;
}

/** grpc.health.v1: the request names a service, the answer's status 1 is SERVING. */
export function encodeHealthRequest(service: string): Buffer {
  const writer = new BinaryWriter();
  text(writer, 1, service);
  return Buffer.from(writer.finish());
}
export function decodeHealthStatus(bytes: Uint8Array): number {
  let status = 0;
  eachField(bytes, { 1: (reader) => (status = reader.int32()) });
  return status;
}

function eachField(bytes: Uint8Array, fields: Readonly<Record<number, (reader: BinaryReader) => unknown>>): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [field, wireType] = reader.tag();
    const read = fields[field];
    if (read) read(reader);
    else reader.skip(wireType, field);
  }
}

function text(writer: BinaryWriter, field: number, value: string): void {
  if (value !== '') writer.tag(field, WireType.LengthDelimited).string(value);
}
function bytesField(writer: BinaryWriter, field: number, value: Uint8Array): void {
  writer.tag(field, WireType.LengthDelimited).bytes(value);
}
