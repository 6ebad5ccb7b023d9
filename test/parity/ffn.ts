/** The expert blocks of the layer fixtures by their `ffn`: the activation, and whether it gates. */
import type { Activation } from '../../src/core/ops/elementwise.js';

export const FFN: Record<string, [Activation, boolean]> = {
  relu: ['relu', false],
  gelu: ['gelu', false],
  gelu_tanh: ['gelu_tanh', false],
  silu: ['silu', false],
  reglu: ['relu', true],
  geglu: ['gelu', true],
  geglu_tanh: ['gelu_tanh', true],
  swiglu: ['silu', true],
};
