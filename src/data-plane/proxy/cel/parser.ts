// The text of an expression to its syntax tree. The library that reads it is loaded for the first expression there is: a proxy
// without any has none of it in memory. Used by compile.ts.
import { createRequire } from 'node:module';
import type { ASTNode, Environment } from '@marcbachmann/cel-js';
import { ConfigError } from '../config/fields.ts';
import { MAX_CEL_CHARS, MAX_CEL_DEPTH, MAX_CEL_NODES } from '../limits.ts';

export type { ASTNode } from '@marcbachmann/cel-js';

let environment: Environment | undefined;

/** Only its grammar is used: what expressions mean is Envoy's (compile.ts), which knows no types before there are values. */
function grammar(): Environment {
  if (!environment) {
    const library = createRequire(import.meta.url)('@marcbachmann/cel-js') as typeof import('@marcbachmann/cel-js');
    environment = new library.Environment({
      unlistedVariablesAreDyn: true,
      limits: { maxAstNodes: MAX_CEL_NODES, maxDepth: MAX_CEL_DEPTH },
    });
  }
  return environment;
}

/** `what` is read, in Envoy's words. */
export function parseExpression(text: string, what: 'expression' | 'filter expression', path: string): ASTNode {
  if (text.length > MAX_CEL_CHARS) throw new ConfigError(path, `expression longer than ${MAX_CEL_CHARS} characters`);
  try {
    return grammar().parse(text).ast;
  } catch (error) {
    throw new ConfigError(path, `Not able to parse ${what}: ${firstLine(error)}`);
  }
}

/** The others show the expression again. */
function firstLine(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.split('\n', 1)[0]!;
}
