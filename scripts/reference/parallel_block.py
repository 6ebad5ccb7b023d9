"""Reference results of a decoder whose attention and feed-forward stand side by side (PaLM, Chowdhery et al. 2022, section 2:
y = x + MLP(LayerNorm(x)) + Attention(LayerNorm(x))), in the form of the published family that has this block, GPT-J.

    python3 parallel_block.py ../../test/fixtures

writes gptj/, a small model with random weights: config.json, model.safetensors, tokenizer.json, and in expected.json and
expected.safetensors what plain loops over positions and heads give for it, in float64 (stored as float32).
"""
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from encoder_decoder_moe import first_seed, gelu_tanh, layer_norm, tokenizer

CONFIG = {"model_type": "gptj", "architectures": ["GPTJForCausalLM"], "vocab_size": 48, "n_embd": 30, "n_layer": 3, "n_head": 3,
          "n_positions": 64, "n_inner": 44, "rotary_dim": 6, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5,
          "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 2}
INPUTS = {"single": [[7, 33, 12, 40, 5, 21, 9, 15]],
          "left": [[30, 11, 4, 4, 25, 17, 38, 6, 29], [44, 8, 19, 27, 10]],
          "right": [[30, 11, 4, 4, 25, 17, 38, 6, 29], [44, 8, 19, 27, 10]]}
NEW_TOKENS = 12


def shapes(c):
    d, f, v = c["n_embd"], c["n_inner"], c["vocab_size"]
    found = {"transformer.wte.weight": (v, d), "transformer.ln_f.weight": (d,), "transformer.ln_f.bias": (d,),
             "lm_head.weight": (v, d), "lm_head.bias": (v,)}
    for i in range(c["n_layer"]):
        at = f"transformer.h.{i}."
        found |= {f"{at}ln_1.weight": (d,), f"{at}ln_1.bias": (d,), f"{at}mlp.fc_in.weight": (f, d), f"{at}mlp.fc_in.bias": (f,),
                  f"{at}mlp.fc_out.weight": (d, f), f"{at}mlp.fc_out.bias": (d,)}
        found |= {f"{at}attn.{part}_proj.weight": (d, d) for part in ("q", "k", "v", "out")}
    return found


def draw(c, seed):
    generator = torch.Generator().manual_seed(seed)
    norm = lambda name: ".ln_" in name and name.endswith("weight")  # noqa: E731
    return {name: (torch.randn(shape, generator=generator) * 0.4 + (1.0 if norm(name) else 0.0)) for name, shape in shapes(c).items()}


def turn(x, position, c):
    """Rotary embedding (Su et al. 2021): neighbours (2i, 2i + 1) of the first rotary_dim sizes of a head."""
    y = x.clone()
    for i in range(c["rotary_dim"] // 2):
        angle = position * 10000 ** (-2 * i / c["rotary_dim"])
        a, b = x[2 * i], x[2 * i + 1]
        y[2 * i] = a * math.cos(angle) - b * math.sin(angle)
        y[2 * i + 1] = b * math.cos(angle) + a * math.sin(angle)
    return y


def forward(w, c, ids):
    """ids of one sequence -> logits [T, V] and the hidden states, the last one after the final norm."""
    heads = c["n_head"]
    size = c["n_embd"] // heads
    x = w["transformer.wte.weight"][ids]
    states = [x]
    for i in range(c["n_layer"]):
        at = f"transformer.h.{i}."
        h = layer_norm(x, w[f"{at}ln_1.weight"], w[f"{at}ln_1.bias"], c["layer_norm_epsilon"])
        q, k, v = (h @ w[f"{at}attn.{part}_proj.weight"].T for part in "qkv")
        mixed = torch.zeros_like(x)
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            keys = [turn(k[t, own], t, c) for t in range(len(ids))]
            for t in range(len(ids)):
                query = turn(q[t, own], t, c)
                scores = torch.stack([query @ key for key in keys[: t + 1]]) / math.sqrt(size)
                mixed[t, own] = torch.softmax(scores, 0) @ v[: t + 1, own]
        attended = mixed @ w[f"{at}attn.out_proj.weight"].T
        inner = gelu_tanh(h @ w[f"{at}mlp.fc_in.weight"].T + w[f"{at}mlp.fc_in.bias"])
        x = x + attended + inner @ w[f"{at}mlp.fc_out.weight"].T + w[f"{at}mlp.fc_out.bias"]
        states.append(x)
    states[-1] = layer_norm(x, w["transformer.ln_f.weight"], w["transformer.ln_f.bias"], c["layer_norm_epsilon"])
    return states[-1] @ w["lm_head.weight"].T + w["lm_head.bias"], states


def greedy(w, c, ids):
    made = list(ids)
    for _ in range(NEW_TOKENS):
        scores = forward(w, c, made)[0][-1]
        best = scores.topk(2).values
        if best[0] - best[1] < 1e-3:
            raise ValueError("a choice close to a tie")
        made.append(int(scores.argmax()))
    if len(set(made[len(ids):])) < 3:
        raise ValueError("a dull text")
    return made


def padded(rows, side, fill):
    width = max(len(row) for row in rows)
    spare = [[fill] * (width - len(row)) for row in rows]
    return [s + row if side == "left" else row + s for s, row in zip(spare, rows)]


def write(folder, seed):
    weights = draw(CONFIG, seed)
    w = {name: t.double() for name, t in weights.items()}
    document = {"name": "gptj", "kind": "causal", "model_type": "gptj", "seed": seed, "inputs": {}, "greedy": []}
    tensors = {}
    for tag, rows in INPUTS.items():
        found = [forward(w, CONFIG, row) for row in rows]
        zeros = lambda t, n: torch.zeros((n, *t.shape[1:]), dtype=t.dtype)  # noqa: E731
        width = max(len(row) for row in rows)
        place = lambda t: torch.cat([zeros(t, width - len(t)), t] if tag == "left" else [t, zeros(t, width - len(t))])  # noqa: E731
        tensors[f"{tag}.logits"] = torch.stack([place(logits) for logits, _ in found])
        if tag == "single":
            for i, state in enumerate(found[0][1]):
                tensors[f"single.hidden_states.{i}"] = state[None]
        mask = padded([[1] * len(row) for row in rows], tag, 0)
        positions = padded([list(range(len(row))) for row in rows], tag, 0)
        ids = padded(rows, tag, 1)
        document["inputs"][tag] = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        new = [greedy(w, CONFIG, row)[len(row):] for row in rows]
        sequences = [a + b for a, b in zip(ids, new)]
        document["greedy"].append({"input": tag, "max_new_tokens": NEW_TOKENS, "eos_token_id": None, "pad_token_id": 1, "sequences": sequences})
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: t.float().contiguous() for k, t in tensors.items()}, folder / "expected.safetensors")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    letters = tokenizer(CONFIG["vocab_size"], {**CONFIG, "pad_token_id": 1})
    for file, value in (("config.json", CONFIG), ("expected.json", document), ("tokenizer.json", letters)):
        (folder / file).write_text(json.dumps(value, indent=None if file == "tokenizer.json" else 1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}) + "\n")


if __name__ == "__main__":
    first_seed("gptj", lambda seed: write(Path(sys.argv[1]) / "gptj", seed))
