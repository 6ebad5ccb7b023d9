"""Answers lines of JSON: {"build": …} makes a block (null: drops it), {"forward": tokens} and {"train": tokens} run it once
and give {"ms"}; {"attention": …} makes layers of attention, {"attend": true} runs them. usage: python3 serve.py THREADS"""

import json
import sys
import time

try:
    import torch
    from transformers import MixtralConfig, OlmoeConfig
    from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
    from transformers.models.olmoe.modeling_olmoe import OlmoeSparseMoeBlock
except ImportError as error:
    print(json.dumps({"missing": str(error)}), flush=True)
    sys.exit(0)

# By our format.
TYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
# Rows of input, as many as on the other side: different tokens meet different experts.
INPUT_ROWS = 64


class Block:
    def __init__(self, dModel, dFf, nExperts, topK, format):
        sizes = dict(hidden_size=dModel, intermediate_size=dFf, num_experts_per_tok=topK)
        if nExperts > 8:
            config, block = OlmoeConfig(num_experts=nExperts, norm_topk_prob=True, **sizes), OlmoeSparseMoeBlock
        else:
            config, block = MixtralConfig(num_local_experts=nExperts, **sizes), MixtralSparseMoeBlock
        config._experts_implementation = "grouped_mm"
        self.dtype = TYPES[format]
        self.width = dModel
        self.module = block(config).to(self.dtype).eval()
        for p in self.module.parameters():
            # Drawing takes longer than all runs: the experts get the same values, each in memory of its own.
            stacked = p.data if p.dim() == 3 else p.data[None]
            stacked.copy_(torch.empty_like(stacked[0]).normal_(std=0.02))
        self.inputs = {}
        self.turn = 0

    def input(self, tokens):
        if tokens not in self.inputs:
            count = max(2, INPUT_ROWS // tokens)
            self.inputs = {tokens: [torch.randn(1, tokens, self.width).to(self.dtype) for _ in range(count)]}
        self.turn += 1
        return self.inputs[tokens][self.turn % len(self.inputs[tokens])]

    def forward(self, tokens):
        x = self.input(tokens)
        with torch.inference_mode():
            start = time.perf_counter()
            self.module(x)
            return time.perf_counter() - start

    def train(self, tokens):
        x = self.input(tokens).clone().requires_grad_()
        seed = torch.ones_like(x)
        self.module.zero_grad(set_to_none=True)
        start = time.perf_counter()
        self.module(x).backward(seed)
        return time.perf_counter() - start


class Attention:
    """scaled_dot_product_attention with a causal mask; keys and values of a group are repeated beforehand for a prompt, where
    that makes it faster."""

    def __init__(self, queries, keys, heads, kvHeads, headDim, layers, dtype):
        dtype = getattr(torch, dtype)
        self.causal = queries > 1
        stored = heads if self.causal else kvHeads
        self.q = torch.randn(1, heads, queries, headDim).to(dtype)
        self.kv = [
            [torch.randn(1, stored, keys, headDim).to(dtype) for _ in range(2)] for _ in range(layers)
        ]
        self.grouped = stored < heads

    def attend(self):
        with torch.inference_mode():
            start = time.perf_counter()
            x = self.q
            for k, v in self.kv:
                x = torch.nn.functional.scaled_dot_product_attention(
                    x, k, v, is_causal=self.causal, enable_gqa=self.grouped
                )
            return time.perf_counter() - start


torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))
print(json.dumps({"ready": True, "formats": list(TYPES), "train": True}), flush=True)
block = None
for line in sys.stdin:
    request = json.loads(line)
    if "build" in request:
        block = None  # two at once may not fit
        if request["build"]:
            block = Block(**request["build"])
        reply = {"ready": True}
    elif "attention" in request:
        block = None
        block = Attention(**request["attention"])
        reply = {"ready": True}
    elif "attend" in request:
        reply = {"ms": 1000 * block.attend()}
    elif "forward" in request:
        reply = {"ms": 1000 * block.forward(request["forward"])}
    else:
        reply = {"ms": 1000 * block.train(request["train"])}
    print(json.dumps(reply), flush=True)
