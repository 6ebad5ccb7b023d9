import { type Family, type LayerNames, whole } from '../family.js';
import { attentionNames, llamaNames, readLlamaLike } from './llama.js';

/** Mixtral 8x7B and 8x22B (Jiang et al. 2024): every layer sparse, top-2 of 8, probabilities renormalised over the chosen. */
export const mixtral: Family = {
  modelType: 'mixtral',
  ggufArchitecture: 'llama',
  ownsGguf: (metadata) => metadata.getInt('llama.expert_count', 0) > 0,
  fromHuggingFace(c) {
    const base = readLlamaLike(c, 'mixtral');
    c.raw('router_jitter_noise'); // multiplies the input in training only
    return {
      ...base,
      window: c.raw('sliding_window') === undefined ? 0 : c.int('sliding_window', 'length'),
      moe: {
        nExperts: c.int(['num_local_experts', 'num_experts'], 'experts', 8),
        topK: c.int('num_experts_per_tok', 'experts', 2),
        dFf: base.dFf,
        gating: 'softmax-top-k',
        layers: Array.from({ length: base.nLayers }, (_, i) => i),
      },
    };
  },
  huggingFaceNames(config, has) {
    const experts = config.moe?.nExperts ?? 0;
    return {
      ...llamaNames,
      layer: (i) => ({ ...attentionNames(i), ...expertNames(i, experts, config.dFf, has) }),
    };
  },
};

/** One tensor per expert (published files), or gate and up fused in one stack (library version 5). */
function expertNames(
  i: number,
  experts: number,
  dFf: number,
  has: (name: string) => boolean,
): Pick<LayerNames, 'router' | 'gate' | 'up' | 'down'> {
  const fused = `model.layers.${i}.mlp.experts.gate_up_proj`;
  if (has(fused)) {
    return {
      router: `model.layers.${i}.mlp.gate.weight`,
      gate: { kind: 'rows', name: fused, from: 0, of: 2 * dFf },
      up: { kind: 'rows', name: fused, from: dFf, of: 2 * dFf },
      down: whole(`model.layers.${i}.mlp.experts.down_proj`),
    };
  }
  const block = `model.layers.${i}.block_sparse_moe.`;
  const each = (part: string) => ({
    kind: 'per-expert' as const,
    names: Array.from({ length: experts }, (_, e) => `${block}experts.${e}.${part}.weight`),
  });
  return { router: `${block}gate.weight`, gate: each('w1'), up: each('w3'), down: each('w2') };
}
