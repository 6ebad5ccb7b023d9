/** Every parameter of a decoder under our own names: what packed files and reports call them. */
import { SwitchyardError } from '../core/errors.js';
import type { Tensor } from '../core/tensor.js';
import type { Role } from '../inspect/parameters.js';
import { MoELayer } from '../moe/layer.js';
import type { FeedForward } from '../nn/feed-forward.js';
import type { Linear, Matrix } from '../nn/linear.js';
import type { RmsNorm } from '../nn/norm.js';
import type { DecoderConfig } from './config.js';
import type { Decoder } from './decoder.js';
import { type LayerNames, type TensorNames, whole } from './family.js';

/** A bias has the name of its matrix with .bias for .weight. */
export function ourNames({ moe, qkNorm }: DecoderConfig): TensorNames {
  const sparse = new Set(moe?.layers);
  const layer = (i: number): LayerNames => {
    const at = (part: string): string => `layers.${i}.${part}.weight`;
    const block = sparse.has(i) ? 'experts' : 'feed_forward';
    return {
      attentionNorm: at('attention_norm'),
      q: at('attention.q'),
      k: at('attention.k'),
      v: at('attention.v'),
      o: at('attention.o'),
      ...(qkNorm === null ? {} : { qNorm: at('attention.q_norm'), kNorm: at('attention.k_norm') }),
      feedForwardNorm: at('feed_forward_norm'),
      ...(sparse.has(i) ? { router: at('router') } : {}),
      gate: whole(at(`${block}.gate`)),
      up: whole(at(`${block}.up`)),
      down: whole(at(`${block}.down`)),
    };
  };
  return { embedding: 'embedding.weight', finalNorm: 'final_norm.weight', head: 'head.weight', layer };
}

export interface MatrixPart {
  readonly name: string;
  readonly role: Role;
  readonly matrix: Matrix;
}
export interface VectorPart {
  readonly name: string;
  readonly role: Role;
  readonly vector: Tensor;
}

/** Matrices and vectors in the order of a forward pass; a tied head is the embedding and stands once. */
export class PartList {
  readonly matrices: MatrixPart[] = [];
  readonly vectors: VectorPart[] = [];

  /** @throws SwitchyardError ERR_UNSUPPORTED for parts that no loaded model has */
  constructor({ config, parts }: Decoder) {
    const names = ourNames(config);
    this.#matrix(names.embedding, 'embedding', parts.embedding.weight);
    for (const [i, layer] of parts.layers.entries()) {
      const at = names.layer(i);
      const { q, k, v, o, qNorm, kNorm } = layer.attention;
      this.#norm(at.attentionNorm, layer.attentionNorm);
      this.#linear(at.q, 'attention', q);
      this.#linear(at.k, 'attention', k);
      this.#linear(at.v, 'attention', v);
      this.#linear(at.o, 'attention', o);
      if (at.qNorm !== undefined && qNorm) this.#norm(at.qNorm, qNorm);
      if (at.kNorm !== undefined && kNorm) this.#norm(at.kNorm, kNorm);
      this.#norm(at.feedForwardNorm, layer.feedForwardNorm);
      if (layer.feedForward instanceof MoELayer) this.#sparse(at, layer.feedForward);
      else this.#dense(at, layer.feedForward);
    }
    this.#norm(names.finalNorm, parts.finalNorm);
    if (!config.tiedEmbeddings) this.#linear(names.head, 'head', parts.head);
  }

  #matrix(name: string, role: Role, matrix: Matrix): void {
    this.matrices.push({ name, role, matrix });
  }

  #linear(name: string, role: Role, { weight, bias }: Linear): void {
    this.#matrix(name, role, weight);
    if (bias) this.vectors.push({ name: name.replace(/\.weight$/, '.bias'), role, vector: bias });
  }

  #norm(name: string, { weight }: RmsNorm): void {
    if (!weight) throw unsupported(name, 'a norm without a weight', 'one');
    this.vectors.push({ name, role: 'norm', vector: weight });
  }

  #dense(names: LayerNames, { gate, up, down }: FeedForward): void {
    if (!gate) throw unsupported(nameOf(names.up), 'a feed-forward layer without a gate', 'one');
    this.#linear(nameOf(names.gate), 'feedForward', gate);
    this.#linear(nameOf(names.up), 'feedForward', up);
    this.#linear(nameOf(names.down), 'feedForward', down);
  }

  #sparse(names: LayerNames, { parameters, capacity }: MoELayer): void {
    const { router, experts, shared, selectionBias, gating = {} } = parameters;
    const { gate, up, down, gateBias, upBias, downBias } = experts;
    const odd = Object.entries({
      capacity,
      shared,
      selectionBias,
      routerBias: router?.bias,
      gateBias,
      upBias,
      downBias,
      ...gating,
    }).find(([, value]) => value);
    if (odd) throw unsupported(nameOf(names.up), `a sparse layer with ${odd[0]}`, 'none');
    if (!gate || !up) throw unsupported(nameOf(names.up), 'experts without a gate', 'one');
    if (router) this.#matrix(names.router as string, 'router', router.weight);
    this.#matrix(nameOf(names.gate), 'experts', gate);
    this.#matrix(nameOf(names.up), 'experts', up);
    this.#matrix(nameOf(names.down), 'experts', down);
  }
}

const nameOf = (source: LayerNames['gate']): string => (source.kind === 'per-expert' ? '' : source.name);

const unsupported = (where: string, got: string, expected: string): SwitchyardError =>
  new SwitchyardError('ERR_UNSUPPORTED', `[${where}] got ${got}, expected ${expected}`);
