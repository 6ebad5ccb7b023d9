/** Which experts of a loaded decoder get places on its GPU: the rest stays with the host (moe/split-experts.ts). */
import type { NativeDevice } from '../../core/addon.js';
import type { Device } from '../../core/device.js';
import type { KvType } from '../../core/format.js';
import { Tensor } from '../../core/tensor.js';
import { Weight } from '../../core/weight.js';
import { cacheBytesPerToken } from '../../inspect/memory.js';
import { matricesOf, onDevice, type PackedExperts, SplitExperts } from '../../moe/split-experts.js';
import { KV_BLOCK } from '../../nn/kv-blocks.js';
import { cacheWidths, type DecoderConfig } from './config.js';
import { Decoder } from './decoder.js';
import type { ParameterMap } from './parameters.js';

export interface PlaceOptions {
  /** Experts of each layer that get a place for good; 'auto': as many as `free` bytes take. */
  readonly gpu: number | 'auto';
  /**
   * Bytes of all layers for places whose experts follow use: beside those of `gpu`, of those where it is 'auto'. null: none beside
   * a number, all of 'auto'.
   */
  readonly cacheBytes: number | null;
  /** Bytes of the GPU that experts may take; counts for 'auto' only. */
  readonly free: number;
  readonly signal?: AbortSignal | undefined;
}

/** Places of a layer, and how many of them keep their experts once use is known. */
export interface LayerPlaces {
  readonly places: number;
  readonly fixed: number;
}

export interface LayerSize {
  /** Of one expert. */
  readonly bytes: number;
  readonly experts: number;
}

/** How many experts of each layer `budget` bytes take: as many in one as in the other, the first layers one more. */
function spread(layers: readonly LayerSize[], budget: number): number[] {
  const places = layers.map(() => 0);
  let left = budget;
  for (let grew = true; grew; ) {
    grew = false;
    for (const [i, { bytes, experts }] of layers.entries()) {
      if ((places[i] as number) >= experts || bytes > left) continue;
      places[i] = (places[i] as number) + 1;
      left -= bytes;
      grew = true;
    }
  }
  return places;
}

/** The places of each layer. */
export function placesOf(
  layers: readonly LayerSize[],
  { gpu, cacheBytes, free }: Omit<PlaceOptions, 'signal'>,
): LayerPlaces[] {
  const cache = cacheBytes === null ? null : spread(layers, cacheBytes);
  const all = gpu === 'auto' ? spread(layers, free) : null;
  return layers.map(({ experts }, i) => {
    if (all) {
      const places = all[i] as number;
      return { places, fixed: cache ? Math.max(0, places - (cache[i] as number)) : 0 };
    }
    const fixed = Math.min(experts, gpu as number);
    return { places: Math.min(experts, fixed + (cache?.[i] ?? 0)), fixed };
  });
}

/** Of a GPU's memory: for intermediates of steps and what else the GPU is used for. */
const SPARE = 1 / 16;

/** Bytes of the GPU that experts may take once everything else of a model is there and the cache will be. */
export function freeForExperts(
  device: Device,
  config: DecoderConfig,
  { cacheTokens, kvCache }: { readonly cacheTokens: number; readonly kvCache: KvType },
): number {
  const { free, memory } = device.addon.openedDevice(device.pool as NativeDevice);
  const tokens = Math.ceil(cacheTokens / KV_BLOCK) * KV_BLOCK;
  return free - memory * SPARE - tokens * cacheBytesPerToken(cacheWidths(config), kvCache);
}

/**
 * The decoder with places for its experts, which were loaded with `expertsOnHost`. A layer whose experts all get one has them on
 * the GPU alone. The decoder given is used up: after a failure its weights are freed too.
 */
export async function placeExperts(
  decoder: Decoder,
  device: Device,
  options: PlaceOptions,
): Promise<Decoder> {
  const { config, contextLength } = decoder;
  const { signal } = options;
  const parameters = new Map(decoder.parameters);
  const splits = new Map<string, SplitExperts>();
  try {
    const layers = sparseLayers(parameters);
    const sizes = layers.map((layer) => sizeOf(device, layer));
    for (const [i, { places, fixed }] of placesOf(sizes, options).entries()) {
      const { prefix, names, experts, biases } = layers[i] as SparseLayer;
      if (places === sizes[i]?.experts) {
        for (const name of names) {
          const before = parameters.get(name) as Weight;
          parameters.set(name, await whole(device, before, signal));
          device.disposeWeight(before.native);
        }
        continue;
      }
      if (places > 0) {
        const biasOf = (name: string): Tensor | null => biases.get(`${prefix}${name}.bias`) ?? null;
        const all = { gateBias: biasOf('gate'), upBias: biasOf('up'), downBias: biasOf('down') };
        splits.set(prefix, await SplitExperts.make(device, experts, all, { places, fixed }, signal));
      }
      for (const [name, bias] of biases) parameters.set(name, await withHost(device, bias));
    }
    return new Decoder(config, parameters, contextLength, splits);
  } catch (error) {
    for (const split of splits.values()) split.dispose();
    for (const weight of parameters.values())
      if (weight instanceof Weight) device.disposeWeight(weight.native);
    throw error;
  }
}

interface SparseLayer {
  readonly prefix: string;
  readonly names: readonly string[];
  readonly experts: PackedExperts;
  /** [E, rows] of each matrix, by name; none where experts have none. */
  readonly biases: ReadonlyMap<string, Tensor>;
}

/** The same tensor in the host's memory: what runs there would copy it from the device at each step. */
async function withHost({ addon }: Device, t: Tensor): Promise<Tensor> {
  return Tensor.ofBuffer(addon.bufferFrom(await t.data()), t.dtype, t.shape);
}

/** Equal experts that share their bytes are as one. */
function sizeOf({ addon }: Device, { experts }: SparseLayer): LayerSize {
  const matrices = matricesOf(experts);
  const bytes = matrices.reduce((sum, { bytes }) => sum + bytes, 0);
  if (matrices.every(({ native }) => addon.weightInfo(native).repeated)) return { bytes, experts: 1 };
  const all = experts.up.experts;
  return { bytes: bytes / all, experts: all };
}

/** All experts of a weight on the device. */
async function whole(device: Device, weight: Weight, signal: AbortSignal | undefined): Promise<Weight> {
  const { addon } = device;
  const { experts, native } = weight;
  if (!addon.weightInfo(native).repeated) return onDevice(device, weight, [...Array(experts).keys()], signal);
  const one = await onDevice(device, weight, [0], signal);
  try {
    const all = addon.repeatWeight(one.native, experts);
    return new Weight(all, one.format, experts, one.rows, one.columns, one.bytes);
  } finally {
    addon.disposeWeight(one.native);
  }
}

const DOWN = 'experts.down.weight';

function sparseLayers(parameters: ParameterMap): SparseLayer[] {
  const layers: SparseLayer[] = [];
  for (const name of parameters.keys()) {
    if (!name.endsWith(DOWN)) continue;
    const prefix = name.slice(0, -'down.weight'.length);
    const names = ['gate', 'up', 'down']
      .map((of) => `${prefix}${of}.weight`)
      .filter((of) => parameters.has(of));
    const matrix = (of: string): Weight => parameters.get(`${prefix}${of}.weight`) as Weight;
    const gate = names.length === 3 ? matrix('gate') : null;
    const biases = new Map<string, Tensor>();
    for (const of of names.map((matrix) => matrix.replace(/weight$/, 'bias'))) {
      const bias = parameters.get(of);
      if (bias instanceof Tensor) biases.set(of, bias);
    }
    layers.push({ prefix, names, biases, experts: { gate, up: matrix('up'), down: matrix('down') } });
  }
  return layers;
}
