import { describe, expect, it } from 'vitest';
import { ChatTemplate, type ChatTemplateOptions } from '../../src/text/chat-template.js';

const user = [{ role: 'user', content: 'Hi' }];
const render = (source: string, options: ChatTemplateOptions = {}) =>
  new ChatTemplate(source, options).render(user);

describe('ChatTemplate', () => {
  it('renders messages with the generation prompt, special tokens and tools', () => {
    const template = new ChatTemplate(
      "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m['content'] | trim }}{% endfor %}" +
        '{% if tools %}{{ tools | tojson }}{% endif %}{% if add_generation_prompt %}<assistant>{% endif %}',
      { specialTokens: { bos_token: '<s>' } },
    );
    expect(template.render([{ role: 'user', content: ' Hi ' }])).toBe('<s><user>Hi<assistant>');
    expect(template.render(user, { addGenerationPrompt: false })).toBe('<s><user>Hi');
    const tools = [{ name: 'f', parameters: { x: 1 } }];
    expect(template.render(user, { tools })).toBe(
      '<s><user>Hi[{"name": "f", "parameters": {"x": 1}}]<assistant>',
    );
  });

  it('picks a named template', () => {
    const template = new ChatTemplate([
      { name: 'default', template: 'plain' },
      { name: 'tool_use', template: 'tools' },
    ]);
    expect(template.render(user)).toBe('plain');
    expect(template.render(user, { tools: [] })).toBe('plain');
    expect(template.render(user, { tools: [{}] })).toBe('tools');
    expect(new ChatTemplate([{ name: 'rag', template: 'x' }]).render(user)).toBe('x');
  });

  it.each<[string, string, string]>([
    [
      'names that are not given',
      '{{ tools is none }},{{ documents is none }},{{ other is defined }}',
      'True,True,False',
    ],
    ['an empty list has no first', "{{ [] | first | default('x') }}{{ ([] | last) is defined }}", 'xFalse'],
    ['ranges', '{{ range(3) | join }}{{ range(5, 1, -2) | join }}', '01253'],
    [
      'methods of strings',
      "{{ 'a-b'.replace('-', '+') }}{{ 'a b'.split() | join('|') }}{{ 'x'.upper() }}",
      'a+ba|bX',
    ],
    ['a method under another name', "{% set f = 'aXa'.replace %}{{ f('a', 'bb') }}", 'bbXbb'],
    ['filters with arguments', "{{ 'aa' | replace('a', 'b') }}{{ 'x\\ny' | indent(2) }}", 'bbx\n  y'],
    ['a filter block', '{% filter upper %}a{{ "b" }}{% endfilter %}', 'AB'],
    ['JSON with indent', '{{ {"a": [1]} | tojson(indent=2) }}', '{\n  "a": [\n    1\n  ]\n}'],
    ['loops with a condition', '{% for i in range(4) if i is odd %}{{ i }}{% endfor %}', '13'],
    [
      'namespaces',
      '{% set n = namespace(x=0) %}{% for i in range(3) %}{% set n.x = n.x + i %}{% endfor %}{{ n.x }}',
      '3',
    ],
    ['macros', '{% macro f(a, b=2) %}{{ a }}{{ b }}{% endmacro %}{{ f(1) }}{{ f(3, b=4) }}', '1234'],
  ])('%s', (_name, source, text) => {
    expect(render(source)).toBe(text);
  });

  it('tells the time it is given', () => {
    const now = new Date(Date.UTC(2024, 6, 5, 15, 4, 9));
    const source = "{{ strftime_now('%d %b %Y, %A, %-d %B %H:%M:%S %I%p %j %q %%') }}";
    expect(render(source, { now, timeZone: 'utc' })).toBe(
      '05 Jul 2024, Friday, 5 July 15:04:09 03PM 187 %q %',
    );
    expect(render("{{ strftime_now('%Y') }}")).toMatch(/^\d{4}$/);
  });

  it('takes variables from the list only', () => {
    const template = new ChatTemplate('{{ enable_thinking }}');
    expect(template.render(user, { variables: { enable_thinking: false } })).toBe('False');
    for (const name of ['messages', 'bos_token', 'raise_exception', '__proto__x']) {
      const act = () => template.render(user, { variables: { [name]: 1 } });
      expect(act).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }));
    }
    const own = new ChatTemplate('{{ mood }}', { allowVariables: ['mood'] });
    expect(own.render(user, { variables: { mood: 'good' } })).toBe('good');
    expect(() => own.render(user, { variables: { enable_thinking: true } })).toThrow(/one of mood/);
  });

  it('shows nothing of the host', () => {
    const message = {
      role: 'user',
      content: 'x',
      secret: () => 'called',
      get trap() {
        return { toJSON: () => 'json' };
      },
    };
    const source = '{{ messages[0].secret is defined }} {{ messages[0].trap }}';
    expect(new ChatTemplate(source).render([message])).toBe('False json');
    const paths = [
      'constructor',
      '__proto__',
      'prototype',
      'toString',
      'hasOwnProperty',
      '__class__',
      'builtins',
      'value',
    ];
    for (const path of paths) {
      for (const object of [
        'messages',
        'messages[0]',
        "''",
        '1',
        'range',
        'raise_exception',
        '{}',
        '[]',
        'namespace()',
      ]) {
        expect(render(`{{ ${object}.${path} is defined }}{{ ${object}['${path}'] is defined }}`), path).toBe(
          'FalseFalse',
        );
      }
    }
    for (const name of ['process', 'globalThis', 'require', 'this', 'self', 'cycler', 'lipsum']) {
      expect(render(`{{ ${name} is defined }}`)).toBe('False');
    }
  });
});

describe('errors', () => {
  it.each<[string, string, RegExp]>([
    ['a refusal', "{{ raise_exception('roles must alternate') }}", /refusal: roles must alternate/],
    ['broken syntax', '{% for x in %}', /error:/],
    ['an unknown filter', "{{ 'x' | nosuch }}", /nosuch/],
    ['an operation on none', '{{ 1 + none }}', /null values/],
    ['a call of no function', '{{ messages() }}', /not a function/],
  ])('%s', (_name, source, message) => {
    const act = () => render(source);
    expect(act).toThrow(message);
    expect(act).toThrow(expect.objectContaining({ code: 'ERR_TEMPLATE' }));
  });

  it.each<[string, unknown]>([
    ['no list', 'Hi'],
    ['numbers that JSON lacks', [{ role: 'user', content: 1n }]],
    [
      'a cycle',
      (() => {
        const message: Record<string, unknown> = { role: 'user' };
        message.content = [message];
        return [message];
      })(),
    ],
    ['too deep', [{ role: 'user', content: Array.from({ length: 70 }).reduce((inner) => [inner], 'x') }]],
  ])('messages: %s', (_name, messages) => {
    const act = () => new ChatTemplate('{{ messages }}').render(messages as never);
    expect(act).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }));
  });
});

describe('hostile templates end with a typed error', () => {
  const double = (steps: number, statement: string) => statement.repeat(steps);
  it.each<[string, string]>([
    ['nested loops', '{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}'],
    ['empty loops', '{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}'],
    ['a long range', '{{ range(1000000000) | length }}'],
    ['a range of fractions', '{{ range(0, 1, 0.0000001) | length }}'],
    ['a doubled string', `{% set s = 'xxxxxxxx' %}${double(40, '{% set s = s ~ s %}')}{{ s | length }}`],
    ['a doubled list', `{% set s = [1, 2] %}${double(40, '{% set s = s + s %}')}{{ s | length }}`],
    [
      'a list of itself twice, written out',
      `{% set s = ['x'] %}${double(60, '{% set s = [s, s] %}')}{{ s }}`,
    ],
    [
      'the same in a map',
      `{% set s = {'a': 1} %}${double(60, "{% set s = {'a': s, 'b': s} %}")}{{ s | tojson }}`,
    ],
    [
      'the same through namespaces',
      Array.from({ length: 60 }, (_, i) => `{% set n${i} = namespace(x=0) %}`).join('') +
        Array.from({ length: 59 }, (_, i) => `{% set a${i} = [n${i}, n${i}] %}`).join('') +
        Array.from({ length: 59 }, (_, i) => `{% set n${i + 1}.x = a${i} %}`).join('') +
        '{{ a58 }}',
    ],
    ['a namespace in itself', '{% set n = namespace(x=0) %}{% set n.x = n %}{{ n }}'],
    [
      'a comparison that writes out',
      `{% set s = ['x'] %}${double(60, '{% set s = [s, s] %}')}{{ s == 'x' }}`,
    ],
    ['replace', `{% set s = 'a' %}${double(22, '{% set s = s ~ s %}')}{{ s.replace('a', s) | length }}`],
    [
      'replace as a filter',
      `{% set s = 'a' %}${double(22, '{% set s = s ~ s %}')}{{ s | replace('a', s) | length }}`,
    ],
    [
      'replace of nothing',
      `{% set s = 'a' %}${double(20, '{% set s = s ~ s %}')}{{ s.replace('', s) | length }}`,
    ],
    ['join', `{% set s = 'a' %}${double(22, '{% set s = s ~ s %}')}{{ range(99999) | join(s) | length }}`],
    ['indent', `{% set s = '\\n' %}${double(20, '{% set s = s ~ s %}')}{{ s | indent(100000000) | length }}`],
    ['indented JSON', '{{ [] | tojson(indent=500000000) }}'],
    ['split', `{% set s = '.' %}${double(22, '{% set s = s ~ s %}')}{{ s.split('.') | length }}`],
    ['a macro that calls itself', '{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}'],
    [
      'a macro that calls itself twice',
      '{% macro f(n) %}{% if n > 0 %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(99) }}',
    ],
    ['deep brackets', `{{ ${'('.repeat(100_000)}1${')'.repeat(100_000)} }}`],
    ['a long source', ' '.repeat((1 << 20) + 1)],
    [
      'long output',
      `{% set s = 'a' %}${double(20, '{% set s = s ~ s %}')}{% for i in range(9) %}{{ s }}{% endfor %}`,
    ],
  ])('%s', (_name, source) => {
    const act = () => render(source);
    expect(act).toThrow(expect.objectContaining({ code: 'ERR_TEMPLATE' }));
    // Stopped before the engine had to give up.
    expect(act).toThrow(/got (?!an error: Invalid (string|array) length)/);
  });

  it('by a budget of their own', () => {
    expect(() => render('{% for i in range(100) %}{{ i }}{% endfor %}', { budget: { steps: 50 } })).toThrow(
      /50 steps/,
    );
    expect(() => render("{{ 'abcdef' }}", { budget: { chars: 5 } })).toThrow(/5 characters/);
  });

  it('while long conversations pass', () => {
    const messages = Array.from({ length: 2000 }, (_, i) => ({
      role: i % 2 ? 'assistant' : 'user',
      content: 'word '.repeat(200),
    }));
    const template = new ChatTemplate(
      '{% for m in messages %}{% if loop.index0 > 0 and messages[loop.index0 - 1].role == m.role %}{{ raise_exception("x") }}{% endif %}' +
        "{{ '<' + m.role + '>' + m.content.strip() }}{% endfor %}",
    );
    expect(template.render(messages).length).toBeGreaterThan(2_000_000);
  });
});
