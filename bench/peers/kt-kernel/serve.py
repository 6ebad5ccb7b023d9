"""Answers lines of JSON: {"build": …} makes the experts of a layer (null: drops them), {"forward": tokens} runs them once
and gives {"ms"}. usage: python3 serve.py THREADS"""

import json
import os
import sys
import time

# The library writes to the standard output; answers go to a copy of it.
answers = os.fdopen(os.dup(1), "w")
quiet = os.open(os.devnull, os.O_WRONLY)
os.dup2(quiet, 1)


def reply(value):
    print(json.dumps(value), file=answers, flush=True)


try:
    import torch
    from kt_kernel import kt_kernel_ext as kt
except Exception as error:  # a build for another processor raises more than ImportError
    reply({"missing": str(error).splitlines()[0]})
    sys.exit(0)

# Its classes by our format, the best first; those named after AMX hold AVX-512 code for processors without it.
CLASSES = {
    "bf16": ["AMXBF16_MOE", "AVX2BF16_MOE"],
    "int8": ["AMXInt8_MOE"],
    "q8_0": ["AMXInt8_MOE"],
    "int4_g128": ["AMXInt4_MOE"],
    "q4_0": ["AMXInt4_MOE"],
}
FOUND = {f: next((c for c in cs if hasattr(kt.moe, c)), None) for f, cs in CLASSES.items()}
# Rows of input, as many as on the other side: different tokens meet different experts.
INPUT_ROWS = 64
MOST_TOKENS = 4096


class Experts:
    def __init__(self, pool, dModel, dFf, nExperts, topK, format):
        self.width, self.experts, self.top_k, self.pool = dModel, nExperts, topK, pool
        # Drawing takes longer than all runs: the experts get the same values, each in memory of its own.
        draw = lambda *shape: torch.randn(shape).mul(0.02).bfloat16().repeat(nExperts, 1, 1)
        gate, up, down = draw(dFf, dModel), draw(dFf, dModel), draw(dModel, dFf)
        config = kt.moe.MOEConfig(nExperts, topK, dModel, dFf, 0)
        config.max_len = MOST_TOKENS
        config.gate_proj, config.up_proj, config.down_proj = (w.data_ptr() for w in (gate, up, down))
        config.pool = pool.backend_
        self.module = getattr(kt.moe, FOUND[format])(config)
        order = torch.arange(nExperts, dtype=torch.int64)
        pool.submit(self.module.load_weights_task(order.data_ptr()))
        pool.sync()  # packed: the drawn weights may go
        self.inputs, self.tokens, self.turn = [], 0, 0

    def forward(self, tokens):
        if tokens != self.tokens:
            self.tokens = tokens
            self.inputs = [self.input(tokens) for _ in range(max(2, INPUT_ROWS // tokens))]
        self.turn += 1
        x, ids, weights = self.inputs[self.turn % len(self.inputs)]
        y = torch.empty_like(x)
        count = torch.tensor([tokens], dtype=torch.int32)
        pointers = [t.data_ptr() for t in (count, ids, weights, x, y)]
        start = time.perf_counter()
        task = self.module.forward_task(pointers[0], self.top_k, *pointers[1:], False)
        self.pool.submit(task)
        self.pool.sync()
        return time.perf_counter() - start

    def input(self, tokens):
        x = torch.randn(tokens, self.width).bfloat16()
        chosen = torch.rand(tokens, self.experts).topk(self.top_k)
        weights = torch.softmax(chosen.values, -1)
        return x, chosen.indices.contiguous(), weights.contiguous()


torch.manual_seed(0)
workers = kt.WorkerPoolConfig()
workers.subpool_count = 1
workers.subpool_numa_map = [0]
workers.subpool_thread_count = [int(sys.argv[1])]
pool = kt.CPUInfer(workers)
reply({"ready": True, "formats": [f for f, c in FOUND.items() if c], "train": False})
experts = None
for line in sys.stdin:
    request = json.loads(line)
    if "build" in request:
        experts = None  # two at once may not fit
        if request["build"]:
            experts = Experts(pool, **request["build"])
        reply({"ready": True})
    else:
        reply({"ms": 1000 * experts.forward(request["forward"])})
