"""The Llama-architecture byte model of models/llm/needle in PyTorch: exact prefill and training pass, decoding
with systematic sampling of the softmax, and the files. Part of train_needle.py.

Shape names: N tokens of a step, B texts, T bytes of a text, R rows computed by decoding.
"""
import json
import math
import os
import struct

import torch
import torch.nn.functional as F

LAYERS, WIDTH, QUERY_HEADS, KV_HEADS, HEAD_DIM, FEED_FORWARD, VOCABULARY = 4, 384, 8, 2, 128, 896, 256
ROPE_THETA, NORM_EPSILON, LONGEST = 1e6, 1e-5, 32768
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "stoat_tokenizer": "bytes",
    "hidden_size": WIDTH, "intermediate_size": FEED_FORWARD, "num_hidden_layers": LAYERS,
    "num_attention_heads": QUERY_HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD_DIM,
    "vocab_size": VOCABULARY, "max_position_embeddings": LONGEST, "rms_norm_eps": NORM_EPSILON,
    "rope_theta": ROPE_THETA, "rope_scaling": None, "hidden_act": "silu", "attention_bias": False,
    "mlp_bias": False, "tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None,
    "torch_dtype": "bfloat16",
}


def make_parameters(device):
    shapes = {"model.embed_tokens.weight": (VOCABULARY, WIDTH), "model.norm.weight": (WIDTH,)}
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        shapes[at + "input_layernorm.weight"] = shapes[at + "post_attention_layernorm.weight"] = (WIDTH,)
        shapes[at + "self_attn.q_proj.weight"] = (QUERY_HEADS * HEAD_DIM, WIDTH)
        for name in ("k", "v"):
            shapes[at + f"self_attn.{name}_proj.weight"] = (KV_HEADS * HEAD_DIM, WIDTH)
        shapes[at + "self_attn.o_proj.weight"] = (WIDTH, QUERY_HEADS * HEAD_DIM)
        shapes[at + "mlp.gate_proj.weight"] = shapes[at + "mlp.up_proj.weight"] = (FEED_FORWARD, WIDTH)
        shapes[at + "mlp.down_proj.weight"] = (WIDTH, FEED_FORWARD)
    source = torch.Generator().manual_seed(1)
    parameters = {}
    for name, shape in shapes.items():
        scale = 0.02 / math.sqrt(2 * LAYERS) if name.endswith(("o_proj.weight", "down_proj.weight")) else 0.02
        value = torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=source) * scale
        parameters[name] = value.to(device).requires_grad_()
    return parameters


def layer_weights(parameters, layer):
    at = f"model.layers.{layer}."
    before = ("input_layernorm", "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    after = ("self_attn.o_proj", "post_attention_layernorm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
    return tuple([parameters[at + name + ".weight"] for name in names] for names in (before, after))


def rms_norm(x, weight):
    return F.rms_norm(x, (x.size(-1),), weight, NORM_EPSILON)


def rope_tables(first, count, device):  # 2 x [count, HEAD_DIM / 2]
    frequency = ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2, device=device, dtype=torch.float64) / HEAD_DIM)
    angle = torch.outer(torch.arange(first, first + count, device=device, dtype=torch.float64), frequency)
    return angle.cos().float(), angle.sin().float()


def rotate(x, cos, sin):  # x [N, heads, HEAD_DIM]; halves are rotated against each other
    low, high = x.float().chunk(2, -1)
    cos, sin = cos.unsqueeze(1), sin.unsqueeze(1)
    return torch.cat([low * cos - high * sin, high * cos + low * sin], -1).to(x.dtype)


def before_attention(x, cos, sin, norm, wq, wk, wv, kind):  # x [N, WIDTH] -> q, k, v [N, heads, HEAD_DIM]
    y = rms_norm(x, norm).to(kind)
    q = F.linear(y, wq.to(kind)).view(-1, QUERY_HEADS, HEAD_DIM)
    k = F.linear(y, wk.to(kind)).view(-1, KV_HEADS, HEAD_DIM)
    v = F.linear(y, wv.to(kind)).view(-1, KV_HEADS, HEAD_DIM)
    return rotate(q, cos, sin), rotate(k, cos, sin), v


def after_attention(x, mixed, wo, norm, gate, up, down, kind):  # both [N, ...] -> [N, WIDTH]
    x = x + F.linear(mixed, wo.to(kind)).float()
    y = rms_norm(x, norm).to(kind)
    return x + F.linear(F.silu(F.linear(y, gate.to(kind))) * F.linear(y, up.to(kind)), down.to(kind)).float()


def text_loss(x, norm, table, target, weight, kind):
    logits = F.linear(rms_norm(x, norm).to(kind), table.to(kind)).float()
    loss = F.cross_entropy(logits, target, reduction="none")
    return (loss * weight).sum() / weight.sum()


class Model:
    """The forward pass. Tokens are flat ([N]) outside attention, so one compilation serves every length."""

    def __init__(self, parameters, device):
        self.parameters, self.device = parameters, device
        self.kind = torch.bfloat16 if device == "cuda" else torch.float32
        self.before, self.after, self.text_loss = before_attention, after_attention, text_loss

    def compile(self):
        self.before = torch.compile(before_attention, dynamic=False)
        self.after = torch.compile(after_attention, dynamic=False)
        self.text_loss = torch.compile(text_loss, dynamic=False)

    def attend(self, q, k, v, texts):  # causal, exact; [N, heads, HEAD_DIM] -> [N, WIDTH of the heads]
        q, k, v = (t.view(texts, -1, t.size(1), HEAD_DIM).transpose(1, 2) for t in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return mixed.transpose(1, 2).reshape(-1, QUERY_HEADS * HEAD_DIM)

    def trunk(self, tokens, cache=None):  # tokens [B, T] -> [N, WIDTH]; cache gets (k, v) [B, KV_HEADS, T, HEAD_DIM]
        texts, length = tokens.shape
        cos, sin = (t.repeat(texts, 1) for t in rope_tables(0, length, self.device))
        x = F.embedding(tokens.reshape(-1), self.parameters["model.embed_tokens.weight"])
        for layer in range(LAYERS):
            first, second = layer_weights(self.parameters, layer)
            q, k, v = self.before(x, cos, sin, *first, self.kind)
            if cache is not None:
                cache.append(tuple(t.view(texts, length, KV_HEADS, HEAD_DIM).transpose(1, 2) for t in (k, v)))
            x = self.after(x, self.attend(q, k, v, texts), *second, self.kind)
        return x

    def logits(self, x):
        x = rms_norm(x, self.parameters["model.norm.weight"])
        return F.linear(x, self.parameters["model.embed_tokens.weight"])

    @torch.no_grad()
    def prefill(self, tokens):
        cache = []
        self.trunk(tokens, cache)
        return cache

    @torch.no_grad()
    def decode(self, tokens, cache, budgets, source, participation=None, keep=False):
        """Logits [B, R, VOCABULARY] of tokens [B, R] after the cached ones; budgets: one S a layer, 0 dense.

        Row r sees what a step-by-step decode would: K and V of the rows before it come from sampled layers."""
        texts, rows = tokens.shape
        past = cache[0][0].size(2)
        cos, sin = (t.repeat(texts, 1) for t in rope_tables(past, rows, self.device))
        x = F.embedding(tokens.reshape(-1), self.parameters["model.embed_tokens.weight"])
        future = torch.ones(rows, rows, dtype=torch.bool, device=self.device).triu(1)
        for layer in range(LAYERS):
            first, second = layer_weights(self.parameters, layer)
            q, k, v = before_attention(x, cos, sin, *first, self.kind)
            k, v = (torch.cat([old, new.view(texts, rows, KV_HEADS, HEAD_DIM).transpose(1, 2)], 2)
                    for old, new in zip(cache[layer], (k, v)))
            if keep:
                cache[layer] = (k, v)
            q = q.view(texts, rows, KV_HEADS, -1, HEAD_DIM).permute(0, 2, 3, 1, 4)  # [B, KV_HEADS, group, R, ...]
            score = torch.einsum("bhgrd,bhtd->bhgrt", q.float(), k.float()) / math.sqrt(HEAD_DIM)
            score[..., past:].masked_fill_(future, -math.inf)
            weight = score.softmax(-1)
            if participation is not None:
                participation[layer].append((1 / weight.square().sum(-1)).flatten())
            if budgets[layer]:
                weight = systematic(weight, budgets[layer], source)
            mixed = torch.einsum("bhgrt,bhtd->brhgd", weight, v.float()).reshape(texts * rows, -1)
            x = after_attention(x, mixed.to(self.kind), *second, self.kind)
        return self.logits(x).view(texts, rows, -1)


def systematic(weight, budget, source):
    """Systematic sampling of each row of weight [..., T]: count / budget, with one offset a row."""
    ruler = weight.double().cumsum(-1)
    offset = torch.rand(ruler.shape[:-1] + (1,), generator=source, device=weight.device, dtype=torch.float64)
    ruler = torch.floor(ruler.mul_(budget / ruler[..., -1:]).add_(offset))
    ruler[..., -1] = budget
    return torch.diff(ruler, dim=-1, prepend=torch.zeros_like(offset)).float() / budget


def write_model(parameters, directory):
    header, blobs, at = {"__metadata__": {"format": "pt"}}, [], 0
    for name in sorted(parameters):
        value = parameters[name].detach().to(torch.bfloat16).cpu().contiguous()
        blob = value.view(torch.int16).numpy().tobytes()
        header[name] = {"dtype": "BF16", "shape": list(value.shape), "data_offsets": [at, at + len(blob)]}
        blobs.append(blob)
        at += len(blob)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(directory, "model.safetensors"), "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))
    with open(os.path.join(directory, "config.json"), "w", encoding="ascii") as out:
        json.dump(CONFIG, out, indent=2)
        out.write("\n")


def read_model(directory, device):
    with open(os.path.join(directory, "model.safetensors"), "rb") as file:
        data = file.read()
    size = struct.unpack("<Q", data[:8])[0]
    parameters = {}
    for name, entry in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            low, high = (8 + size + n for n in entry["data_offsets"])
            value = torch.frombuffer(bytearray(data[low:high]), dtype=torch.bfloat16)
            parameters[name] = value.view(entry["shape"]).float().to(device)
    return parameters
