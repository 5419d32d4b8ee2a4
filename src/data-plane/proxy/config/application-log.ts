// application_log_config of the bootstrap: the format of the process's own log. Called by main.ts.
import {
  type Bootstrap,
  Bootstrap_ApplicationLogConfig_LogFormatSchema,
  Bootstrap_ApplicationLogConfigSchema,
} from '#proto/envoy/config/bootstrap/v3/bootstrap_pb.js';
import { DEFAULT_LOG_FORMAT } from '../command-line.ts';
import { ConfigError, only } from './fields.ts';

/** The pattern to use instead of the command line's; undefined when the bootstrap has none. Throws ConfigError. */
export function applicationLogFormat(
  bootstrap: Bootstrap,
  commandLine: { readonly logFormat: string },
): string | undefined {
  const config = bootstrap.applicationLogConfig;
  if (!config?.logFormat) return undefined;
  const path = 'application_log_config';
  only(Bootstrap_ApplicationLogConfigSchema, config, path, ['log_format']);
  only(Bootstrap_ApplicationLogConfig_LogFormatSchema, config.logFormat, `${path}.log_format`, [
    'json_format',
    'text_format',
  ]);
  if (commandLine.logFormat !== DEFAULT_LOG_FORMAT)
    throw new ConfigError(
      '',
      'Only one of ApplicationLogConfig.log_format or CLI option --log-format can be specified.',
    );
  const format = config.logFormat.logFormat;
  switch (format.case) {
    case 'textFormat':
      return format.value;
    case 'jsonFormat': {
      for (const [key, value] of Object.entries(format.value))
        if (typeof value === 'string' && /%[v_]/.test(value))
          throw new ConfigError(
            `${path}.log_format.json_format.${key}`,
            `setJsonLogFormat error: usage of %v or %_ is unavailable for JSON log formats: use %j`,
          );
      return JSON.stringify(format.value);
    }
    default:
      return undefined;
  }
}
