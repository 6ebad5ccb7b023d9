"""Reference results of a DeepSeek-V3 whose matrices are stored as its own checkpoints have them: FP8 E4M3 with a scale for each
block of 128 x 128 values (DeepSeek-AI 2024, arXiv 2412.19437, section 3.3; weight_dequant of the published inference code).

    python3 float8.py ../../test/fixtures

writes deepseek_v3_fp8/: config.json with its quantization_config, model.safetensors (codes and weight_scale_inv by torch;
embedding, head, norms and routers in bfloat16 or float32), tokenizer.json, and what transformers gives in float32 for the values
that codes and scales stand for.
"""
import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

from encoder_decoder_moe import first_seed, tokenizer
from parallel_block import INPUTS, padded

# Sizes on both sides of a block, and heads whose keys and values begin within one.
SIZES = dict(vocab_size=48, hidden_size=136, intermediate_size=144, moe_intermediate_size=20, num_hidden_layers=2, num_attention_heads=4,
             num_key_value_heads=4, q_lora_rank=24, kv_lora_rank=20, qk_nope_head_dim=22, qk_rope_head_dim=6, v_head_dim=14,
             n_routed_experts=8, num_experts_per_tok=3, n_group=4, topk_group=2, n_shared_experts=1, first_k_dense_replace=1,
             norm_topk_prob=True, routed_scaling_factor=1.5, max_position_embeddings=64, rope_theta=10000.0, rms_norm_eps=1e-6,
             tie_word_embeddings=False, bos_token_id=0, eos_token_id=2, pad_token_id=1)
BLOCK = 128
NEW_TOKENS = 12
FLOATS = ("embed_tokens", "lm_head", "norm", "mlp.gate.")


def quantised(w):
    """w [N, K] -> codes [N, K] and scales [ceil(N / 128), ceil(K / 128)]: the largest of a block becomes 448."""
    n, k = w.shape
    scales = torch.zeros((-(-n // BLOCK), -(-k // BLOCK)))
    codes = torch.zeros((n, k), dtype=torch.float8_e4m3fn)
    for i in range(scales.shape[0]):
        for j in range(scales.shape[1]):
            at = slice(i * BLOCK, (i + 1) * BLOCK), slice(j * BLOCK, (j + 1) * BLOCK)
            scales[i, j] = w[at].abs().max() / 448
            codes[at] = (w[at] / scales[i, j]).to(torch.float8_e4m3fn)
    return codes, scales


def dequantised(codes, scales):
    wide = scales.repeat_interleave(BLOCK, 0).repeat_interleave(BLOCK, 1)
    return codes.float() * wide[: codes.shape[0], : codes.shape[1]]


def published(model):
    """The model's tensors by the names and in the layout of published files, experts apart."""
    found = {}
    for name, w in model.state_dict().items():
        if name.endswith("mlp.experts.gate_up_proj"):
            for e, both in enumerate(w):
                gate, up = both.chunk(2)
                found |= {name.replace("gate_up_proj", f"{e}.gate_proj.weight"): gate, name.replace("gate_up_proj", f"{e}.up_proj.weight"): up}
        elif name.endswith("mlp.experts.down_proj"):
            found |= {name.replace("down_proj", f"{e}.down_proj.weight"): one for e, one in enumerate(w)}
        else:
            found[name] = w
    return found


def put_back(model, tensors):
    """The values of `published` into the model again."""
    state = model.state_dict()
    for name, w in state.items():
        if name.endswith("gate_up_proj"):
            parts = [torch.cat([tensors[name.replace("gate_up_proj", f"{e}.{p}_proj.weight")] for p in ("gate", "up")]) for e in range(w.shape[0])]
            w.copy_(torch.stack(parts))
        elif name.endswith("experts.down_proj"):
            w.copy_(torch.stack([tensors[name.replace("down_proj", f"{e}.down_proj.weight")] for e in range(w.shape[0])]))
        else:
            w.copy_(tensors[name].float())


def route(logits, bias, c):
    """Section 2.1.2: the best experts by sigmoid score and bias out of the best groups; weights without the bias."""
    scores = torch.sigmoid(logits)
    ranked = scores + bias
    groups = ranked.view(len(logits), c.n_group, -1).topk(2).values.sum(-1).topk(c.topk_group).indices
    allowed = torch.zeros(len(logits), c.n_group).scatter_(1, groups, 1).repeat_interleave(c.n_routed_experts // c.n_group, 1)
    best = ranked.masked_fill(allowed == 0, -torch.inf).sort(-1, descending=True).values
    if (best[:, c.num_experts_per_tok - 1] - best[:, c.num_experts_per_tok]).min() < 1e-3:
        raise ValueError("an expert close to a tie")
    experts = ranked.masked_fill(allowed == 0, -torch.inf).topk(c.num_experts_per_tok).indices
    weights = scores.gather(1, experts)
    weights = weights / (weights.sum(-1, keepdim=True) + 1e-20) * c.routed_scaling_factor
    order = weights.sort(-1, descending=True).indices
    return weights.gather(1, order), experts.gather(1, order).int()


def run(model, ids):
    """One row alone: its logits, hidden states and the router's logits."""
    seen = []
    gate = model.model.layers[1].mlp.gate
    hook = gate.register_forward_hook(lambda module, x, out: seen.append(x[0].reshape(-1, gate.weight.shape[1]) @ gate.weight.T))
    out = model(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    hook.remove()
    return out.logits[0], [h[0] for h in out.hidden_states], seen[0]


def greedy(model, ids):
    made = list(ids)
    for _ in range(NEW_TOKENS):
        scores = run(model, made)[0][-1]
        best = scores.topk(2).values
        if best[0] - best[1] < 1e-3:
            raise ValueError("a choice close to a tie")
        made.append(int(scores.argmax()))
    if len(set(made[len(ids):])) < 3:
        raise ValueError("a dull text")
    return made


@torch.no_grad()
def write(folder, seed):
    torch.manual_seed(seed)
    config = DeepseekV3Config(**SIZES)
    model = DeepseekV3ForCausalLM(config).eval()
    for name, w in model.state_dict().items():
        w.copy_(torch.randn(w.shape) * (0.2 if "norm" in name or "bias" in name else 1.0 if "embed" in name else 0.12) + (1.0 if "norm" in name else 0.0))
    stored, values = {}, {}
    for name, w in published(model).items():
        if any(part in name for part in FLOATS):
            stored[name] = w.clone() if name.endswith("bias") else w.bfloat16()
            values[name] = stored[name].float()
        else:
            codes, scales = quantised(w)
            stored |= {name: codes, f"{name}_scale_inv": scales}
            values[name] = dequantised(codes, scales)
    put_back(model, values)
    bias = values["model.layers.1.mlp.gate.e_score_correction_bias"]
    document = {"name": "deepseek_v3_fp8", "kind": "causal", "model_type": "deepseek_v3", "seed": seed, "inputs": {}, "greedy": [], "moe_layers": [1]}
    tensors = {}
    for tag, rows in INPUTS.items():
        found = [run(model, row) for row in rows]
        width = max(len(row) for row in rows)

        def batch(each):
            zeros = [torch.zeros((width - len(t), *t.shape[1:]), dtype=t.dtype) for t in each]
            return torch.stack([torch.cat([z, t] if tag == "left" else [t, z]) for z, t in zip(zeros, each)])

        tensors[f"{tag}.logits"] = batch([logits for logits, _, _ in found])
        if tag == "single":
            for i, state in enumerate(found[0][1]):
                tensors[f"single.hidden_states.{i}"] = state[None]
        routed = [route(logits, bias, config) for _, _, logits in found]
        for key, each in (("logits", [f[2] for f in found]), ("weights", [r[0] for r in routed]), ("experts", [r[1] for r in routed])):
            tensors[f"{tag}.router.1.{key}"] = batch(each)
        mask = padded([[1] * len(row) for row in rows], tag, 0)
        positions = padded([list(range(len(row))) for row in rows], tag, 0)
        ids = padded(rows, tag, 1)
        document["inputs"][tag] = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        sequences = [a + greedy(model, row)[len(row):] for a, row in zip(ids, rows)]
        document["greedy"].append({"input": tag, "max_new_tokens": NEW_TOKENS, "eos_token_id": None, "pad_token_id": 1, "sequences": sequences})
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: t.contiguous() for k, t in tensors.items()}, folder / "expected.safetensors")
    save_file({k: t.contiguous() for k, t in stored.items()}, folder / "model.safetensors", {"format": "pt"})
    described = {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", **SIZES, "rope_interleave": True, "torch_dtype": "bfloat16",
                 "scoring_func": "sigmoid", "topk_method": "noaux_tc", "hidden_act": "silu", "attention_bias": False, "num_nextn_predict_layers": 0,
                 "quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3", "quant_method": "fp8", "weight_block_size": [BLOCK, BLOCK]}}
    letters = tokenizer(SIZES["vocab_size"], SIZES)
    for file, value in (("config.json", described), ("expected.json", document), ("tokenizer.json", letters)):
        (folder / file).write_text(json.dumps(value, indent=None if file == "tokenizer.json" else 1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}) + "\n")


if __name__ == "__main__":
    first_seed("deepseek_v3_fp8", lambda seed: write(Path(sys.argv[1]) / "deepseek_v3_fp8", seed))
