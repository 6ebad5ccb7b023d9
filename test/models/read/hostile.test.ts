// Broken and hostile model files: always a typed error that names the file and the tensor or key, never a crash.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { readGguf } from '../../../src/checkpoint/gguf.js';
import { type ErrorCode, SwitchyardError } from '../../../src/core/errors.js';
import type { LanguageModel } from '../../../src/generate/handles/language-model.js';
import { loadLanguageModel } from '../../../src/generate/handles/load-model.js';
import { temporaryFolder } from '../../helpers/checkpoint.js';
import { generator } from '../../helpers/random.js';
import {
  TINY_VOCABULARY,
  type TinyOptions,
  tinyConfig,
  tinyGguf,
  tinyTensors,
  writeTinyFolder,
} from '../../helpers/tiny-model.js';

const folder = temporaryFolder();
const TINY: TinyOptions = { nLayers: 1, dModel: 32, dFf: 32, nHeads: 2, nKvHeads: 1 };
const SPARSE: TinyOptions = { ...TINY, nExperts: 4 };

/**
 * Loads and runs two tokens: 'ran', or the error of loading, which must be typed and name the file. Running may end in a
 * typed error too: numbers in the file may be infinite or none.
 */
async function attempt(path: string): Promise<SwitchyardError | 'ran'> {
  let model: LanguageModel;
  try {
    model = await loadLanguageModel(path, { contextLength: 64 });
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    expect(error.message, `${error.code}: ${error.message}`).toContain(path);
    return error;
  }
  try {
    await model.generate([1, 2, 3], { maxTokens: 2 }).result();
  } catch (error) {
    if (!(error instanceof SwitchyardError)) throw error;
    expect(error.message).toMatch(/expected a finite number/);
  } finally {
    await model.dispose();
  }
  return 'ran';
}

async function refusal(path: string): Promise<SwitchyardError> {
  const result = await attempt(path);
  if (result === 'ran') throw new Error('it was loaded');
  return result;
}

describe.each([
  { title: 'dense', options: TINY },
  { title: 'sparse', options: SPARSE },
])('a GGUF file, $title', ({ title, options }) => {
  const whole = tinyGguf('q8_0', options);
  const path = join(folder, `${title}.gguf`);
  const put = (bytes: Uint8Array): string => {
    writeFileSync(path, bytes);
    return path;
  };
  const headerBytes = Math.min(...[...readGguf(put(whole)).tensors].map((entry) => entry.offset));

  it('runs as it is', async () => expect(await attempt(put(whole))).toBe('ran'));

  it('is refused when it is cut anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 32 }), async (length) => {
        const { code } = await refusal(put(whole.subarray(0, length)));
        expect(['ERR_FORMAT', 'ERR_IO']).toContain(code);
      }),
      { seed: 11, numRuns: 60 },
    );
  });

  it('runs or is refused with flipped bits in its header', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 8 * headerBytes - 1 }), async (bit) => {
        await attempt(put(flipped(whole, bit)));
      }),
      { seed: 12, numRuns: 300 },
    );
  });

  it('runs with flipped bits in its data', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 8 * headerBytes, max: 8 * whole.length - 1 }), async (bit) => {
        expect(await attempt(put(flipped(whole, bit)))).toBe('ran');
      }),
      { seed: 13, numRuns: 30 },
    );
  });

  it('runs with random data, infinities and NaN among it', async () => {
    const bytes = Buffer.from(whole);
    const next = generator(3);
    for (let at = headerBytes; at < bytes.length; at++) bytes[at] = Math.floor(256 * next());
    expect(await attempt(put(bytes))).toBe('ran');
  });
});

function flipped(bytes: Uint8Array, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
  return copy;
}

describe.each([
  { title: 'dense', options: TINY },
  { title: 'sparse', options: SPARSE },
])('a Hugging Face folder, $title', ({ title, options }) => {
  const path = join(folder, `hf-${title}`);
  const weights = join(path, 'model.safetensors');
  const configFile = join(path, 'config.json');
  const tensors = tinyTensors(options);
  let whole: Buffer;
  beforeAll(async () => {
    await writeTinyFolder(path, options);
    whole = readFileSync(weights);
  });
  const restore = (): Promise<string> => writeTinyFolder(path, options);

  it('runs as it is', async () => expect(await attempt(path)).toBe('ran'));

  it('is refused when its weights are cut anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: whole.length - 1 }), async (length) => {
        writeFileSync(weights, whole.subarray(0, length));
        const error = await refusal(path);
        expect(['ERR_FORMAT', 'ERR_IO']).toContain(error.code);
        expect(error.message).toContain('model.safetensors');
      }),
      { seed: 21, numRuns: 60 },
    );
    await restore();
  });

  it('runs or is refused with flipped bits in the header of its weights', async () => {
    const headerBytes = 8 + Number(whole.readBigUInt64LE());
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 8 * headerBytes - 1 }), async (bit) => {
        writeFileSync(weights, flipped(whole, bit));
        await attempt(path);
      }),
      { seed: 22, numRuns: 300 },
    );
    await restore();
  });

  it('runs or is refused with flipped bits in its config', async () => {
    const text = Buffer.from(JSON.stringify(tinyConfig(options)));
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 0, max: 8 * text.length - 1 }), async (bit) => {
        writeFileSync(configFile, flipped(text, bit));
        await attempt(path);
      }),
      { seed: 23, numRuns: 300 },
    );
    await restore();
  });

  it('is refused without any one of its tensors, by name', async () => {
    for (const gone of tensors) {
      await writeTinyFolder(path, options, { tensors: tensors.filter((t) => t !== gone) });
      const { code, message } = await refusal(path);
      expect(code).toBe('ERR_FORMAT');
      expect(message).toContain(gone.name);
    }
    await restore();
  });

  it('is refused with any one of its tensors of another shape, by name', async () => {
    for (const odd of tensors) {
      const [first = 0, ...rest] = odd.shape;
      const shape = [first + 1, ...rest];
      const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
      await writeTinyFolder(path, options, {
        tensors: tensors.map((t) => (t === odd ? { ...t, shape, data } : t)),
      });
      const { code, message } = await refusal(path);
      expect(code).toBe('ERR_FORMAT');
      expect(message).toContain(odd.name);
      expect(message).toContain(String(first + 1));
    }
    await restore();
  });

  it.each(['model.layers.0.mlp.gate_proj.lora_A.weight', 'model.layers.1.input_layernorm.weight'])(
    'is refused with the further tensor %s',
    async (name) => {
      const extra = { name, shape: [2], data: new Float32Array(2) };
      await writeTinyFolder(path, options, { tensors: [...tensors, extra] });
      const { code, message } = await refusal(path);
      expect(code).toBe('ERR_UNSUPPORTED');
      expect(message).toContain(name);
      await restore();
    },
  );

  it('is refused with a tensor of integers, by name', async () => {
    const [first, ...rest] = tensors as [(typeof tensors)[number], ...typeof tensors];
    const odd = { name: first.name, shape: first.shape, data: new Int32Array(first.data.length) };
    await writeTinyFolder(path, options, { tensors: [odd, ...rest] });
    const { code, message } = await refusal(path);
    expect(code).toBe('ERR_UNSUPPORTED');
    expect(message).toContain(first.name);
    await restore();
  });

  const numbers = Object.entries(tinyConfig(options)).flatMap(([key, value]) =>
    typeof value === 'number' ? [key] : [],
  );
  it.each(numbers)('is refused with %s that is no such number', async (key) => {
    for (const value of [
      '-1',
      '1.5',
      '1e999',
      '-1e999',
      '1e300',
      '9007199254740993',
      '"8"',
      '[]',
      '{}',
      'true',
    ]) {
      if (key === 'eos_token_id' && value === '[]') continue; // no end token
      if (
        (key === 'rms_norm_eps' || key === 'rope_theta') &&
        (value === '1.5' || value[0] === '1' || value[0] === '9')
      )
        continue; // any positive number
      const text = JSON.stringify({ ...tinyConfig(options), [key]: '@' }).replace('"@"', value);
      writeFileSync(configFile, text);
      const { code, message } = await refusal(path);
      expect(code, `${key} = ${value}: ${message}`).toBe('ERR_FORMAT');
      expect(message, `${key} = ${value}`).toContain(configFile);
      expect(message, `${key} = ${value}`).toContain(key);
    }
    await restore();
  });

  const contradictions: [Record<string, unknown>, ErrorCode, RegExp][] = [
    [{ num_key_value_heads: 3 }, 'ERR_FORMAT', /num_key_value_heads|3 key/],
    [{ num_key_value_heads: 2 }, 'ERR_FORMAT', /k_proj/],
    [{ num_attention_heads: 3 }, 'ERR_FORMAT', /q_proj/],
    [{ head_dim: 15 }, 'ERR_FORMAT', /head_dim|rotary|even/],
    [{ num_hidden_layers: 2 }, 'ERR_FORMAT', /model\.layers\.1/],
    [{ num_hidden_layers: 1024 }, 'ERR_FORMAT', /model\.layers\.1/],
    [{ vocab_size: TINY_VOCABULARY - 1 }, 'ERR_FORMAT', /embed_tokens/],
    [{ attention_bias: true }, 'ERR_FORMAT', /q_proj\.bias/],
    [{ hidden_act: 'swiglu_oai' }, 'ERR_FORMAT', /hidden_act.*swiglu_oai/],
    [{ eos_token_id: -3 }, 'ERR_FORMAT', /eos_token_id/],
    [{ model_type: 'llamas' }, 'ERR_UNSUPPORTED_ARCH', /llamas/],
    [{ model_type: 7 }, 'ERR_UNSUPPORTED_ARCH', /7/],
    [{ model_type: '__proto__' }, 'ERR_UNSUPPORTED_ARCH', /__proto__/],
    // Keys that change the mathematics of other families.
    [{ attention_multiplier: 0.5 }, 'ERR_UNSUPPORTED', /attention_multiplier/],
    [{ logits_scaling: 8 }, 'ERR_UNSUPPORTED', /logits_scaling/],
    [{ qk_layernorm: true }, 'ERR_UNSUPPORTED', /qk_layernorm/],
    [{ quantization_config: { quant_method: 'gptq' } }, 'ERR_UNSUPPORTED', /quantization_config/],
    [{ rope_scaling: { type: 'unheard', factor: 2 } }, 'ERR_FORMAT', /rope_type|type/],
    [{ rope_scaling: { type: 'linear', factor: -2 } }, 'ERR_FORMAT', /factor/],
    [{ rope_scaling: { type: 'linear', factor: 2, further: 1 } }, 'ERR_UNSUPPORTED', /further/],
    [{ rope_scaling: [] }, 'ERR_FORMAT', /rope_scaling/],
    [{ rope_scaling: 'linear' }, 'ERR_FORMAT', /rope_scaling/],
    [{ partial_rotary_factor: 2 }, 'ERR_FORMAT', /partial_rotary_factor|rotary/],
    [{ partial_rotary_factor: 1e-9 }, 'ERR_FORMAT', /partial_rotary_factor|rotary/],
    [{ tie_word_embeddings: 'yes' }, 'ERR_FORMAT', /tie_word_embeddings/],
    ...(options.nExperts
      ? ([
          [{ num_experts_per_tok: 5 }, 'ERR_FORMAT', /num_experts_per_tok|experts per token/],
          [{ num_local_experts: 5 }, 'ERR_FORMAT', /gate|experts\.4/],
          [{ num_local_experts: 65536 }, 'ERR_FORMAT', /gate|experts\.4/],
          [{ num_shared_experts: 1 }, 'ERR_UNSUPPORTED', /num_shared_experts/],
          [{ sliding_window: -4 }, 'ERR_FORMAT', /sliding_window/],
        ] as [Record<string, unknown>, ErrorCode, RegExp][])
      : ([[{ sliding_window: 4 }, 'ERR_UNSUPPORTED', /sliding_window/]] as [
          Record<string, unknown>,
          ErrorCode,
          RegExp,
        ][])),
  ];
  it.each(contradictions)('is refused with %j', async (change, code, message) => {
    writeFileSync(configFile, JSON.stringify({ ...tinyConfig(options), ...change }));
    const error = await refusal(path);
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
    await restore();
  });

  it.each<[string, string]>([
    ['config.json', '{"model_type": "llama"'],
    ['config.json', '[]'],
    ['config.json', '{"hidden_size": NaN}'],
    ['tokenizer.json', '{'],
    ['tokenizer.json', '{}'],
    ['tokenizer.json', '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}'],
    ['tokenizer_config.json', '[[[['],
    ['model.safetensors.index.json', '{"weight_map": {"a": "../../etc/passwd"}}'],
  ])('is refused or runs with %s = %s', async (name, text) => {
    const file = join(path, name);
    writeFileSync(file, text);
    const result = await attempt(path);
    if (name.endsWith('index.json')) expect(result).toBe('ran');
    else expect((result as SwitchyardError).message).toContain(file);
    const { rmSync } = await import('node:fs');
    rmSync(file);
    await restore();
  });
});

it('a path that is not there, an empty folder and a folder of other things are refused', async () => {
  const other = temporaryFolder();
  expect((await refusal(join(other, 'nothing'))).code).toBe('ERR_IO');
  expect((await refusal(other)).code).toBe('ERR_FORMAT');
  writeFileSync(join(other, 'config.json'), JSON.stringify(tinyConfig(TINY)));
  expect((await refusal(other)).code).toBe('ERR_IO');
  writeFileSync(join(other, 'model.bin'), Buffer.from('PK\x03\x04 and more bytes'));
  expect((await refusal(join(other, 'model.bin'))).code).toBe('ERR_FORMAT');
});
