import { SwitchyardError } from './errors.js';

/** Formats that weights have in files, in the order of native/formats/format.h. f8_e4m3 has its scales in a tensor apart. */
export const STORED_FORMATS = [
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
  'iq4_nl',
  'iq4_xs',
  'mxfp4',
  'tq1_0',
  'tq2_0',
  'f8_e4m3',
] as const;
/**
 * Formats that exist packed only, made by quantising. int8 has one scale a row, the others one for 64 or 128 values of
 * a row. In groups of 32 the same is q8_0 and q4_0.
 */
export const PACKED_FORMATS = ['int8', 'int8_g64', 'int8_g128', 'int4_g64', 'int4_g128'] as const;
export const WEIGHT_FORMATS = [...STORED_FORMATS, ...PACKED_FORMATS] as const;
export type StoredFormat = (typeof STORED_FORMATS)[number];
export type WeightFormat = (typeof WEIGHT_FORMATS)[number];

/** Formats that values can be quantised to. */
export const QUANTIZER_FORMATS = ['q8_0', 'q4_0', 'q4_1', ...PACKED_FORMATS] as const;

export const isWeightFormat = (name: string): name is WeightFormat =>
  (WEIGHT_FORMATS as readonly string[]).includes(name);
export const isStoredFormat = (name: string): name is StoredFormat =>
  (STORED_FORMATS as readonly string[]).includes(name);
/** Whether a row's bytes in a file hold all of the row. */
export const hasStoredRows = (format: WeightFormat): format is StoredFormat =>
  isStoredFormat(format) && format !== 'f8_e4m3';
/** Whether values are stored in blocks of small integers with scales. */
export const isQuantized = (format: WeightFormat): boolean =>
  !['f32', 'f16', 'bf16', 'f8_e4m3'].includes(format);

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
