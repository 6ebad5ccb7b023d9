"""Reference results of encoder-decoders with experts that no library computes as published.

    python3 encoder_decoder_moe.py ../../test/fixtures [NAME...]

writes nllb_moe/, nllb_moe_drop/ and nllb_moe_places/ (experts that are full), and st_moe/, small models with random weights: config.json, model.safetensors, tokenizer.json, and in
expected.json and expected.safetensors what plain loops over tokens give for them, in float64 (stored as float32).

* NLLB-MoE: "No Language Left Behind" (2022), section 6.2, in the conventions of its published checkpoint: layer norms before
  each block, sinusoidal positions that count real tokens, embeddings times sqrt(D), every sparse_step-th layer sparse, top-2
  of a softmax with weights that sum to 1, and outputs times 1 - p for the expert output masking of training. Experts have places
  for a share of a batch's tokens, padding counted, or a number of places (fairseq's top-2 gate); all first choices are served
  before any second one, and what a token keeps takes over the weight of what it loses, or does not.
* ST-MoE: Zoph et al. (2022), with the layers of T5 v1.1 (Raffel et al. 2020; Shazeer 2020): RMS norms, GEGLU experts, a bias by
  distance, top-2, and so many places of an expert in each sequence, all first choices served before any second one. There is
  no published checkpoint in this form: config and names are those of Switch Transformer where it has them.
"""
import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

NEW_TOKENS = 12


# ------------------------------------------------------------------ pieces
def rms_norm(x, weight, eps):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * weight


def layer_norm(x, weight, bias, eps=1e-5):
    centred = x - x.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred * centred).mean(-1, keepdim=True) + eps) * weight + bias


def gelu_tanh(x):
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def sinusoid(position, width):
    """Sines, then cosines; frequencies 10000^(-i / (half - 1))."""
    half = width // 2
    angles = [position * math.exp(-math.log(10000) * i / (half - 1)) for i in range(half)]
    values = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(values + [0.0] * (width % 2), dtype=torch.float64)


def bucket(distance, buckets, longest, both_ways):
    """T5's bucket of distance = key position - query position."""
    first = 0
    if both_ways:
        buckets //= 2
        if distance > 0:
            first = buckets
        distance = abs(distance)
    else:
        distance = max(0, -distance)
    exact = buckets // 2
    if distance < exact:
        return first + distance
    share = math.log(distance / exact) / math.log(longest / exact)
    return first + min(buckets - 1, exact + int(share * (buckets - exact)))


def attend(q, k, v, heads, scale, sees, bias=None):
    """q [T, H*C] over k, v [S, H*C]; sees(t, s) says which keys a query sees; bias(t, s) gives [H]."""
    (t, wide), s = q.shape, k.shape[0]
    c = wide // heads
    out = torch.zeros_like(q)
    for h in range(heads):
        part = slice(h * c, (h + 1) * c)
        for i in range(t):
            keys = [j for j in range(s) if sees(i, j)]
            scores = torch.stack([(q[i, part] @ k[j, part]) * scale + (0 if bias is None else bias(i, j)[h]) for j in keys])
            weights = torch.softmax(scores, 0)
            out[i, part] = sum(w * v[j, part] for w, j in zip(weights, keys))
    return out


def route(logits, capacity, scale, first=False, renormalise=False):
    """
    Top-2 of tokens that share the places of experts: weights and experts by falling weight; -1 where the expert was full. Served in order,
    or `first` those with the largest probability. `renormalise`: what a token keeps has all of its weight.
    """
    probabilities = torch.softmax(logits, -1)
    three = probabilities.topk(3, -1).values
    if (three[:, :2] - three[:, 1:]).min() < 1e-4:
        raise ValueError("a choice close to a tie")
    weights, experts = probabilities.topk(2, -1)
    weights = weights / weights.sum(-1, keepdim=True) * scale
    taken = [0] * logits.shape[1]
    kept = experts.clone()
    order = sorted(range(len(logits)), key=lambda t: -float(probabilities[t].max())) if first else range(len(logits))
    for choice in range(2):
        for token in order:
            expert = int(experts[token, choice])
            if taken[expert] >= capacity:
                kept[token, choice] = -1
            else:
                taken[expert] += 1
    if renormalise:
        weights = weights * (kept >= 0)
        weights = weights / weights.sum(-1, keepdim=True).clamp(min=1e-30) * scale
    return weights, kept, experts, probabilities


# ------------------------------------------------------------------ one sequence through a model
class Reference:
    """Encoder and decoder of one sequence; `record` gathers what routers did."""

    def __init__(self, config, weights):
        self.c, self.w = config, {name: t.double() for name, t in weights.items()}
        self.record, self.states = {}, {}

    def linear(self, x, name):
        y = x @ self.w[f"{name}.weight"].T
        bias = self.w.get(f"{name}.bias")
        return y if bias is None else y + bias

    def sparse(self, x, part, layer, router, expert, capacity, scale=1.0, **how):
        logits = self.linear(x, router)
        weights, kept, wished, probabilities = route(logits, capacity, scale, **how)
        out = torch.zeros_like(x)
        for token in range(len(x)):
            for choice in range(2):
                if kept[token, choice] >= 0:
                    out[token] += weights[token, choice] * expert(int(kept[token, choice]), x[token])
        self.record[f"{part}.router.{layer}"] = (logits, weights, kept, wished, probabilities)
        return out

    def balance(self, part):
        """Switch loss and z-loss over the tokens of all layers together."""
        layers = [r for name, r in self.record.items() if name.startswith(part)]
        logits = torch.cat([r[0] for r in layers])
        wished, probabilities = torch.cat([r[3] for r in layers]), torch.cat([r[4] for r in layers])
        experts = logits.shape[1]
        share = torch.stack([(wished == e).double().sum() for e in range(experts)]) / wished.numel()
        return float(experts * (share * probabilities.mean(0)).sum()), float((torch.logsumexp(logits, -1) ** 2).mean())


class Nllb(Reference):
    """Several sequences side by side: with a capacity, experts have places for a share of all tokens, padding counted (fairseq's top-2 gate)."""

    cached = False  # a step over a cache is a call of one token, in which nothing is dropped

    def embed(self, ids):
        d = self.c["d_model"]
        first = self.c["pad_token_id"] + 1
        return torch.stack([self.w["model.shared.weight"][i] * math.sqrt(d) + sinusoid(first + t, d) for t, i in enumerate(ids)])

    def norm(self, x, name):
        return layer_norm(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def attention(self, x, memory, name, heads, sees):
        q, k, v = self.linear(x, f"{name}.q_proj"), self.linear(memory, f"{name}.k_proj"), self.linear(memory, f"{name}.v_proj")
        mixed = attend(q, k, v, heads, (self.c["d_model"] // heads) ** -0.5, sees)
        return self.linear(mixed, f"{name}.out_proj")

    def capacity(self, part, tokens):
        fraction, places = self.c["moe_eval_capacity_token_fraction"], self.c["expert_capacity"]
        return tokens if self.cached and part == "decoder" else math.ceil(fraction * tokens) if fraction > 0 else places

    def feed_forward(self, rows, part, layer):
        name = f"model.{part}.layers.{layer}.ffn"
        dense = lambda at, y: self.linear(torch.relu(self.linear(y, f"{at}.fc1")), f"{at}.fc2")
        step = self.c[f"{part}_sparse_step"]
        if (layer + 1) % step != 0:
            return [dense(name, x) for x in rows]
        expert = lambda e, y: dense(f"{name}.experts.expert_{e}", y)
        lengths = [len(x) for x in rows]
        out = self.sparse(torch.cat(rows), part, layer, f"{name}.router.classifier", expert, self.capacity(part, len(rows) * max(lengths)),
                          1 - self.c["moe_token_dropout"], first=self.c["batch_prioritized_routing"],
                          renormalise=not self.c["normalize_router_prob_before_dropping"])
        return out.split(lengths)

    def stack(self, rows, part, sees, memories=None):
        rows = [self.embed(ids) for ids in rows]
        states = [rows]
        heads = self.c[f"{part}_attention_heads"]
        for i in range(self.c[f"{part}_layers"]):
            at = f"model.{part}.layers.{i}"

            def attended(x, y, kind, memory, sees):
                return x + self.attention(y, memory, f"{at}.{kind}", heads, sees)

            normed = [self.norm(x, f"{at}.self_attn_layer_norm") for x in rows]
            rows = [attended(x, y, "self_attn", y, sees) for x, y in zip(rows, normed)]
            if memories is not None:
                normed = [self.norm(x, f"{at}.cross_attention_layer_norm") for x in rows]
                rows = [attended(x, y, "cross_attention", m, lambda t, s: True) for x, y, m in zip(rows, normed, memories)]
            out = self.feed_forward([self.norm(x, f"{at}.ff_layer_norm") for x in rows], part, i)
            rows = [x + y for x, y in zip(rows, out)]
            states.append(rows)
        states[-1] = [self.norm(x, f"model.{part}.layer_norm") for x in rows]
        self.states[part] = states
        return states[-1]

    def batch(self, sources, targets):
        """Logits of each row; `record` and `states` are then of all."""
        memories = self.stack(sources, "encoder", lambda t, s: True)
        return [x @ self.w["model.shared.weight"].T for x in self.stack(targets, "decoder", lambda t, s: s <= t, memories)]

    def row(self, i, sources, targets):
        """What the pass over a batch gave for its row i, as a pass over that row alone would leave it."""
        alone = type(self)(self.c, {})
        alone.states = {part: [state[i] for state in states] for part, states in self.states.items()}
        for key, values in self.record.items():
            lengths = [len(row) for row in (sources if key.startswith("encoder") else targets)]
            alone.record[key] = tuple(t.split(lengths)[i] for t in values)
        return alone

    def logits(self, ids, decoder_ids):
        return self.batch([ids], [decoder_ids])[0]


class StMoe(Reference):
    cached = False  # a step over a cache is a call of one token, in which nothing is dropped

    def norm(self, x, name):
        return rms_norm(x, self.w[f"{name}.weight"], self.c["layer_norm_epsilon"])

    def bias(self, part):
        c = self.c
        table = self.w[f"{part}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        buckets, longest = c["relative_attention_num_buckets"], c["relative_attention_max_distance"]
        return lambda t, s: table[bucket(s - t, buckets, longest, part == "encoder")]

    def attention(self, x, memory, name, sees, bias):
        q, k, v = (self.linear(y, f"{name}.{p}") for y, p in ((x, "q"), (memory, "k"), (memory, "v")))
        return self.linear(attend(q, k, v, self.c["num_heads"], 1.0, sees, bias), f"{name}.o")

    def feed_forward(self, x, part, layer, at):
        c = self.c
        dense = lambda name, y: self.linear(gelu_tanh(self.linear(y, f"{name}.wi_0")) * self.linear(y, f"{name}.wi_1"), f"{name}.wo")
        if (layer + 1) % c[f"{part}_sparse_step"] != 0:
            return dense(f"{at}.mlp", x)
        capacity = len(x) if self.cached and part == "decoder" else c["expert_capacity"]
        return self.sparse(x, part, layer, f"{at}.mlp.router.classifier", lambda e, y: dense(f"{at}.mlp.experts.expert_{e}", y), capacity)

    def stack(self, ids, part, sees, memory=None):
        x = torch.stack([self.w["shared.weight"][i] for i in ids])
        states = [x]
        layers = self.c["num_layers"] if part == "encoder" else self.c["num_decoder_layers"]
        for i in range(layers):
            at = f"{part}.block.{i}.layer"
            y = self.norm(x, f"{at}.0.layer_norm")
            x = x + self.attention(y, y, f"{at}.0.SelfAttention", sees, self.bias(part))
            last = 1
            if memory is not None:
                last = 2
                y = self.norm(x, f"{at}.1.layer_norm")
                x = x + self.attention(y, memory, f"{at}.1.EncDecAttention", lambda t, s: True, None)
            x = x + self.feed_forward(self.norm(x, f"{at}.{last}.layer_norm"), part, i, f"{at}.{last}")
            states.append(x)
        states[-1] = self.norm(x, f"{part}.final_layer_norm")
        self.states[part] = states
        return states[-1]

    def logits(self, ids, decoder_ids):
        memory = self.stack(ids, "encoder", lambda t, s: True)
        return self.stack(decoder_ids, "decoder", lambda t, s: s <= t, memory) @ self.w["lm_head.weight"].T


# ------------------------------------------------------------------ random models
def draw(shapes, seed, std):
    """Normal weights; those of a tied embedding are small, lest the model repeat its input."""
    g = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        w = torch.randn(shape, generator=g) * (std / 5 if name == "model.shared.weight" else std)
        if name.endswith("norm.weight"):
            w = 1 + 0.1 * w / std
        weights[name] = w.contiguous()
    return weights


def nllb_shapes(c):
    d = c["d_model"]
    shapes = {"model.shared.weight": (c["vocab_size"], d)}

    def linear(name, rows, columns, bias=True):
        shapes[f"{name}.weight"] = (rows, columns)
        if bias:
            shapes[f"{name}.bias"] = (rows,)

    def norm(name):
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (d,)

    for part in ("encoder", "decoder"):
        f = c[f"{part}_ffn_dim"]
        for i in range(c[f"{part}_layers"]):
            at = f"model.{part}.layers.{i}"
            kinds = ["self_attn"] if part == "encoder" else ["self_attn", "cross_attention"]
            for kind in kinds:
                norm(f"{at}.{kind}_layer_norm")
                for p in ("q_proj", "k_proj", "v_proj", "out_proj"):
                    linear(f"{at}.{kind}.{p}", d, d)
            norm(f"{at}.ff_layer_norm")
            if (i + 1) % c[f"{part}_sparse_step"] != 0:
                names = [f"{at}.ffn"]
            else:
                linear(f"{at}.ffn.router.classifier", c["num_experts"], d, bias=c["router_bias"])
                names = [f"{at}.ffn.experts.expert_{e}" for e in range(c["num_experts"])]
            for name in names:
                linear(f"{name}.fc1", f, d)
                linear(f"{name}.fc2", d, f)
        norm(f"model.{part}.layer_norm")
    return shapes


def st_moe_shapes(c):
    d, inner, f = c["d_model"], c["num_heads"] * c["d_kv"], c["d_ff"]
    shapes = {"shared.weight": (c["vocab_size"], d), "lm_head.weight": (c["vocab_size"], d)}
    for part, layers in (("encoder", c["num_layers"]), ("decoder", c["num_decoder_layers"])):
        for i in range(layers):
            at = f"{part}.block.{i}.layer"
            kinds = ["SelfAttention"] if part == "encoder" else ["SelfAttention", "EncDecAttention"]
            for j, kind in enumerate(kinds):
                shapes[f"{at}.{j}.layer_norm.weight"] = (d,)
                for p in ("q", "k", "v"):
                    shapes[f"{at}.{j}.{kind}.{p}.weight"] = (inner, d)
                shapes[f"{at}.{j}.{kind}.o.weight"] = (d, inner)
            if i == 0:
                shapes[f"{at}.0.SelfAttention.relative_attention_bias.weight"] = (c["relative_attention_num_buckets"], c["num_heads"])
            last = f"{at}.{len(kinds)}"
            shapes[f"{last}.layer_norm.weight"] = (d,)
            names = [f"{last}.mlp"]
            if (i + 1) % c[f"{part}_sparse_step"] == 0:
                shapes[f"{last}.mlp.router.classifier.weight"] = (c["num_experts"], d)
                names = [f"{last}.mlp.experts.expert_{e}" for e in range(c["num_experts"])]
            for name in names:
                shapes[f"{name}.wi_0.weight"] = shapes[f"{name}.wi_1.weight"] = (f, d)
                shapes[f"{name}.wo.weight"] = (d, f)
        shapes[f"{part}.final_layer_norm.weight"] = (d,)
    return shapes


# ------------------------------------------------------------------ files
def write(folder, name, make, config, weights, seed):
    start, vocab = config["decoder_start_token_id"], config["vocab_size"]
    g = torch.Generator().manual_seed(seed + 1)
    ids = lambda n: torch.randint(4, vocab, (n,), generator=g).tolist()
    pad = config["pad_token_id"]
    tensors, document = {}, {"name": name, "kind": "seq2seq", "model_type": config["model_type"], "seed": seed,
                             "decoder_start_token_id": start, "inputs": {}, "greedy": []}
    for tag, rows in (("single", [(9, 7)]), ("right", [(8, 6), (5, 4)])):
        rows = [(ids(s), [start] + ids(t - 1)) for s, t in rows]
        width, target = max(len(s) for s, _ in rows), max(len(t) for _, t in rows)
        padded = lambda row, n: row + [pad] * (n - len(row))
        real = lambda row, n: [1] * len(row) + [0] * (n - len(row))
        entry = {"input_ids": [padded(s, width) for s, _ in rows], "attention_mask": [real(s, width) for s, _ in rows],
                 "decoder_input_ids": [padded(t, target) for _, t in rows],
                 "decoder_attention_mask": [real(t, target) for _, t in rows]}
        gathered = {}

        def gather(key, value, n):  # rows of a padded batch; zeros at padding, which is not compared
            fill = torch.zeros((n - len(value), *value.shape[1:]), dtype=value.dtype)
            gathered.setdefault(key, []).append(torch.cat([value, fill]))

        for model, logits in passes(make(config, weights), rows):
            gather(f"{tag}.logits", logits, target)
            gather(f"{tag}.encoder_last_hidden_state", model.states["encoder"][-1], width)
            if tag == "single":
                for part, n in (("encoder", width), ("decoder", target)):
                    for i, h in enumerate(model.states[part]):
                        gather(f"single.{part}_hidden_states.{i}", h, n)
            for key, (logits, chosen, kept, _, _) in model.record.items():
                n = width if key.startswith("encoder") else target
                for what, value in (("logits", logits), ("weights", chosen), ("experts", kept)):
                    gather(f"{tag}.{key}.{what}", value, n)
            if tag == "single":
                for part in ("encoder", "decoder"):
                    entry[f"{part}_aux_loss"], entry[f"{part}_z_loss"] = model.balance(part)
        document["inputs"][tag] = entry
        tensors.update({key: torch.stack(value) for key, value in gathered.items()})
        for cached in (True, False):
            if not cached and len(rows) > 1 and shares_places(config):
                continue  # rows that pass together give other texts than alone
            sequences = [greedy(make(config, weights), s, start, cached) for s, _ in rows]
            run = {"input": tag, "max_new_tokens": NEW_TOKENS, "eos_token_id": None, "pad_token_id": pad, "sequences": sequences}
            document["greedy"].append(run if cached else {**run, "use_cache": False})
    folder.mkdir(parents=True, exist_ok=True)
    stored = {k: (t.int() if not t.is_floating_point() else t.float()).contiguous() for k, t in tensors.items()}
    save_file(stored, folder / "expected.safetensors")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    for file, value in (("config.json", config), ("expected.json", document), ("tokenizer.json", tokenizer(vocab, config))):
        (folder / file).write_text(json.dumps(value, indent=None if file == "tokenizer.json" else 1) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}) + "\n")


def shares_places(config):
    return config.get("moe_eval_capacity_token_fraction", 1) < 1


def passes(model, rows):
    """A model after each row, and the row's logits."""
    if hasattr(model, "batch"):
        sources, targets = zip(*rows)
        logits = model.batch(sources, targets)
        return [(model.row(i, sources, targets), each) for i, each in enumerate(logits)]
    found = []
    for s, t in rows:
        alone = type(model)(model.c, model.w)
        found.append((alone, alone.logits(s, t)))
    return found


def greedy(model, ids, start, cached):
    model.cached = cached
    made = [start]
    for _ in range(NEW_TOKENS):
        scores = model.logits(ids, made)[-1]
        best = scores.topk(2).values
        if best[0] - best[1] < 1e-3:
            raise ValueError("a choice close to a tie")
        made.append(int(scores.argmax()))
    if len(set(made)) < 3:
        raise ValueError("a dull text")
    return made


def tokenizer(size, config):
    """Letters only: a vocabulary of the right size, with the special tokens where the config has them."""
    special = {config["pad_token_id"]: "<pad>", config["eos_token_id"]: "</s>", 3: "<unk>"}
    names = [special.get(i, f"<s{i}>" if i < 4 else chr(0x61 + i - 4) if i < 30 else chr(0x3B1 + i - 30)) for i in range(size)]
    added = [{"id": i, "content": names[i], "special": True, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False} for i in range(4)]
    end = config["eos_token_id"]
    return {"version": "1.0", "added_tokens": added, "normalizer": None, "pre_tokenizer": None, "decoder": {"type": "Fuse"},
            "post_processor": {"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
                               "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                               "special_tokens": {"</s>": {"id": "</s>", "ids": [end], "tokens": ["</s>"]}}},
            "model": {"type": "BPE", "vocab": {n: i for i, n in enumerate(names)}, "merges": [], "unk_token": "<unk>",
                      "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False}}


NLLB = {"model_type": "nllb-moe", "architectures": ["NllbMoeForConditionalGeneration"], "vocab_size": 48, "d_model": 12,
        "max_position_embeddings": 64, "encoder_layers": 3, "encoder_ffn_dim": 20, "encoder_attention_heads": 3,
        "decoder_layers": 2, "decoder_ffn_dim": 16, "decoder_attention_heads": 2, "activation_function": "relu",
        "scale_embedding": True, "router_bias": False, "router_dtype": "float32", "num_experts": 5, "expert_capacity": 64,
        "encoder_sparse_step": 3, "decoder_sparse_step": 2, "second_expert_policy": "all",
        "normalize_router_prob_before_dropping": False, "batch_prioritized_routing": False,
        "moe_eval_capacity_token_fraction": 1.0, "moe_token_dropout": 0.2, "tie_word_embeddings": True,
        "bos_token_id": 0, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2, "is_encoder_decoder": True}
NLLB_DROP = {**NLLB, "moe_eval_capacity_token_fraction": 0.3}
NLLB_PLACES = {**NLLB, "moe_eval_capacity_token_fraction": -1.0, "expert_capacity": 3, "batch_prioritized_routing": True,
               "normalize_router_prob_before_dropping": True}
ST_MOE = {"model_type": "st_moe", "architectures": ["StMoeForConditionalGeneration"], "is_encoder_decoder": True,
          "vocab_size": 48, "d_model": 12, "d_kv": 5, "d_ff": 16, "num_layers": 3, "num_decoder_layers": 2, "num_heads": 3,
          "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-6, "relative_attention_num_buckets": 8,
          "relative_attention_max_distance": 14, "num_experts": 4, "num_experts_per_tok": 2, "encoder_sparse_step": 3,
          "decoder_sparse_step": 2, "expert_capacity": 3, "tie_word_embeddings": False, "bos_token_id": None,
          "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def first_seed(name, attempt):
    """Tries seeds until no choice is close to a tie and texts are not of one token: `attempt` raises ValueError then."""
    for seed in range(200):
        try:
            return attempt(seed)
        except ValueError:
            pass
    raise SystemExit(f"no seed for {name}")


if __name__ == "__main__":
    out, only = Path(sys.argv[1]), sys.argv[2:]
    for name, make, config, shapes, std in (("nllb_moe", Nllb, NLLB, nllb_shapes(NLLB), 0.7), ("nllb_moe_drop", Nllb, NLLB_DROP, nllb_shapes(NLLB), 0.7),
                                            ("nllb_moe_places", Nllb, NLLB_PLACES, nllb_shapes(NLLB), 0.7), ("st_moe", StMoe, ST_MOE, st_moe_shapes(ST_MOE), 0.45)):
        if not only or name in only:
            first_seed(name, lambda seed: write(out / name, name, make, config, draw(shapes, seed, std), seed))
