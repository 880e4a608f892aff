#!/usr/bin/env python3
"""Microseconds a token of Hugging Face `generate` with static cache and compiled forward pass, for scale.

Random weights of a shape of models/llm/shapes.csv, made on the device; random prompts. `generate` itself is timed: a
stopping criterion notes the time of every token (it is called after `generate` has read the token back), the first
ones are left out. Writes JSON beside that of `stoat-capture bench`. Needs torch and transformers.

    scripts/bench_hf_generate.py --batch 1,16 --context 4096,32768 --json gpu/llm/results/hf_generate_h200.json
"""
import argparse
import csv
import json
import pathlib
import statistics
import sys
import time

try:
    import torch
    import transformers
    from transformers import LlamaConfig, LlamaForCausalLM, StoppingCriteria, StoppingCriteriaList
except ImportError as error:
    if {"-h", "--help"} & set(sys.argv):
        sys.exit(print(__doc__))
    print(f"bench_hf_generate: {error}; expected torch and transformers; install both with pip", file=sys.stderr)
    sys.exit(2)

ROOT = pathlib.Path(__file__).resolve().parent.parent
SKIPPED = 6  # tokens before the clock counts: prefill, compilation, warm-up


class Clock(StoppingCriteria):
    """Notes the time of every token; never stops."""

    def __init__(self):
        self.times = []

    def __call__(self, input_ids, scores, **kwargs):
        if input_ids.is_cuda:
            torch.cuda.synchronize()
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool, device=input_ids.device)


def shape_named(name):
    with open(ROOT / "models/llm/shapes.csv", encoding="utf-8") as file:
        for row in csv.DictReader(line for line in file if not line.startswith("#")):
            if row["name"] == name:
                return {key: int(value) for key, value in row.items() if value.isdigit()}
    raise SystemExit(f"bench_hf_generate: no shape '{name}' in models/llm/shapes.csv")


def model_of(shape, device):
    config = LlamaConfig(
        vocab_size=shape["vocab"], hidden_size=shape["hidden"], intermediate_size=shape["intermediate"],
        num_hidden_layers=shape["n_layers"], num_attention_heads=shape["n_q_heads"],
        num_key_value_heads=shape["n_kv_heads"], head_dim=shape["head_dim"], max_position_embeddings=1 << 20,
        tie_word_embeddings=bool(shape["tied"]), dtype="bfloat16", bos_token_id=None, eos_token_id=None)
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
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


def time_tokens(model, batch, context, tokens, device):
    """Seconds of every token after the first ones."""
    torch.compiler.reset()
    ids = torch.randint(0, model.config.vocab_size, (batch, context), device=device)
    clock = Clock()
    with torch.no_grad():
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=SKIPPED + tokens + 1,
                       min_new_tokens=SKIPPED + tokens + 1, do_sample=False, cache_implementation="static",
                       prefill_chunk_size=min(context, 4096), pad_token_id=0,
                       stopping_criteria=StoppingCriteriaList([clock]))
    times = clock.times[SKIPPED:]
    return [later - earlier for earlier, later in zip(times, times[1:])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", default="llama-3.1-8b")
    parser.add_argument("--batch", default="1,16")
    parser.add_argument("--context", default="4096,32768")
    parser.add_argument("--tokens", type=int, default=24, help="tokens that count")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no row after so many seconds")
    parser.add_argument("--layers", type=int, default=0, help="other than the shape's, to try the script")
    parser.add_argument("--json", default="")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    begin = time.perf_counter()
    shape = shape_named(options.shape)
    if options.layers:
        shape["n_layers"] = options.layers
    model = model_of(shape, device)
    result = {"format": "stoat-hf-generate", "torch": torch.__version__, "transformers": transformers.__version__,
              "gpu": torch.cuda.get_device_name(0) if device == "cuda" else "none", "shape": options.shape,
              "layers": shape["n_layers"], "attention": model.config._attn_implementation,
              "cache": "static, compiled", "rows": []}
    print("batch  context     µs a token")
    for batch in map(int, options.batch.split(",")):
        for context in map(int, options.context.split(",")):
            row = {"batch": batch, "context": context}
            if time.perf_counter() - begin > options.seconds:
                row["left_out"] = "no time was left"
            else:
                try:
                    seconds = time_tokens(model, batch, context, options.tokens, device)
                    row["samples_us"] = [1e6 * value for value in seconds]
                    row["median_us"] = statistics.median(row["samples_us"])
                except torch.OutOfMemoryError as error:
                    row["left_out"] = str(error).split(". ")[0]
                except (RuntimeError, AssertionError) as error:  # one shape that fails takes no other with it
                    row["left_out"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
                if device == "cuda":
                    torch.cuda.empty_cache()
            result["rows"].append(row)
            print(f"{batch:5} {context:8}  {row.get('median_us', 0):10.0f}  {row.get('left_out', '')}", flush=True)
            if options.json:
                pathlib.Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
