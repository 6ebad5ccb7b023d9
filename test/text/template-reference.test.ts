import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type ChatMessage, ChatTemplate } from '../../src/text/chat-template.js';
import { pythonHas, runPython } from '../helpers/python.js';
import { readJson } from '../helpers/tokenizers.js';

interface Conversation {
  messages: ChatMessage[];
  tools?: unknown[];
  add_generation_prompt?: boolean;
  variables?: Record<string, unknown>;
}

const folder = join(import.meta.dirname, '../fixtures/templates');
const { values, conversations } = readJson(join(folder, 'conversations.json')) as {
  values: Record<string, string>;
  conversations: Record<string, Conversation>;
};
/** By style and conversation; null where the template refuses. */
const expected: Record<string, Record<string, string | null>> = readJson(join(folder, 'expected.json'));
const styles = readdirSync(folder)
  .filter((name) => name.endsWith('.jinja'))
  .map((name) => name.replace('.jinja', ''));

describe('templates in the styles of published models', () => {
  it('have a reference', () => {
    expect(Object.keys(expected)).toEqual(styles);
    for (const style of styles) expect(Object.keys(expected[style])).toEqual(Object.keys(conversations));
  });

  const cases = styles.flatMap((style) => Object.keys(conversations).map((name) => ({ style, name })));
  it.each(cases)('$style: $name', ({ style, name }) => {
    const { messages, tools, add_generation_prompt, variables } = conversations[name];
    const source = readFileSync(join(folder, `${style}.jinja`), 'utf8');
    const template = new ChatTemplate(source, {
      specialTokens: values,
      now: new Date(Date.UTC(2025, 2, 9, 8, 7, 6)),
      timeZone: 'utc',
    });
    const render = () =>
      template.render(messages, {
        ...(tools === undefined ? {} : { tools }),
        ...(variables === undefined ? {} : { variables }),
        ...(add_generation_prompt === undefined ? {} : { addGenerationPrompt: add_generation_prompt }),
      });
    const want = expected[style][name];
    if (want === null) expect(render).toThrow(expect.objectContaining({ code: 'ERR_TEMPLATE' }));
    else expect(render()).toBe(want);
  });
});

describe.skipIf(!pythonHas(['transformers', 'jinja2'], 'chat templates of transformers'))(
  'transformers',
  () => {
    it('still renders the stored prompts', { timeout: 120_000 }, () => {
      const place = mkdtempSync(join(tmpdir(), 'switchyard-templates-'));
      const out = join(place, 'expected.json');
      runPython('scripts/reference/chat_templates.py', [out]);
      expect(readJson(out)).toEqual(expected);
      rmSync(place, { recursive: true });
    });
  },
);
