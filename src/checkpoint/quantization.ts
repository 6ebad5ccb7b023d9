import type { Place } from './checked.js';
import type { JsonObject } from './json-file.js';

/** How config.json says that the weights of a folder are quantised; the tensors show which of them are. */
export interface Quantization {
  /** mxfp4: codes and exponents of transformers (mxfp4.ts). float8: FP8 E4M3 with scales apart (float8.ts). */
  readonly method: 'mxfp4' | 'float8';
  /** float8: rows and columns that share a scale; null: a whole matrix or a row of it. */
  readonly block: readonly [number, number] | null;
}

const METHODS = ['mxfp4', 'fp8', 'fbgemm_fp8', 'compressed-tensors'];

/**
 * `quantization_config` of config.json. What it says of activations is passed over: rounding them is a choice of speed, which
 * loading has its own option for.
 * @throws SwitchyardError ERR_UNSUPPORTED for other methods and formats, ERR_FORMAT for a malformed one
 */
export function readQuantization(config: JsonObject, file: Place): Quantization | null {
  const stated = config.quantization_config;
  if (stated === undefined || stated === null) return null;
  const place = file.at('quantization_config');
  const q = objectOf(stated, place);
  switch (q.quant_method) {
    case 'mxfp4':
      return { method: 'mxfp4', block: null };
    case 'fp8':
      if ((q.fmt ?? 'e4m3') !== 'e4m3') throw place.unsupported(`fmt ${text(q.fmt)}`, 'e4m3');
      return { method: 'float8', block: blockOf(q.weight_block_size, place) };
    case 'fbgemm_fp8':
      return { method: 'float8', block: null };
    case 'compressed-tensors':
      return { method: 'float8', block: compressedBlock(q, place) };
    default:
      throw place.unsupported(
        `quant_method ${text(q.quant_method)}`,
        METHODS.join(', '),
        'use a checkpoint in floats, or a GGUF file',
      );
  }
}

/** The one block size of all groups of layers (compressed-tensors: config_groups, each with its weights). */
function compressedBlock(q: JsonObject, place: Place): Quantization['block'] {
  let block: Quantization['block'] = null;
  for (const group of Object.values(objectOf(q.config_groups, place))) {
    const weights = objectOf(objectOf(group, place).weights, place);
    const { num_bits: bits, type, strategy, symmetric } = weights;
    const known = ['tensor', 'channel', 'block'].includes(strategy as string);
    if (bits !== 8 || type !== 'float' || !known || symmetric === false)
      throw place.unsupported(
        `weights ${text(weights)}`,
        'floats of 8 bits with a scale for a tensor, channel or block',
      );
    const own = strategy === 'block' ? blockOf(weights.block_structure, place) : null;
    if (block !== null && own !== null && text(block) !== text(own))
      throw place.unsupported(`blocks of ${text(block)} and ${text(own)}`, 'one size of blocks');
    block ??= own;
  }
  return block;
}

function blockOf(size: unknown, place: Place): Quantization['block'] {
  if (size === undefined || size === null) return null;
  const isPair = Array.isArray(size) && size.length === 2;
  if (!isPair || !size.every((n) => Number.isSafeInteger(n) && (n as number) > 0))
    throw place.format(`a block size of ${text(size)}`, 'two whole numbers above 0');
  return size as [number, number];
}

function objectOf(value: unknown, place: Place): JsonObject {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
  throw place.format(text(value), 'an object');
}

const text = (value: unknown): string => (JSON.stringify(value) ?? 'nothing').slice(0, 200);
