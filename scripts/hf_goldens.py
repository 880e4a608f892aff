#!/usr/bin/env python3
"""Writes tests/models/llm/golden/hf/: tiny random models of every architecture with head_dim 64 or 128, and what Hugging
Face transformers answers for them. Run by hand; stoat's own programs write nothing of it.

    pip install torch transformers safetensors && python3 scripts/hf_goldens.py [--device cuda] [--out FOLDER]

The truth is the model in double with the KV cache rounded to bf16, as stoat stores it: 32 greedy tokens for prompts of
1 to 2000 tokens, logits of some steps. Beside it the same tokens through transformers' bf16 with two of its attention
backends: how far they are from the truth is what a bf16 implementation may be.
"""
import argparse
import json
import pathlib

import torch
import transformers
from transformers import (DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config,
                          Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM)

SHAPE = dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
             head_dim=64, vocab_size=120, max_position_embeddings=4096, initializer_range=0.1, bos_token_id=None,
             eos_token_id=None, pad_token_id=None)
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=256)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, original_max_position_embeddings=512)
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=LLAMA3)),
    "llama_yarn": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=YARN, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**{**SHAPE, "head_dim": 128}, sliding_window=None)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**{**SHAPE, "hidden_size": 128}, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)),
}
PROMPTS = (1, 17, 300, 2000)
NEW_TOKENS = 32
LOGIT_STEPS = (0, 1, 16, 31)
BACKENDS = ("eager", "sdpa")


class Bf16Cache(DynamicCache):
    """Keeps K and V as bf16 would."""

    def update(self, key_states, value_states, *args, **kwargs):
        def rounded(x):
            return x.to(torch.float32).to(torch.bfloat16).to(x.dtype)
        return super().update(rounded(key_states), rounded(value_states), *args, **kwargs)


def save_model(folder, make):
    torch.manual_seed(20)
    model = make().to(torch.bfloat16).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif key.endswith("bias"):
                parameter.copy_(0.5 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    return type(model)


def decode(model, prompt, forced=None):
    """Greedy tokens, or the forced ones; logits of LOGIT_STEPS."""
    device = next(model.parameters()).device
    cache, tokens, chosen, logits = Bf16Cache(), torch.tensor([prompt], device=device), [], []
    with torch.no_grad():
        for step in range(NEW_TOKENS):
            row = model(tokens, past_key_values=cache, use_cache=True).logits[0, -1]
            if step in LOGIT_STEPS:
                logits.append([float(f"{v:.8g}") for v in row.double().cpu()])
            chosen.append(int(row.argmax()) if forced is None else forced[step])
            tokens = torch.tensor([[chosen[-1]]], device=device)
    return chosen, logits


def write_model(folder, make, device):
    cls = save_model(folder, make)
    exact = cls.from_pretrained(folder, dtype=torch.float64).eval()
    rough = {name: cls.from_pretrained(folder, dtype=torch.bfloat16, attn_implementation=name).eval().to(device)
             for name in BACKENDS}
    generator = torch.Generator().manual_seed(7)
    cases = []
    for length in PROMPTS:
        prompt = [int(t) for t in torch.randint(0, exact.config.vocab_size, (length,), generator=generator)]
        tokens, logits = decode(exact, prompt)
        case = {"prompt": prompt, "tokens": tokens, "logits": logits, "bf16": {}}
        for name, model in rough.items():
            rows = torch.tensor(decode(model, prompt, tokens)[1], dtype=torch.float64)
            truth = torch.tensor(logits, dtype=torch.float64)
            distance = ((rows - truth).norm(dim=1) / truth.norm(dim=1)).tolist()
            case["bf16"][name] = [float(f"{d:.6g}") for d in distance]
        cases.append(case)
    text = json.dumps({"logit_steps": LOGIT_STEPS, "cases": cases})
    (folder / "expected.json").write_text(text + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = pathlib.Path(__file__).resolve().parent.parent / "tests/models/llm/golden/hf"
    parser.add_argument("--out", type=pathlib.Path, default=default)
    parser.add_argument("--device", default="cpu", help="of the bf16 runs")
    args = parser.parse_args()
    for name, make in MODELS.items():
        write_model(args.out / name, make, args.device)
    (args.out / "versions.json").write_text(json.dumps(
        {"torch": torch.__version__, "transformers": transformers.__version__, "bf16_device": args.device}) + "\n")


if __name__ == "__main__":
    main()
