import type { ConfigReader } from '../../read/config-reader.js';
import type { EncoderConfig } from '../../stacks/stack-config.js';

/** Far above any published classifier. */
const MOST_LABELS = 1 << 16;

/** Names of classes by index, and whether one of them holds or each by itself (`problem_type`). */
export function labelsOf(c: ConfigReader): Pick<EncoderConfig, 'labels' | 'probabilities'> {
  const names = (c.raw('id2label') ?? { 0: 'LABEL_0', 1: 'LABEL_1' }) as Record<string, unknown>;
  const count = typeof names === 'object' ? Object.keys(names).length : 0;
  const labels = Array.from({ length: Math.min(count, MOST_LABELS) }, (_, i) => names[i]);
  if (count === 0 || count > MOST_LABELS || !labels.every((label) => typeof label === 'string'))
    throw c.fail('id2label', `names for 0, 1, … of ${MOST_LABELS} classes at most`);
  c.only('num_labels', count);
  const each = c.raw('problem_type') === 'multi_label_classification' || count === 1;
  return { labels: labels as string[], probabilities: each ? 'sigmoid' : 'softmax' };
}
