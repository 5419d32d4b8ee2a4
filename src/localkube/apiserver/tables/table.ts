// Objects as a meta.k8s.io/v1 Table, which is what kubectl get prints. Called by the HTTP layer for lists, objects and watches.
import { at, type Dict } from '../json.ts';
import type { PrinterColumn, ResourceDef } from '../resources.ts';
import { COLUMNS, type ColumnSet } from './columns.ts';
import { age } from './format.ts';
import { compileJsonPath, evaluateJsonPath } from './jsonpath.ts';

export type IncludeObject = 'None' | 'Metadata' | 'Object';

export interface TableInput {
  readonly def: ResourceDef;
  readonly objects: readonly Dict[];
  /** ListMeta, or an object's resourceVersion. */
  readonly metadata: Dict;
  readonly includeObject: IncludeObject;
  readonly version: 'v1' | 'v1beta1';
  readonly now: number;
  /** Watches send the columns once. */
  readonly withColumns: boolean;
}

export function tableOf(input: TableInput): Dict {
  const set = columnsOf(input.def);
  return {
    kind: 'Table',
    apiVersion: `meta.k8s.io/${input.version}`,
    metadata: input.metadata,
    columnDefinitions: input.withColumns ? set.definitions : null,
    rows: input.objects.map((object) => ({ cells: set.row(object, input.now), object: embedded(object, input) })),
  };
}

function embedded(object: Dict, input: TableInput): unknown {
  if (input.includeObject === 'None') return null;
  if (input.includeObject === 'Object') return object;
  return { kind: 'PartialObjectMetadata', apiVersion: `meta.k8s.io/${input.version}`, metadata: object.metadata };
}

interface Compiled {
  readonly definitions: readonly Dict[];
  row(object: Dict, now: number): readonly unknown[];
}

function columnsOf(def: ResourceDef): Compiled {
  if (def.custom) return customColumns(def.custom.columns);
  const set: ColumnSet = COLUMNS[def.collection] ?? {
    columns: ['Name', 'Age'],
    row: (object, now) => [at(object, 'metadata', 'name'), age(at(object, 'metadata', 'creationTimestamp'), now)],
  };
  return {
    definitions: set.columns.map((column) =>
      definition(column.replace('*', ''), 'string', '', column.endsWith('*') ? 1 : 0),
    ),
    row: set.row,
  };
}

function definition(name: string, type: string, description: string, priority: number, format = ''): Dict {
  return { name, type, format: name === 'Name' ? 'name' : format, description, priority };
}

const AGE: PrinterColumn = { name: 'Age', type: 'date', jsonPath: '.metadata.creationTimestamp' };

function customColumns(columns: readonly PrinterColumn[]): Compiled {
  const shown = columns.length ? columns : [AGE];
  const paths = shown.map((column) => compileJsonPath(column.jsonPath));
  return {
    definitions: [
      definition('Name', 'string', 'Name must be unique within a namespace.', 0),
      ...shown.map((column) =>
        definition(column.name, column.type, column.description ?? '', column.priority ?? 0, column.format),
      ),
    ],
    row: (object, now) => [
      at(object, 'metadata', 'name'),
      ...shown.map((column, index) => customCell(column, paths[index], object, now)),
    ],
  };
}

function customCell(
  column: PrinterColumn,
  path: ReturnType<typeof compileJsonPath>,
  object: Dict,
  now: number,
): unknown {
  if (!path) return null;
  const values = evaluateJsonPath(path, object);
  if (values.length === 0) return null;
  const value = values.length === 1 ? values[0] : values;
  if (column.type === 'date') return age(value, now);
  if (column.type === 'integer' || column.type === 'number') return typeof value === 'number' ? value : null;
  if (column.type === 'boolean') return typeof value === 'boolean' ? value : null;
  return typeof value === 'object' && value !== null ? JSON.stringify(value) : String(value);
}
