"""Times a sparse layer in bf16 on a GPU: transformers' block with grouped_mm, and grouped_mm alone between gathers; with the
machine's limits (copy, dense matmul) in the same run. One line of JSON a case. usage: python3 moe_layer.py [--compile] [--train]"""

import json
import statistics
import sys

import torch

SHAPES = {  # experts, chosen, d_model, d_ff
    "qwen3-30b-a3b": (128, 8, 2048, 768),
    "mixtral": (8, 2, 4096, 14336),
}
TOKENS = {"qwen3-30b-a3b": (1, 8, 64, 512, 4096, 32768), "mixtral": (1, 8, 64, 4096)}
RUNS = 20


def milliseconds(run, runs=RUNS):
    """Median and spread (half the distance of the quartiles, as a share) by events, after three runs."""
    for _ in range(3):
        run()
    marks = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(runs)]
    for begin, end in marks:
        begin.record()
        run()
        end.record()
    torch.cuda.synchronize()
    times = sorted(begin.elapsed_time(end) for begin, end in marks)
    median = statistics.median(times)
    return median, (times[3 * runs // 4] - times[runs // 4]) / 2 / median


def replayed(run):
    """The run as a CUDA graph, where it can be captured; else as it is."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    try:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            run()
        return graph.replay
    except RuntimeError:
        torch.cuda.synchronize()
        return run


def tell(**facts):
    print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, **facts}), flush=True)


def limits():
    a = torch.empty(1 << 30, dtype=torch.uint8, device="cuda").random_()
    b = torch.empty_like(a)
    ms, _ = milliseconds(lambda: b.copy_(a))
    tell(case="copy", GBps=2 * a.numel() / ms / 1e6)
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    ms, _ = milliseconds(lambda: x @ y)
    tell(case="matmul 8192 bf16", TFLOPs=2 * 8192**3 / ms / 1e9)


class Layer:
    """Softmax top-k, gather, gate and up, SwiGLU, down, weighted sum: products by grouped_mm."""

    def __init__(self, experts, chosen, width, inner):
        def draw(*shape):
            return torch.randn(*shape, device="cuda", dtype=torch.bfloat16).mul_(0.02).requires_grad_()

        self.experts, self.chosen = experts, chosen
        self.router = draw(width, experts)
        self.gate_up = draw(experts, width, 2 * inner)
        self.down = draw(experts, inner, width)

    def parameters(self):
        return [self.router, self.gate_up, self.down]

    def __call__(self, x):
        scores = (x @ self.router).float().softmax(-1)
        weights, ids = scores.topk(self.chosen, -1)
        weights = weights / weights.sum(-1, keepdim=True)
        order = ids.flatten().argsort(stable=True)
        counts = torch.zeros(self.experts, dtype=torch.int32, device=x.device)
        counts.scatter_add_(0, ids.flatten(), torch.ones_like(ids.flatten(), dtype=torch.int32))
        offsets = counts.cumsum(0, dtype=torch.int32)
        rows = x[order // self.chosen]
        gate, up = torch._grouped_mm(rows, self.gate_up, offs=offsets).chunk(2, -1)
        out = torch._grouped_mm(torch.nn.functional.silu(gate) * up, self.down, offs=offsets)
        back = torch.empty_like(order)
        back[order] = torch.arange(order.numel(), device=x.device)
        out = out[back].view(x.shape[0], self.chosen, -1)
        return (out * weights.to(out.dtype).unsqueeze(-1)).sum(1)


def block_of(experts, chosen, width, inner):
    from transformers import Qwen3MoeConfig
    from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

    config = Qwen3MoeConfig(
        hidden_size=width, moe_intermediate_size=inner, num_experts=experts, num_experts_per_tok=chosen, norm_topk_prob=True
    )
    config._experts_implementation = "grouped_mm"
    with torch.device("cuda"):
        module = Qwen3MoeSparseMoeBlock(config).to(torch.bfloat16).eval()
    for p in module.parameters():
        p.data.normal_(std=0.02)
    return module


def main():
    limits()
    for name, (experts, chosen, width, inner) in SHAPES.items():
        flop = 6 * chosen * width * inner
        layers = {"grouped_mm": Layer(experts, chosen, width, inner)}
        if "--compile" in sys.argv:
            layers["grouped_mm, compiled"] = torch.compile(layers["grouped_mm"], dynamic=False)
        try:
            layers["transformers"] = block_of(experts, chosen, width, inner)
        except Exception as error:  # another version of the library
            tell(case=name, peer="transformers", missing=str(error)[:200])
        for tokens in TOKENS[name]:
            x = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16)
            for peer, layer in layers.items():
                given = x[None] if peer == "transformers" else x
                with torch.inference_mode():
                    ms, spread = milliseconds(replayed(lambda: layer(given)))
                tell(case=name, tokens=tokens, peer=peer, us=1e3 * ms, spread=spread, TFLOPs=tokens * flop / ms / 1e9)
        if "--train" not in sys.argv:
            continue
        tokens = 4096
        layer = layers["grouped_mm"]
        x = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16).requires_grad_()
        seed = torch.randn(tokens, width, device="cuda", dtype=torch.bfloat16)

        def step():
            for p in [x, *layer.parameters()]:
                p.grad = None
            layer(x).backward(seed)

        ms, spread = milliseconds(step)
        tell(case=name, tokens=tokens, peer="grouped_mm", training=True, us=1e3 * ms, spread=spread, TFLOPs=3 * tokens * flop / ms / 1e9)
        del layers
        torch.cuda.empty_cache()


main()
