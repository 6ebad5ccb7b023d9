"""Writes a folder with a model of random bf16 weights in the shape of Qwen3-30B-A3B, with fewer layers, for benches on a GPU.
usage: python3 make_model.py FOLDER LAYERS TOKENIZER_FOLDER (torch, safetensors; the tokenizer's files are copied)"""

import json
import os
import shutil
import sys

import torch
from safetensors.torch import save_file

folder, layers, tokenizer = sys.argv[1], int(sys.argv[2]), sys.argv[3]
config = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "eos_token_id": 2,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 8192,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": layers,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 151936,
}
device = "cuda" if torch.cuda.is_available() else "cpu"
d, inner, heads, groups, wide = 2048, 768, 32, 4, 128


def words():
    """How many ids the tokenizer knows."""
    with open(os.path.join(tokenizer, "tokenizer.json")) as f:
        known = json.load(f)
    return 1 + max([*known["model"]["vocab"].values(), *(token["id"] for token in known["added_tokens"])])


def draw(*shape):
    return torch.randn(*shape, device=device, dtype=torch.bfloat16).mul_(0.02).cpu()


os.makedirs(folder, exist_ok=True)
index = {}


def save(number, tensors):
    name = f"model-{number:05d}.safetensors"
    save_file(tensors, os.path.join(folder, name))
    index.update({key: name for key in tensors})


ones = torch.ones
# Greedy decoding chooses among the words that the tokenizer can write; the head is as large as it would be.
head = draw(config["vocab_size"], d)
head[words():] = 0
save(0, {
    "model.embed_tokens.weight": draw(config["vocab_size"], d),
    "lm_head.weight": head,
    "model.norm.weight": ones(d, dtype=torch.bfloat16),
})
for i in range(layers):
    at = f"model.layers.{i}."
    tensors = {
        at + "input_layernorm.weight": ones(d, dtype=torch.bfloat16),
        at + "post_attention_layernorm.weight": ones(d, dtype=torch.bfloat16),
        at + "self_attn.q_norm.weight": ones(wide, dtype=torch.bfloat16),
        at + "self_attn.k_norm.weight": ones(wide, dtype=torch.bfloat16),
        at + "self_attn.q_proj.weight": draw(heads * wide, d),
        at + "self_attn.k_proj.weight": draw(groups * wide, d),
        at + "self_attn.v_proj.weight": draw(groups * wide, d),
        at + "self_attn.o_proj.weight": draw(d, heads * wide),
        at + "mlp.gate.weight": draw(config["num_experts"], d),
    }
    for e in range(config["num_experts"]):
        expert = at + f"mlp.experts.{e}."
        tensors[expert + "gate_proj.weight"] = draw(inner, d)
        tensors[expert + "up_proj.weight"] = draw(inner, d)
        tensors[expert + "down_proj.weight"] = draw(d, inner)
    save(i + 1, tensors)
with open(os.path.join(folder, "model.safetensors.index.json"), "w") as f:
    json.dump({"metadata": {}, "weight_map": index}, f)
with open(os.path.join(folder, "config.json"), "w") as f:
    json.dump(config, f)
for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
    shutil.copy(os.path.join(tokenizer, name), folder)
