#!/usr/bin/env python3
"""Microseconds a token of Hugging Face `generate` with static cache and compiled forward pass, for scale.

Random weights of a shape of models/llm/shapes.csv, made on the device; the static cache is filled with random rows,
so that `generate` goes on from a long context without a prefill. A shape is a process of its own: those that fit on the
device together compile side by side, then they are timed one after the other, alone. What is timed is `generate` itself:
the difference of a long and a short call, over the tokens by which they differ. Every shape has a time limit, and the JSON
is written whenever one ends; shapes that it has already are left alone (--fresh: are not). Needs torch and transformers.

    scripts/bench_hf_generate.py --batch 1,16 --context 4096,32768 --json gpu/llm/results/hf_generate_h200.json
"""
import argparse
import csv
import json
import os
import pathlib
import select
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
SHORT = 8  # tokens of the short call
SPARE_BYTES = 3 << 30  # of a process beside weights and cache


def shape_named(name):
    with open(ROOT / "models/llm/shapes.csv", encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if row["name"] == name:
                return {key: int(value) for key, value in row.items() if value.isdigit()}
    raise SystemExit(f"bench_hf_generate: no shape '{name}' in models/llm/shapes.csv")


def libraries():
    try:
        import torch
        import transformers
    except ImportError as error:
        print(f"bench_hf_generate: {error}; expected torch and transformers; install both with pip", file=sys.stderr)
        sys.exit(2)
    return torch, transformers


def model_of(shape, attention, device):
    torch, transformers = libraries()
    config = transformers.LlamaConfig(
        vocab_size=shape["vocab"], hidden_size=shape["hidden"], intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["n_layers"], num_attention_heads=shape["n_q_heads"],
        num_key_value_heads=shape["n_kv_heads"], head_dim=shape["head_dim"], max_position_embeddings=1 << 20,
        tie_word_embeddings=bool(shape["tied"]), dtype="bfloat16", bos_token_id=None, eos_token_id=None,
        attn_implementation=attention)
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config)
    model = model.to_empty(device=device).to(torch.bfloat16)
    rotary = model.model.rotary_emb  # its buffers were made on "meta" too
    model.model.rotary_emb = type(rotary)(config=config).to(device)
    generator = torch.Generator(device=device).manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.fill_(1)
    return model.eval()


def filled_cache(model, batch, context, room, device):
    torch, transformers = libraries()
    config = model.config
    cache = transformers.StaticCache(config=config, max_cache_len=context + room)
    cache.early_initialization(batch, config.num_key_value_heads, config.head_dim, torch.bfloat16, torch.device(device))
    for layer in cache.layers:
        layer.keys.normal_()
        layer.values.normal_()
    return cache


def run_one(options):
    """A process of one shape: compiles, says so, waits for its turn, prints its times."""
    torch, transformers = libraries()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch, context, attention = options.one.split(",")
    batch, context = int(batch), int(context)
    shape = shape_named(options.shape)
    shape["n_layers"] = options.layers or shape["n_layers"]
    model = model_of(shape, attention, device)
    cache = filled_cache(model, batch, context, SHORT + options.tokens + 8, device)
    ids = torch.randint(0, shape["vocab"], (batch, context), device=device)
    mask = torch.ones_like(ids)

    def generate(tokens):
        for layer in cache.layers:
            layer.cumulative_length.fill_(context - 1)
        if device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        with torch.no_grad():
            found = model.generate(ids, attention_mask=mask, past_key_values=cache, max_new_tokens=tokens,
                                   min_new_tokens=tokens, do_sample=False, pad_token_id=0)
        if device == "cuda":
            torch.cuda.synchronize()
        assert found.shape == (batch, context + tokens)
        return time.perf_counter() - begin

    compiling = generate(SHORT)
    generate(SHORT)
    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    generate(SHORT)
    samples = []
    for _ in range(options.samples):
        short = generate(SHORT)
        samples.append(1e6 * (generate(SHORT + options.tokens) - short) / options.tokens)
    print(json.dumps({"samples_us": samples, "first_call_s": compiling, "torch": torch.__version__,
                      "transformers": transformers.__version__,
                      "gpu": torch.cuda.get_device_name(0) if device == "cuda" else "none"}), flush=True)


class Child:
    """The process of one shape and attention."""

    def __init__(self, options, batch, context, attention, bytes_needed):
        self.row = {"batch": batch, "context": context, "attention": attention}
        self.bytes = bytes_needed
        command = [sys.executable, __file__, "--one", f"{batch},{context},{attention}", "--shape", options.shape,
                   "--layers", str(options.layers), "--tokens", str(options.tokens), "--samples", str(options.samples)]
        self.log = open(f"{options.log}.{batch}.{context}.{attention}", "w+", encoding="utf-8")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log, text=True)
        self.until = time.perf_counter() + options.shape_seconds
        self.is_ready = False

    def message(self, seconds):
        """The next line, or None when there is none yet. Ends the process at its limit."""
        left = self.until - time.perf_counter()
        if left <= 0:
            self.give_up("the time limit of a shape")
            return None
        if not select.select([self.process.stdout], [], [], max(0.0, min(seconds, left)))[0]:
            return None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            self.log.seek(0)
            said = [text for text in self.log.read().splitlines() if text.strip()]
            self.give_up(said[-1] if said else f"exit code {self.process.returncode}")
            return None
        return json.loads(line) if line.startswith("{") else None

    def give_up(self, why):
        self.row["left_out"] = why[:200]
        self.process.kill()
        self.close()

    def close(self):
        self.process.wait()
        for file in (self.process.stdin, self.process.stdout, self.log):
            file.close()

    @property
    def over(self):
        return "left_out" in self.row or "samples_us" in self.row

    def measure(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        while not self.over:
            found = self.message(1.0)
            if found and "samples_us" in found:
                self.row.update(found)
                self.row["median_us"] = statistics.median(found["samples_us"])
                self.close()


def free_bytes():
    """Of the device, by a tool of its driver; without one as much as one wants."""
    try:
        said = subprocess.run(["nvidia-smi", "--query-gpu=memory.free", "--format=csv,noheader,nounits"], check=True,
                              capture_output=True, text=True).stdout
        return int(said.split()[0]) << 20
    except (OSError, subprocess.CalledProcessError, IndexError, ValueError):
        return 1 << 50


def bytes_of(shape, batch, context):
    width = shape["head_dim"] * (2 * shape["n_q_heads"] + 2 * shape["n_kv_heads"])
    weights = 2 * (shape["n_layers"] * shape["hidden"] * (width + 3 * shape["intermediate"]) + 2 * shape["vocab"] * shape["hidden"])
    cache = 4 * shape["n_layers"] * shape["n_kv_heads"] * shape["head_dim"] * batch * context
    return weights + cache + SPARE_BYTES


class Report:
    def __init__(self, options, layers):
        self.path = options.json
        self.result = {"format": "stoat-hf-generate", "torch": "", "transformers": "", "gpu": "", "shape": options.shape,
                       "layers": layers, "attention": options.attention, "cache": "static, compiled", "rows": []}
        before = pathlib.Path(self.path) if self.path else None
        if before and before.exists() and not options.fresh:
            found = json.loads(before.read_text(encoding="utf-8"))
            for key in ("format", "shape", "layers", "attention", "cache"):
                if found.get(key) != self.result[key]:
                    raise SystemExit(f"bench_hf_generate: {before} has {key} {found.get(key)!r}, expected "
                                     f"{self.result[key]!r}; another --json, or --fresh")
            self.result = found
            found["rows"] = [row for row in found["rows"] if "samples_us" in row]

    def has(self, place):
        return any((row["batch"], row["context"], row["attention"]) == place for row in self.result["rows"])

    def add(self, row):
        for key in ("torch", "transformers", "gpu"):
            self.result[key] = row.pop(key, self.result[key])
        self.result["rows"].append(row)
        self.result["rows"].sort(key=lambda of: (of["batch"], of["context"], of["attention"]))
        print(f"{row['batch']:5} {row['context']:8} {row['attention']:<8} {row.get('median_us', 0):10.0f}  "
              f"{row.get('left_out', '')}", flush=True)
        if self.path:
            pathlib.Path(self.path).write_text(json.dumps(self.result, indent=1) + "\n", encoding="utf-8")


def run_all(options):
    shape = shape_named(options.shape)
    shape["n_layers"] = options.layers or shape["n_layers"]
    report = Report(options, shape["n_layers"])
    waiting = [(batch, context, attention) for batch in map(int, options.batch.split(","))
               for context in map(int, options.context.split(",")) for attention in options.attention.split(",")]
    waiting = [place for place in waiting if not report.has(place)]
    free, begin = free_bytes(), time.perf_counter()
    running = []
    print("batch  context attention  µs a token")
    try:
        while waiting or running:
            while waiting and len(running) < options.parallel:
                needed = bytes_of(shape, *waiting[0][:2])
                if running and needed > free - sum(child.bytes for child in running):
                    break
                at = waiting.pop(0)
                if needed > free or time.perf_counter() - begin > options.seconds:
                    report.add({"batch": at[0], "context": at[1], "attention": at[2],
                                "left_out": "does not fit" if needed > free else "no time was left"})
                    continue
                running.append(Child(options, *at, needed))
            for child in running:
                if not child.is_ready and not child.over:
                    child.is_ready = child.message(0.2 / len(running)) is not None
            if all(child.is_ready or child.over for child in running):  # the device is nobody's now
                for child in running:
                    if not child.over:
                        child.measure()
                    report.add(child.row)
                running = []
    finally:
        for child in running:
            child.give_up("interrupted")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="llama-3.1-8b")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--context", default="4096,32768")
    parser.add_argument("--attention", default="sdpa", help="implementations of transformers: sdpa, eager, ...")
    parser.add_argument("--tokens", type=int, default=32, help="tokens by which the two calls differ")
    parser.add_argument("--samples", type=int, default=3)
    parser.add_argument("--layers", type=int, default=0, help="other than the shape's, to try the script")
    parser.add_argument("--parallel", type=int, default=4, help="shapes that compile side by side")
    parser.add_argument("--shape-seconds", type=float, default=240, help="limit of a shape, from its start")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no shape after so many seconds")
    parser.add_argument("--log", default=os.path.join(tempfile.gettempdir(), "bench_hf_generate"), help="what the processes say goes to files of this name")
    parser.add_argument("--json", default="")
    parser.add_argument("--fresh", action="store_true", help="measure again what --json has")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    run_one(options) if options.one else run_all(options)


if __name__ == "__main__":
    main()
