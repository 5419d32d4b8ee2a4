// Schemas of every served kind: registry, decoding, defaults, validation, OpenAPI. Called by the API server.

export { validateCustomResourceDefinition } from './crd.ts';
export { type Decoded, decodeObject, type FieldValidation } from './decode.ts';
export { applyDefaults } from './defaults.ts';
export { errorText, invalidMessage, invalidStatus, SchemaError } from './errors.ts';
export { createOpenApi, type OpenApi, type OpenApiDocument, type ServedResource } from './openapi.ts';
export { podWarnings } from './pod-support.ts';
export { createSchemaRegistry, type GeneratedSchemas, loadGeneratedSchemas, type SchemaRegistry } from './registry.ts';
export type { FieldError, Gvk, Json, JsonObject, JsonSchema, KindSchema, StatusCause } from './types.ts';
export { type ValidateOptions, validateObject } from './validate.ts';
