#!/usr/bin/env python3
"""Writes golden/: tiny random models and tokenizers, and what Hugging Face's libraries answer for them.

    pip install torch transformers tokenizers safetensors && python3 tests/models/llm/make_goldens.py

The models run in double; only the KV cache is rounded to bf16, as stoat stores it. Versions used are in golden/versions.json.
"""
import json
import pathlib

import tokenizers
import torch
import transformers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (DynamicCache, LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config,
                          Qwen3ForCausalLM)

HERE = pathlib.Path(__file__).resolve().parent / "golden"
SHAPE = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             vocab_size=61, max_position_embeddings=512, initializer_range=0.25, bos_token_id=None, eos_token_id=2,
             pad_token_id=None)
LLAMA3_ROPE = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=64)
MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SHAPE, rope_parameters=LLAMA3_ROPE)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SHAPE, tie_word_embeddings=True)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**SHAPE, head_dim=12, rms_norm_eps=1e-5)),
}


class Bf16Cache(DynamicCache):
    """Keeps K and V as bf16 would."""

    def update(self, key_states, value_states, *args, **kwargs):
        def rounded(x):
            return x.to(torch.float32).to(torch.bfloat16).to(x.dtype)
        return super().update(rounded(key_states), rounded(value_states), *args, **kwargs)


def write_model(name, make):
    torch.manual_seed(20)
    model = make().to(torch.bfloat16).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if "norm" in key:
                parameter.copy_(1 + 0.3 * torch.randn_like(parameter))
            elif key.endswith("bias"):
                parameter.copy_(0.5 * torch.randn_like(parameter))
    folder = HERE / name
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    (folder / "model.safetensors").chmod(0o644)
    # Read again: to(bfloat16) above has rounded the rotary frequencies too, which from_pretrained does not.
    model = type(model).from_pretrained(folder, dtype=torch.float64).eval()
    prompt = [int(t) for t in torch.randint(0, SHAPE["vocab_size"], (150,))]
    cache, tokens, logits = Bf16Cache(), torch.tensor([prompt]), []
    with torch.no_grad():
        for _ in range(24):
            row = model(tokens, past_key_values=cache, use_cache=True).logits[0, -1]
            logits.append([float(f"{v:.9g}") for v in row])
            tokens = row.argmax().reshape(1, 1)
    (folder / "expected.json").write_text(json.dumps({"prompt": prompt, "logits": logits}) + "\n")


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
TEXTS = [
    "", " ", "Hello world", "hello  world   again", " 12345", "=1;", "don't DON'T we'll I've they're", "x=1;\n\n  y = 22\n",
    "tabs\tand\r\nnewlines\n\n\n  end ", "   ", "\n", "1234567890 12 1", "déjà vu naïve Ünïcödé", "日本語のテキスト、漢字", "Привет, мир!",
    "emoji 😀👍 mixed", "a\u00a0b\u3000c\u2003d\u2009e", "line\u2028sep\u0085nel", "snake_case camelCase kebab-case", "((([[[{{{}}}]]])))",
    "http://example.org/a?b=c&d=%20", "<|begin|>text<|end|>", "a<|end|><|end|>b", "<|end", "ſ's 'S 'ſ", "don’t", "\x00\x01\x7f",
    "if (x == 0) { return -1; }  // done", "The quick brown fox jumps over the lazy dog. " * 3, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "\U0001f1e9\U0001f1ea flags", "١٢٣ ٤٥", "²³ ½", "... --- ...", "end with spaces   ",
]


def write_tokenizer(name, tokenizer, texts):
    trainer = trainers.BpeTrainer(vocab_size=420, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([pathlib.Path(__file__).read_text()] + TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken("<|begin|>", special=True), AddedToken("<|end|>", special=True)])
    if name == "tokenizer_llama3":
        begin = tokenizer.token_to_id("<|begin|>")
        tokenizer.post_processor = processors.Sequence([
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A <|begin|> $B",
                                          special_tokens=[("<|begin|>", begin)])])
    path = HERE / f"{name}.json"
    tokenizer.save(str(path), pretty=False)
    fresh = Tokenizer.from_file(str(path))
    expected = [{"text": t, "ids": fresh.encode(t, add_special_tokens=False).ids,
                 "with_special": fresh.encode(t).ids} for t in texts]
    (HERE / f"{name}.expected.json").write_text(json.dumps(expected, ensure_ascii=True) + "\n")


def split_tokenizer(pattern, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def main():
    HERE.mkdir(exist_ok=True)
    for name, make in MODELS.items():
        write_model(name, make)
    write_tokenizer("tokenizer_llama3", split_tokenizer(LLAMA3, ignore_merges=True), TEXTS)
    qwen = split_tokenizer(QWEN2)
    qwen.normalizer = normalizers.NFC()
    write_tokenizer("tokenizer_qwen2", qwen, [t for t in TEXTS if not any(0x600 <= ord(c) < 0x700 for c in t)])
    gpt2 = Tokenizer(models.BPE())
    gpt2.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    gpt2.decoder = decoders.ByteLevel()
    write_tokenizer("tokenizer_gpt2", gpt2, TEXTS)
    (HERE / "versions.json").write_text(json.dumps(
        {"torch": torch.__version__, "transformers": transformers.__version__, "tokenizers": tokenizers.__version__}) + "\n")


if __name__ == "__main__":
    main()
