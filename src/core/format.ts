import { SwitchyardError } from './errors.js';

/** Formats of packed weights, in the order of native/formats/format.h, with the bits one value takes in a file. */
export const WEIGHT_FORMATS = [
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q2_k',
  'q3_k',
  'q4_k',
  'q5_k',
  'q6_k',
] as const;
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

export const isWeightFormat = (name: string): name is WeightFormat =>
  (WEIGHT_FORMATS as readonly string[]).includes(name);
/** Whether values are stored in blocks of small integers with scales. */
export const isQuantized = (format: WeightFormat): boolean => format.startsWith('q');

/** How linear layers compute: f32 is exact; bf16 and int8 round the activations for speed. */
export const COMPUTE_MODES = ['f32', 'bf16', 'int8'] as const;
export type ComputeMode = (typeof COMPUTE_MODES)[number];

/** How a cache stores keys and values. int8: codes, and a scale for each key and each value of a head. */
export const KV_TYPES = ['f32', 'f16', 'bf16', 'int8'] as const;
export type KvType = (typeof KV_TYPES)[number];
/** What is exact stays exact; where the weights or activations are rounded already, 16 bits are enough. */
export const automaticKvType = (compute: ComputeMode): KvType => (compute === 'f32' ? 'f32' : 'f16');
/** Bytes that one key or value of `headDim` channels takes. */
export const kvBytes = (type: KvType, headDim: number): number =>
  type === 'int8' ? headDim + 4 : (type === 'f32' ? 4 : 2) * headDim;

export function computeCode(mode: ComputeMode): number {
  const code = COMPUTE_MODES.indexOf(mode);
  if (code < 0)
    throw new SwitchyardError('ERR_OPTION', `[compute] got '${mode}', expected ${COMPUTE_MODES.join(', ')}`);
  return code;
}
