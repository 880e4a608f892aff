#!/usr/bin/env python3
"""Times our kernels and the dense kernels a user could pick, in one run on one GPU, and says who is faster where.

Peers: PyTorch SDPA with cuDNN and with flash, and a Triton split-KV (triton_split_kv.py) at the best of its
configurations. Each is checked against float64 before it is timed. The method is stoat-bench's: a CUDA graph of as many
steps as a model has layers, which rotate over at least 640 MB of K and V, 3 warm-up and 50 timed replays, replay time /
steps. Needs PyTorch and Triton. Writes JSON (every sample) and CSV (percentiles); the table goes to stdout.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import gpu_results  # noqa: E402

Q_HEADS, KV_HEADS, HEAD_DIM = 32, 8, 128
ROTATED_BYTES = 640 << 20
WALKED_BYTES = 64 << 30  # by a graph, at most
WARM_UPS = 3
ERROR_BOUND = 5e-3  # a bf16 kernel's relative error against float64: 2e-3 to 4e-3


class Shape:
    """Views of one big K and one big V buffer as `pairs` K/V pairs of a shape."""

    def __init__(self, torch, buffers, batch, context, steps):
        self.torch, self.batch, self.context = torch, batch, context
        self.key_bytes = 2 * batch * context * KV_HEADS * HEAD_DIM
        self.pairs = pairs_of(batch, context)
        self.steps = steps or steps_of_graph(batch, context)
        self.keys, self.values = buffers
        self.q = torch.randn(self.pairs, batch, Q_HEADS, HEAD_DIM, device="cuda").to(torch.bfloat16)

    def pair(self, index, layout):
        """K and V of a pair, as [batch, context, kv_heads, head_dim] whatever the order in memory."""
        count = self.batch * self.context * KV_HEADS * HEAD_DIM
        parts = [buffer[index * count:(index + 1) * count] for buffer in (self.keys, self.values)]
        if layout == "NHD":
            return [part.view(self.batch, self.context, KV_HEADS, HEAD_DIM) for part in parts]
        return [part.view(self.batch, KV_HEADS, self.context, HEAD_DIM).transpose(1, 2) for part in parts]

    def reference(self, layout):
        """Attention of pair 0 in float64. [batch, q_heads, head_dim]"""
        torch, (k, v) = self.torch, self.pair(0, layout)
        out = []
        for b in range(self.batch):
            q = self.q[0, b].double().view(KV_HEADS, Q_HEADS // KV_HEADS, HEAD_DIM)
            p = torch.softmax(q @ k[b].double().permute(1, 2, 0) * HEAD_DIM ** -0.5, -1)
            out.append((p @ v[b].double().transpose(0, 1)).reshape(Q_HEADS, HEAD_DIM))
        return torch.stack(out)


def pairs_of(batch, context):
    pair = 4 * batch * context * KV_HEADS * HEAD_DIM
    return min(max(-(-ROTATED_BYTES // pair), 2), 64)


def steps_of_graph(batch, context):
    """As stoat-bench's."""
    pair = 4 * batch * context * KV_HEADS * HEAD_DIM
    return max(min(max(WALKED_BYTES // pair, 4), 32), pairs_of(batch, context))


def sdpa(torch, backend):
    from torch.nn.attention import SDPBackend, sdpa_kernel
    chosen = {"cuDNN": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}[backend]

    def attention(q, k, v):
        with sdpa_kernel(chosen):
            out = torch.nn.functional.scaled_dot_product_attention(
                q[:, :, None], k.transpose(1, 2), v.transpose(1, 2), enable_gqa=True)
        return out[:, :, 0]
    return attention


def time_graph(torch, shape, layout, attention, replays):
    """Microseconds of one step, a number a replay."""
    inputs = [(shape.q[i], *shape.pair(i, layout)) for i in range(shape.pairs)]
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(2):
            attention(*inputs[0])
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for step in range(shape.steps):
            attention(*inputs[step % shape.pairs])
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    samples = []
    for i in range(WARM_UPS + replays):
        begin.record()
        graph.replay()
        end.record()
        end.synchronize()
        if i >= WARM_UPS:
            samples.append(round(1000 * begin.elapsed_time(end) / shape.steps, 3))
    return samples


def sm_clock(torch):
    try:
        return torch.cuda.clock_rate()
    except (ModuleNotFoundError, RuntimeError):
        return 0  # not known: pynvml is missing


def relative_error(shape, layout, attention, reference):
    out = attention(shape.q[0], *shape.pair(0, layout)).double()
    return float((out - reference).norm() / reference.norm())


def best_triton(torch, shape, reference, replays):
    """The fastest configuration that is right, by a short run each."""
    import triton_split_kv
    best, refused = None, []
    for kernel in triton_split_kv.candidates(shape.batch, Q_HEADS, KV_HEADS, shape.context, HEAD_DIM):
        try:
            error = relative_error(shape, "NHD", kernel, reference)
            if not error <= ERROR_BOUND:
                raise RuntimeError(f"relative error {error}")
            median = gpu_results.quantile(time_graph(torch, shape, "NHD", kernel, replays), 0.5)
        except Exception as problem:  # too much shared memory: Triton says so in several ways
            refused.append(f"{kernel.name()}: {str(problem).splitlines()[0][:100]}")
            continue
        if best is None or median < best[0]:
            best = (median, kernel)
    if best is None:
        raise RuntimeError("; ".join(refused))
    return best[1]


def measure_shape(torch, buffers, batch, context, steps, replays, say):
    shape = Shape(torch, buffers, batch, context, steps)
    references = {layout: shape.reference(layout) for layout in ("NHD", "HND")}
    rows = []
    peers = [("SDPA cuDNN", "NHD", lambda: sdpa(torch, "cuDNN")), ("SDPA cuDNN", "HND", lambda: sdpa(torch, "cuDNN")),
             ("SDPA flash", "NHD", lambda: sdpa(torch, "flash")),
             ("Triton split-KV", "NHD", lambda: best_triton(torch, shape, references["NHD"], 6))]
    for name, layout, make in peers:
        row = {"kernel": name, "by": "peer", "batch": batch, "context": context, "q_heads": Q_HEADS,
               "kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "element": "bf16", "kv_layout": layout,
               "steps_per_graph": shape.steps, "rotated_bytes": min(shape.steps, shape.pairs) * 2 * shape.key_bytes,
               "must_read_bytes": 2 * shape.key_bytes}
        try:
            attention = make()
            row["relative_error"] = relative_error(shape, layout, attention, references[layout])
            if not row["relative_error"] <= ERROR_BOUND:
                raise RuntimeError(f"relative error {row['relative_error']}")
            samples = time_graph(torch, shape, layout, attention, replays)
        except RuntimeError as problem:
            say(f"{name} {layout}, batch {batch}, {context} tokens: left out, {str(problem).splitlines()[0]}")
            continue
        if hasattr(attention, "name"):
            row["configuration"] = attention.name()
        row.update(sm_mhz=sm_clock(torch), **gpu_results.percentiles(samples), samples_us=samples)
        rows.append(row)
        print(f"{batch:>5} {context:>7}  {name + ' ' + layout:<24} {row['p10_us']:>9.2f} {row['median_us']:>9.2f} "
              f"{row['p90_us']:>9.2f}  {row.get('configuration', '')}", flush=True)
    return rows


def measure_peers(batches, contexts, steps, replays, say):
    import torch
    import triton
    torch.manual_seed(20261122)
    count = max(pairs_of(b, c) * b * c for b in batches for c in contexts) * KV_HEADS * HEAD_DIM
    buffers = [torch.randn(count, dtype=torch.bfloat16, device="cuda") for _ in range(2)]
    rows, start, total, done = [], time.monotonic(), sum(b * c for b in batches for c in contexts), 0
    for batch in batches:
        for context in contexts:
            rows += measure_shape(torch, buffers, batch, context, steps, replays, say)
            done += batch * context
            say(f"peers: {100 * done / total:.0f} %, {time.monotonic() - start:.0f} s")
    versions = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "triton": triton.__version__}
    return versions, rows


def measure_ours(bench, batches, contexts, steps, replays, extra):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "own.json")
        subprocess.run([bench, "--batches", ",".join(map(str, batches)), "--contexts", ",".join(map(str, contexts)),
                        "--replays", str(replays), "--steps", str(steps), "--json", path, *extra], check=True)
        return json.loads(path.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="the program stoat-bench")
    parser.add_argument("--batches", default="1,4,16")
    parser.add_argument("--contexts", default="4096,8192,16384,32768,65536,131072")
    parser.add_argument("--replays", type=int, default=50)
    parser.add_argument("--steps", type=int, default=0, help="of a graph (0: 32, fewer of large shapes)")
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("--csv", type=pathlib.Path)
    parser.add_argument("rest", nargs="*", help="further arguments for stoat-bench, after --")
    arguments = parser.parse_args()
    batches, contexts = [[int(x) for x in text.split(",")] for text in (arguments.batches, arguments.contexts)]

    def say(text):
        print(text, file=sys.stderr, flush=True)

    # Ours run in a process of their own, first: two owners of 17 GB each would fit, but need not.
    own = measure_ours(os.path.abspath(arguments.bench), batches, contexts, arguments.steps, arguments.replays,
                       arguments.rest)
    for row in own["rows"]:
        row["by"] = "stoat"
    versions, rows = measure_peers(batches, contexts, arguments.steps, arguments.replays, say)
    result = {**own, "format": "stoat-decode-comparison", "peer_versions": versions, "rows": own["rows"] + rows,
              "command": " ".join(["bench_peers.py", *(word.rsplit("/", 1)[-1] for word in sys.argv[1:])])}
    if arguments.json:
        gpu_results.write_json(arguments.json, result)
    if arguments.csv:
        gpu_results.write_csv(arguments.csv, result["rows"], gpu_results.TIMING_COLUMNS)
    print()
    print(gpu_results.verdict_text(gpu_results.verdicts(result["rows"])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
