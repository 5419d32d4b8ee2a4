// One Prometheus page of three: the agent's own metrics, the proxy's, the application's. Called by status-server.ts.

import { errorText, type Logger } from '../../base/runtime/log.ts';
import type { MetricsRegistry } from '../../base/runtime/metrics.ts';
import { readText } from './http.ts';

const TIMEOUT_MS = 5000;

export interface ScrapeOptions {
  readonly metrics: MetricsRegistry;
  readonly envoyPort: number;
  /** ISTIO_PROMETHEUS_ANNOTATIONS: `{"scrape":"true","port":"8080","path":"/metrics"}` or empty. */
  readonly annotations: string;
  readonly podIp: string;
  readonly log: Logger;
}

export function createScrape(options: ScrapeOptions): () => Promise<string> {
  const application = applicationTarget(options.annotations);
  const failures = options.metrics.counter('istio_agent_scrape_failures_total', 'Scrapes that failed, by source.');
  const fetch = async (source: string, host: string, port: number, path: string): Promise<string> => {
    try {
      const answer = await readText({ method: 'GET', host, port, path, timeoutMs: TIMEOUT_MS });
      if (answer.status !== 200) throw new Error(`status ${answer.status}`);
      // OpenMetrics ends with a mark that may not stand in the middle of a page.
      return answer.body.replace(/# EOF\s*$/, '');
    } catch (error) {
      failures.inc({ type: source });
      options.log.debug('scrape failed', { source, error: errorText(error) });
      return '';
    }
  };
  return async () => {
    const [envoy, app] = await Promise.all([
      fetch('envoy', '127.0.0.1', options.envoyPort, '/stats/prometheus'),
      application ? fetch('application', options.podIp, application.port, application.path) : '',
    ]);
    return [options.metrics.render(), envoy, app]
      .filter((part) => part !== '')
      .map(withNewline)
      .join('');
  };
}

function withNewline(text: string): string {
  return text.endsWith('\n') ? text : `${text}\n`;
}

function applicationTarget(text: string): { readonly port: number; readonly path: string } | undefined {
  if (text === '') return undefined;
  const value = JSON.parse(text) as { readonly scrape?: string; readonly port?: string; readonly path?: string };
  const port = Number(value.port);
  if (value.scrape !== 'true' || !Number.isInteger(port) || port <= 0) return undefined;
  // Scraping ourselves would never end.
  if (port === 15020) return undefined;
  return { port, path: value.path || '/metrics' };
}
