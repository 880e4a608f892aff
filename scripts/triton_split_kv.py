"""Dense split-KV decode attention in Triton: the rival that stoat-bench's numbers are compared with.

One program takes a slice of the context for one KV head; its group's query heads fill the first rows of a 16-row tile,
so that both products run on tensor cores. A second kernel joins the slices. bf16, context a multiple of the tile.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def split_kernel(q, k, v, out, partial, stats, context, chunk, batch_stride, token_stride, head_stride, scale_log2,
                 KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK: tl.constexpr,
                 ALONE: tl.constexpr):
    split, splits = tl.program_id(0), tl.num_programs(0)
    sequence, head = tl.program_id(1) // KV_HEADS, tl.program_id(1) % KV_HEADS
    rows, dims = tl.arange(0, 16), tl.arange(0, HEAD_DIM)
    query_head = (sequence * KV_HEADS + head) * GROUP + rows
    live = rows < GROUP
    query = tl.load(q + query_head[:, None] * HEAD_DIM + dims[None, :], mask=live[:, None], other=0.0)
    base = sequence.to(tl.int64) * batch_stride + head.to(tl.int64) * head_stride
    begin = split * chunk
    end = tl.minimum(begin + chunk, context)
    top = tl.full([16], -float("inf"), tl.float32)
    total = tl.zeros([16], tl.float32)
    sums = tl.zeros([16, HEAD_DIM], tl.float32)
    for start in range(begin, end, BLOCK):
        token = (start + tl.arange(0, BLOCK)).to(tl.int64) * token_stride
        keys = tl.load(k + base + token[None, :] + dims[:, None])
        x = tl.dot(query, keys) * scale_log2
        new_top = tl.maximum(top, tl.max(x, 1))
        weight = tl.exp2(x - new_top[:, None])
        shrink = tl.exp2(top - new_top)
        total = total * shrink + tl.sum(weight, 1)
        values = tl.load(v + base + token[:, None] + dims[None, :])
        sums = tl.dot(weight.to(values.dtype), values, sums * shrink[:, None])
        top = new_top
    if ALONE:
        tl.store(out + query_head[:, None] * HEAD_DIM + dims[None, :], (sums / total[:, None]).to(tl.bfloat16),
                 mask=live[:, None])
    else:
        slot = query_head * splits + split
        tl.store(partial + slot[:, None] * HEAD_DIM + dims[None, :], sums, mask=live[:, None])
        tl.store(stats + slot * 2, top, mask=live)
        tl.store(stats + slot * 2 + 1, total, mask=live)


@triton.jit
def combine_kernel(out, partial, stats, splits, HEAD_DIM: tl.constexpr, SPLITS: tl.constexpr):
    head = tl.program_id(0)
    split, dims = tl.arange(0, SPLITS), tl.arange(0, HEAD_DIM)
    live = split < splits
    slot = head * splits + split
    top = tl.load(stats + slot * 2, mask=live, other=-float("inf"))
    total = tl.load(stats + slot * 2 + 1, mask=live, other=0.0)
    weight = tl.exp2(top - tl.max(top, 0))
    sums = tl.load(partial + slot[:, None] * HEAD_DIM + dims[None, :], mask=live[:, None], other=0.0)
    result = tl.sum(sums * weight[:, None], 0) / tl.sum(total * weight, 0)
    tl.store(out + head * HEAD_DIM + dims, result.to(tl.bfloat16))


# (tile, warps, stages); those that do not fit a multiprocessor are passed over.
CONFIGS = [(64, 4, 3), (64, 4, 6), (128, 4, 3), (128, 8, 3), (128, 8, 2)]
WAVES = [132, 264, 528]  # programs aimed at, for 132 multiprocessors


class SplitKv:
    """One launch set-up for a shape and a configuration. k, v: [batch, context, kv_heads, head_dim]."""

    def __init__(self, batch, q_heads, kv_heads, context, head_dim, config, splits):
        self.block, self.warps, self.stages = config
        if context % self.block:
            raise ValueError(f"context {context} is not a multiple of the tile {self.block}")
        self.group, self.heads, self.kv_heads, self.head_dim = q_heads // kv_heads, batch * q_heads, kv_heads, head_dim
        self.context, self.batch = context, batch
        self.chunk = triton.cdiv(triton.cdiv(context, splits), self.block) * self.block
        self.splits = triton.cdiv(context, self.chunk)
        self.scale_log2 = head_dim ** -0.5 * 1.4426950408889634
        self.partial = torch.empty(self.heads, self.splits, head_dim, dtype=torch.float32, device="cuda")
        self.stats = torch.empty(self.heads, self.splits, 2, dtype=torch.float32, device="cuda")
        self.out = torch.empty(batch, q_heads, head_dim, dtype=torch.bfloat16, device="cuda")

    def name(self):
        return f"tile {self.block}, {self.warps} warps, {self.stages} stages, {self.splits} splits"

    def __call__(self, q, k, v):
        split_kernel[(self.splits, self.batch * self.kv_heads)](
            q, k, v, self.out, self.partial, self.stats, self.context, self.chunk,
            k.stride(0), k.stride(1), k.stride(2), self.scale_log2, KV_HEADS=self.kv_heads, GROUP=self.group,
            HEAD_DIM=self.head_dim, BLOCK=self.block, ALONE=self.splits == 1, num_warps=self.warps,
            num_stages=self.stages)
        if self.splits > 1:
            combine_kernel[(self.heads,)](self.out, self.partial, self.stats, self.splits, HEAD_DIM=self.head_dim,
                                          SPLITS=triton.next_power_of_2(self.splits), num_warps=4)
        return self.out


def candidates(batch, q_heads, kv_heads, context, head_dim):
    """Every configuration with every split count that is worth a try in this shape."""
    counts = sorted({max(1, min(wave // (batch * kv_heads), context // 128)) for wave in WAVES})
    for config in CONFIGS:
        for splits in counts:
            yield SplitKv(batch, q_heads, kv_heads, context, head_dim, config, splits)
