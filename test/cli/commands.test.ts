import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildProgram } from '../../src/cli/program.js';
import { SwitchyardError } from '../../src/core/errors.js';
import { loadLanguageModel } from '../../src/generate/handles/load-model.js';
import { jsonOf, runCli } from '../helpers/cli.js';
import { fixturesFolder } from '../helpers/fixtures.js';

const fixture = (name: string): string => join(fixturesFolder ?? '', name);
const mixtral = fixture('mixtral');
const llama = fixture('llama');
const short = ['--prompt', 'the cat', '--max-tokens', '6', '--ignore-eos'];
const ESCAPE = '\u001b';

describe('mistakes', () => {
  const cases: [string, string[], RegExp, RegExp][] = [
    [
      'an unknown option names the nearest',
      ['generate', '--max-token', '3'],
      /unknown option '--max-token'/,
      /did you mean --max-tokens\?/,
    ],
    [
      'an unknown command names the nearest',
      ['generat'],
      /unknown command 'generat'/,
      /did you mean generate\?/,
    ],
    ['an option without a value', ['generate', '--prompt'], /without a value/, /generate --help/],
    ['too many arguments', ['inspect', 'a', 'b'], /\[inspect\] got arguments/, /inspect --help/],
    [
      'an odd layout',
      ['generate', '--json-layout', 'wide'],
      /\[--json-layout\] got 'wide', expected .*free.*line/,
      /^$/,
    ],
    [
      'an echo that nobody sees',
      ['generate', '--model', 'x', '--prompt', 'x', '--echo'],
      /--echo without --json/,
      /^$/,
    ],
    ['no number', ['generate', '--top-k', 'x'], /\[--top-k\] got 'x', expected a whole number/, /^$/],
    ['a number out of range', ['generate', '--top-p', '1.5'], /from 0 to 1/, /^$/],
    ['a misspelled dtype', ['generate', '--dtype', 'bf-16x'], /\[--dtype\] got 'bf-16x'/, /bf16/],
    ['no model', ['generate', '--prompt', 'x'], /\[generate\] got no model, expected --model PATH/, /GGUF/],
    ['no model for start', ['start'], /\[start\] got no model/, /npm start -- --model PATH/],
    ['no path to inspect', ['inspect'], /\[inspect\] got no model/, /SWITCHYARD_MODEL/],
    ['a path without a model', ['inspect', '/nowhere/at/all'], /\/nowhere\/at\/all/, /^/],
    ['a file that is not there', ['inspect', 'no.gguf'], /\[no.gguf\] got no such file or folder/, /^$/],
    ['no grammar', ['generate', '--grammar', '/no/g'], /\[--grammar\] got '\/no\/g' \(ENOENT\)/, /^$/],
    ['a context for vectors', ['embed', '--context', '9'], /unknown option '--context'/, /^/],
    ['an upcycling that makes no sense', ['routes', '--upcycle', '2,8'], /E ≥ K/, /^$/],
  ];

  it.each(cases)('%s', async (_, args, message, hint) => {
    const error = await buildProgram()
      .parseAsync(args, { from: 'user' })
      .then(
        () => undefined,
        (thrown: SwitchyardError) => thrown,
      );
    expect(error).toBeInstanceOf(SwitchyardError);
    expect(error?.message).toMatch(/^\[.+\] got .+, expected .+/);
    expect(error?.message).toMatch(message);
    expect(error?.hint ?? '').toMatch(hint);
  });

  it('go to stderr for people, and as one object to stdout for programs', async () => {
    const args = ['generate', '--max-token', '3'];
    const [people, program] = await Promise.all([runCli(args), runCli([...args, '--json'])]);
    const [message, hint] = [
      "[generate] got unknown option '--max-token', expected a known one",
      'did you mean --max-tokens?',
    ];
    expect(people).toEqual({ code: 1, stdout: '', stderr: `error: ${message}\nhint: ${hint}\n` });
    expect(program).toMatchObject({ code: 1, stderr: '' });
    expect(jsonOf(program)).toEqual({ error: { code: 'ERR_OPTION', message, hint } });
  });

  it.each([
    ['SWITCHYARD_DTYPE', 'f33', 'one of auto'],
    ['SWITCHYARD_KV_CACHE', 'q4', 'one of auto'],
    ['SWITCHYARD_DEVICE', 'gpu', 'auto, cpu, cuda or cuda:N'],
    ['SWITCHYARD_THREADS', 'two', 'a whole number from 1 to 1024'],
    ['SWITCHYARD_CONTEXT', '0', 'a whole number from 1'],
  ])('in the variable %s are errors that name it', async (name, value, expected) => {
    const run = await runCli(['generate', '--prompt', 'x'], { env: { [name]: value } });
    expect(run.code).toBe(1);
    expect(run.stderr).toContain(`error: [${name}] got '${value}', expected ${expected}`);
  });

  it('are none where a variable is set to nothing', async () => {
    const env = { SWITCHYARD_DTYPE: '', SWITCHYARD_THREADS: '', SWITCHYARD_MODEL: '' };
    const run = await runCli(['generate', '--prompt', 'x'], { env });
    expect(run.stderr).toMatch(/got no model, expected --model PATH/);
  });
});

describe('help and version', () => {
  it.each([[['--help']], [['generate', '--help']], [['--version']]])('%j', async (args) => {
    const run = await runCli(args);
    expect(run).toMatchObject({ code: 0, stderr: '' });
    expect(run.stdout).toMatch(/^(Usage: switchyard|\d+\.\d+\.\d+\n)/);
  });
});

describe('doctor', () => {
  it('finds this machine well and tests every instruction set', async () => {
    const run = await runCli(['doctor', '--json'], { env: { SWITCHYARD_THREADS: '1' } });
    const report = jsonOf(run) as {
      tiers: string[];
      selfTest: { tier: string; ok: boolean }[];
      env: { name: string; value: string }[];
    };
    expect(report).toMatchObject({ ok: true, problems: [], threads: 1, node: process.versions.node });
    expect(report.env).toMatchObject([{ name: 'SWITCHYARD_THREADS', value: '1' }]);
    expect(new Set(report.selfTest.map(({ tier }) => tier))).toEqual(new Set(report.tiers));
    expect(report.selfTest.every(({ ok }) => ok)).toBe(true);
    expect(run.code).toBe(0);
  });

  it('says its verdict to people', async () => {
    const run = await runCli(['doctor']);
    expect(run.stdout).toMatch(/verdict: all is well\n$/);
    expect(run.code).toBe(0);
  });

  it.each([
    [{ SWITCHYARD_ISA: 'mmx' }, /SWITCHYARD_ISA=mmx/],
    [{ SWITCHYARD_TREADS: '2' }, /did you mean 'SWITCHYARD_THREADS'/],
  ])('tells what is wrong with %j', async (env, expected) => {
    const run = await runCli(['doctor'], { env });
    expect(run.stdout).toMatch(expected);
    expect(run.stdout).toMatch(/verdict: 1 problem/);
    expect(run.code).toBe(1);
  });
});

describe.skipIf(!fixturesFolder)('with a model', () => {
  describe('inspect', () => {
    it('prints one object', async () => {
      const run = await runCli(['inspect', mixtral, '--context', '64', '--json']);
      expect(run.code).toBe(0);
      expect(jsonOf(run)).toMatchObject({
        kind: 'huggingface',
        config: { family: 'mixtral', nLayers: 3, dModel: 32 },
        moe: { nExperts: 8, topK: 2, sparseLayers: [0, 1, 2], gating: 'softmax-top-k' },
        parameters: { total: 108512, active: 53216 },
        agree: true,
        formats: [{ format: 'f32', tensors: 96, parameters: 108512, bytes: 4 * 108512 }],
        cacheBytesPerToken: 384,
        contextLength: 64,
        memory: { cache: 64 * 384 },
      });
    });

    it('prints tables without colours into a pipe', async () => {
      const { stdout, code } = await runCli(['inspect', mixtral]);
      expect(code).toBe(0);
      expect(stdout).not.toContain(ESCAPE);
      for (const text of ['Config', 'Formats', '8, 2 for a token', 'config and tensors agree'])
        expect(stdout).toContain(text);
    });
  });

  describe('generate', () => {
    it('prints one object, the same text as without --json, the same again', async () => {
      const json = await runCli(['generate', '--model', mixtral, ...short, '--json']);
      expect(json).toMatchObject({ code: 0, stderr: '' });
      const answer = jsonOf(json) as {
        text: string;
        tokens: number[];
        finishReason: string;
        timings: object;
      };
      expect(Object.keys(answer)).toEqual(['text', 'tokens', 'finishReason', 'timings']);
      expect(answer.tokens).toHaveLength(6);
      expect(answer.finishReason).toBe('length');
      expect(answer.timings).toMatchObject({ newTokens: 6 });

      const people = await runCli(['generate', ...short], { env: { SWITCHYARD_MODEL: mixtral } });
      expect(people).toMatchObject({ code: 0, stderr: '', stdout: `${answer.text}\n` });
    });

    it('reads the prompt from stdin', async () => {
      const args = ['--model', llama, '--max-tokens', '4', '--json'];
      const [one, other] = await Promise.all([
        runCli(['generate', ...args, '--prompt', 'a cat'], {}),
        runCli(['generate', ...args, '--prompt', '-'], { input: 'a cat' }),
      ]);
      expect(jsonOf(other).tokens).toEqual(jsonOf(one).tokens);
    });

    it('draws by seed', async () => {
      const draw = async (seed: string): Promise<unknown> => {
        const sampling = [
          '--temperature',
          '2',
          '--top-k',
          '50',
          '--top-p',
          '0.99',
          '--repetition-penalty',
          '1.1',
        ];
        const run = await runCli([
          'generate',
          '--model',
          mixtral,
          ...short,
          ...sampling,
          '--seed',
          seed,
          '--json',
        ]);
        return jsonOf(run).tokens;
      };
      const [a, again, b] = await Promise.all([draw('1'), draw('1'), draw('2')]);
      expect(again).toEqual(a);
      expect(b).not.toEqual(a);
    });

    it('follows an expression, within filters and penalties', async () => {
      const more = ['--regex', '[a-f]{4}', '--min-p', '0.01', '--presence-penalty', '-1', '--stop', 'never'];
      const run = await runCli(['generate', '--model', llama, '--prompt', 'a', '--json', ...more]);
      expect(jsonOf(run).text).toMatch(/^[a-f]{4}$/);
    });

    it('writes JSON of a schema on one line', async () => {
      const file = join(mkdtempSync(join(tmpdir(), 'switchyard-')), 'schema.json');
      writeFileSync(
        file,
        JSON.stringify({ type: 'array', items: { enum: ['a', 'b'] }, minItems: 3, maxItems: 3 }),
      );
      const more = ['--json-schema', file, '--json-layout', 'line', '--max-tokens', '40'];
      const run = await runCli(['generate', '--model', llama, '--prompt', 'a', '--json', ...more]);
      expect(jsonOf(run).text).toMatch(/^\["[ab]", "[ab]", "[ab]"\]$/);
    });

    it('echoes the prompt', async () => {
      const echo = ['generate', '--model', llama, '--prompt', 'the cat', '--max-tokens', '0', '--echo'];
      const { prompt, tokens } = jsonOf(await runCli([...echo, '--json'])) as unknown as {
        prompt: { text: string; tokens: number[]; logprobs: (number | null)[] };
        tokens: number[];
      };
      expect(tokens).toEqual([]);
      expect(prompt.text).toContain('the cat');
      expect(prompt.logprobs).toHaveLength(prompt.tokens.length);
      expect(prompt.logprobs[0]).toBeNull();
      expect(prompt.logprobs.slice(1).every((x) => typeof x === 'number' && x < 0)).toBe(true);
    });

    it('names a schema file that is no JSON', async () => {
      const run = await runCli(['generate', '--model', llama, '--prompt', 'a', '--json-schema', 'README.md']);
      expect(run.code).not.toBe(0);
      expect(run.stderr).toMatch(/README\.md.*JSON/);
    });

    it('ends before a stop text', async () => {
      const run = async (...more: string[]) =>
        jsonOf(
          await runCli([
            'generate',
            '--model',
            llama,
            '--prompt',
            'the cat',
            '--max-tokens',
            '20',
            '--json',
            ...more,
          ]),
        );
      const { text } = (await run()) as { text: string };
      const stop = text.slice(5, 8);
      const stopped = await run('--stop', 'no such text here', '--stop', stop);
      expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finishReason: 'stop' });
    });

    it('refuses a prompt longer than the context', async () => {
      const run = await runCli([
        'generate',
        '--model',
        llama,
        '--prompt',
        'the cat sat',
        '--context',
        '2',
        '--json',
      ]);
      expect(run.code).toBe(1);
      expect(jsonOf(run)).toMatchObject({ error: { code: 'ERR_CONTEXT_LENGTH', hint: expect.any(String) } });
    });

    it('stops at Ctrl-C with what is there', async () => {
      const long = ['--prompt', 'the', '--context', '200000', '--max-tokens', '190000', '--ignore-eos'];
      const run = await runCli(['generate', '--model', mixtral, ...long], { interruptAtFirstText: true });
      expect(run.code).toBe(130);
      expect(run.stdout.length).toBeGreaterThan(1);
      expect(run.stdout.endsWith('\n')).toBe(true);
      expect(run.stderr).toBe('');
    });
  });

  describe('chat', () => {
    it('needs a template', async () => {
      const run = await runCli(['chat', '--model', llama, '--message', 'hi', '--json']);
      expect(run.code).toBe(1);
      expect(jsonOf(run)).toMatchObject({ error: { code: 'ERR_TEMPLATE' } });
    });

    describe('with one', () => {
      const folder = mkdtempSync(join(tmpdir(), 'switchyard-chat-'));
      beforeAll(() => {
        cpSync(llama, folder, { recursive: true });
        const template = '{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:';
        writeFileSync(join(folder, 'chat_template.jinja'), template);
      });
      afterAll(() => rmSync(folder, { recursive: true }));
      const chat = ['chat', '--model', folder, '--max-tokens', '5', '--ignore-eos', '--system', 'be kind'];

      it('answers one message as generate continues its prompt', async () => {
        const prompt = 'system: be kind\nuser: hello\nassistant:';
        await using model = await loadLanguageModel(folder);
        const ids = model.tokenizer.encode(prompt, { addSpecialTokens: false });
        const want = await model.generate(ids, { maxTokens: 5, ignoreEos: true }).result();
        expect(jsonOf(await runCli([...chat, '--message', 'hello', '--json'])).tokens).toEqual(want.tokens);
      });

      it('keeps the conversation until it is reset', async () => {
        const input = 'hello\n\nhello\n/reset\nhello\n/exit\nhello\n';
        const { stdout, stderr, code } = await runCli(chat, { input });
        expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
        const { text } = jsonOf(await runCli([...chat, '--message', 'hello', '--json'])) as { text: string };
        expect(stdout.startsWith(`${text}\n`)).toBe(true);
        expect(stdout.endsWith(`\n${text}\n`)).toBe(true);
        const second = stdout.slice(text.length + 1, -(text.length + 2));
        expect(second).not.toBe(text);
        expect(second).not.toBe('');
      });

      it('forgets the oldest turns when the context is full', async () => {
        const lines = `${'hello\n'.repeat(6)}`;
        const run = await runCli([...chat, '--context', '60'], { input: lines });
        expect(run).toMatchObject({ stderr: '', code: 0 });
      });
    });

    it('has no object for a whole conversation', async () => {
      const run = await runCli(['chat', '--model', llama, '--json']);
      expect(jsonOf(run)).toMatchObject({
        error: { code: 'ERR_OPTION', message: expect.stringContaining('--message') },
      });
    });
  });

  describe('routes', () => {
    const text = ['--text', 'the cat sat on the mat'];
    interface Routes {
      nExperts: number;
      tokens: { id: number; text: string }[];
      layers: {
        layer: number;
        experts: number[][];
        weights: number[][];
        tokensPerExpert: number[];
        entropy: number;
        cv: number;
      }[];
    }

    it('tells which experts each token met', async () => {
      const routes = jsonOf(
        await runCli(['routes', '--model', mixtral, ...text, '--json']),
      ) as unknown as Routes;
      expect(routes.layers.map(({ layer }) => layer)).toEqual([0, 1, 2]);
      for (const { experts, weights, tokensPerExpert } of routes.layers) {
        expect(experts).toHaveLength(routes.tokens.length);
        const counts = new Array(8).fill(0);
        for (const id of experts.flat()) counts[id]++;
        expect(tokensPerExpert).toEqual(counts);
        for (const pair of weights) expect(pair[0] + pair[1]).toBeCloseTo(1, 5);
      }
    });

    it('prints a table and bars without colours into a pipe', async () => {
      const { stdout, code } = await runCli(['routes', '--model', mixtral, ...text, '--bars']);
      expect(code).toBe(0);
      expect(stdout).not.toContain(ESCAPE);
      expect(stdout).toMatch(/^token +layer 0 +layer 1 +layer 2$/m);
      expect(stdout).toMatch(/^layer {2}0 {2}\S{8} {2}entropy \d\.\d\d of 3\.00 bits {2}cv \d\.\d\d$/m);
      expect(stdout).toMatch(/█/);
    });

    it('asks for experts, and makes them', async () => {
      const dense = await runCli(['routes', '--model', llama, ...text, '--json']);
      expect(jsonOf(dense)).toMatchObject({ error: { hint: expect.stringContaining('--upcycle 8,2') } });
      const run = await runCli(['routes', '--model', llama, ...text, '--upcycle', '4,1', '--json']);
      const routes = jsonOf(run) as unknown as Routes;
      expect(routes.nExperts).toBe(4);
      expect(routes.layers).toHaveLength(3);
    });
  });

  describe('start', () => {
    it('streams text and sums up the routing', async () => {
      const { stdout, code } = await runCli([
        'start',
        '--model',
        mixtral,
        '--max-tokens',
        '8',
        '--ignore-eos',
      ]);
      expect(code).toBe(0);
      expect(stdout).toMatch(/8 experts, 2 for a token/);
      expect(stdout).toMatch(/Once upon a time/);
      expect(stdout).toMatch(/8 new tokens/);
      expect(stdout.match(/^layer +\d/gm)).toHaveLength(3);
      expect(stdout).not.toContain(ESCAPE);
    });

    it('shows a dense model as a mixture with the same text', async () => {
      const run = await runCli(['start', '--model', llama, '--max-tokens', '8', '--dtype', 'f32', '--json']);
      expect(run.code).toBe(0);
      const shown = jsonOf(run) as { upcycled: { sameTokens: boolean; routing: unknown[] } };
      expect(shown).toMatchObject({ routing: null, upcycled: { nExperts: 8, topK: 2, sameTokens: true } });
      expect(shown.upcycled.routing).toHaveLength(3);
    });
  });
});
