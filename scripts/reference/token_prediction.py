"""Reference results of layers that predict further ahead (DeepSeek-AI 2024, DeepSeek-V3, section 2.2, eq. 21-23).

    python3 token_prediction.py ../../test/fixtures

writes prediction/deepseek_v3 and prediction/glm4_moe, small models with random weights: config.json, model.safetensors,
tokenizer.json, and in prediction.json and prediction.safetensors what the layer says, in float64 (stored as float32). Blocks,
norms and the main model are those of the transformers library, which leaves the layer out; this file joins them:

    h'_i = M [norm(Emb(t_{i+1})); norm(h_i)]      (eq. 21; the published weights hold the token's half first)
    h_i^1 = TRM(h'_i)                             (eq. 22)
    P_{i+2} = head(norm(h_i^1))                   (eq. 23)

h_i is the main model's state after its final norm. Published files hold one such layer; a further guess takes the layer's own
normed state in the place of the model's, and the guess in the place of the next token.
"""
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from encoder_decoder_moe import first_seed, tokenizer

COMMON = {"vocab_size": 48, "hidden_size": 24, "intermediate_size": 32, "moe_intermediate_size": 12, "num_hidden_layers": 2,
          "num_attention_heads": 3, "n_routed_experts": 6, "num_experts_per_tok": 2, "n_shared_experts": 1,
          "first_k_dense_replace": 1, "norm_topk_prob": True, "routed_scaling_factor": 1.7, "max_position_embeddings": 64,
          "num_nextn_predict_layers": 1, "tie_word_embeddings": False, "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2}
CONFIGS = {"deepseek_v3": {**COMMON, "model_type": "deepseek_v3", "num_key_value_heads": 3, "n_group": 3, "topk_group": 2,
                           "q_lora_rank": 10, "kv_lora_rank": 8, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5,
                           "rms_norm_eps": 1e-6},
           "glm4_moe": {**COMMON, "model_type": "glm4_moe", "num_key_value_heads": 1, "head_dim": 8, "n_group": 1, "topk_group": 1,
                        "partial_rotary_factor": 0.5, "attention_bias": True, "use_qk_norm": True, "rms_norm_eps": 1e-5}}
TEXTS = [[7, 33, 12, 40, 5, 21, 9, 15, 30, 11, 25], [44, 8], [19, 27, 10, 38, 6, 29, 17]]
GUESSES = 3


def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def built(config, seed):
    """The main model with the prediction layer's block as one layer more, and what else that layer holds."""
    generator = torch.Generator().manual_seed(seed)
    whole = AutoModelForCausalLM.from_config(AutoConfig.for_model(**{**config, "num_hidden_layers": config["num_hidden_layers"] + 1}),
                                             attn_implementation="eager", experts_implementation="eager").double().eval()
    with torch.no_grad():
        for name, value in [*whole.named_parameters(), *whole.named_buffers()]:
            if "norm" in name:
                value.copy_(1 + 0.3 * torch.randn(value.shape, generator=generator))
            elif name.endswith("e_score_correction_bias"):
                value.copy_(0.1 * torch.randn(value.shape, generator=generator))
            elif "inv_freq" not in name:
                value.copy_(0.4 * torch.randn(value.shape, generator=generator))
    d = config["hidden_size"]
    norms = {name: 1 + 0.3 * torch.randn(d, generator=generator) for name in ("enorm", "hnorm", "shared_head.norm")}
    return whole, {**norms, "eh_proj": 0.4 * torch.randn((d, 2 * d), generator=generator)}


def states(whole, config, ids):
    """[T, D], after the final norm, of all layers but the last."""
    seen = []
    layer = whole.model.layers[config["num_hidden_layers"]]
    hook = layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    whole(torch.tensor([ids]))
    hook.remove()
    return rms_norm(seen[0], whole.model.norm.weight, config["rms_norm_eps"])[0]


def predict(whole, extra, config, hidden, tokens):
    """hidden [N, D] and the tokens behind them -> the layer's normed states [N, D] and logits [N, V]."""
    eps = config["rms_norm_eps"]
    n = len(tokens)
    embedded = whole.model.embed_tokens(torch.tensor(tokens))
    both = torch.cat([rms_norm(embedded, extra["enorm"], eps), rms_norm(hidden, extra["hnorm"], eps)], -1)
    x = (both @ extra["eh_proj"].T)[None]
    places = torch.arange(n)[None]
    later = torch.full((n, n), -torch.inf, dtype=x.dtype).triu(1)[None, None]
    turned = whole.model.rotary_emb(x, position_ids=places)
    y = whole.model.layers[config["num_hidden_layers"]](x, attention_mask=later, position_ids=places, position_embeddings=turned)
    y = rms_norm((y[0] if isinstance(y, tuple) else y)[0], extra["shared_head.norm"], eps)
    return y, y @ whole.lm_head.weight.T


def guess(whole, extra, config, ids):
    """Greedy guesses behind a text whose last token was just chosen."""
    hidden, tokens, found = states(whole, config, ids)[:-1], ids[1:], []
    for _ in range(GUESSES):
        own, logits = predict(whole, extra, config, hidden, tokens)
        best = logits[-1].topk(2).values
        if best[0] - best[1] < 1e-2:
            raise ValueError("a guess close to a tie")
        found.append(int(logits[-1].argmax()))
        hidden, tokens = torch.cat([hidden, own[-1:]]), [*tokens, found[-1]]
    return found


def tensors_of(whole, extra, config):
    """By the names of published files."""
    with tempfile.TemporaryDirectory() as folder:
        whole.float().save_pretrained(folder)
        tensors = load_file(Path(folder) / "model.safetensors")
    whole.double()
    at = f"model.layers.{config['num_hidden_layers']}."
    tensors |= {f"{at}{name}.weight": value.float() for name, value in extra.items()}
    copies = {f"{at}embed_tokens.weight": "model.embed_tokens.weight", f"{at}shared_head.head.weight": "lm_head.weight"}
    return tensors | {name: tensors[source].clone() for name, source in copies.items()}


@torch.no_grad()
def write(folder, config, seed):
    whole, extra = built(config, seed)
    tensors = tensors_of(whole, extra, config)
    extra = {name: value.double() for name, value in extra.items()}
    expected, document = {}, {"seed": seed, "texts": []}
    for i, ids in enumerate(TEXTS):
        hidden = states(whole, config, ids)
        own, logits = predict(whole, extra, config, hidden[:-1], ids[1:])
        expected |= {f"{i}.states": hidden, f"{i}.hidden": own, f"{i}.logits": logits}
        document["texts"].append({"ids": ids, "guesses": guess(whole, extra, config, ids)})
    if len({token for text in document["texts"] for token in text["guesses"]}) < 5:
        raise ValueError("dull guesses")
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: t.float().contiguous() for k, t in expected.items()}, folder / "prediction.safetensors")
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for file, value in (("config.json", config), ("prediction.json", document), ("tokenizer.json", tokenizer(48, config))):
        (folder / file).write_text(json.dumps(value, indent=None if file == "tokenizer.json" else 1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}) + "\n")


def main(folder):
    for name, config in CONFIGS.items():
        first_seed(name, lambda seed: write(folder / "prediction" / name, config, seed))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
