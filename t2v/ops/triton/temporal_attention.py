"""Attention over frames, forward and backward, in place of storage (B, F, N, heads, D).

One program takes every frame of a few pixels and one head, so each tensor is read from memory once and the softmax
needs no second pass; neighbouring programs take the heads of the same pixels, whose bytes are neighbours. Its tile has
R = PX * FP rows, row = pixel * FP + frame, and scores between pixels are masked: the matrix units have time to spare,
memory has none. Queries are taken QR rows at a time, and a head in parts of W columns, the last one masked: 160 is
five times 32, not padded to 256. Parts of one width share their registers for addresses; of two they spill.
"""

import torch
import triton
import triton.language as tl

from t2v.ops.triton.configs import AttentionConfig, attention_config
from t2v.ops.triton.tuned import attention_key, chosen

FORBIDDEN = tl.constexpr(-1e30)  # finite, so that a row of it has no NaN


@triton.constexpr_function
def _at_once(D, W, dtype):
    """Parts of a head whose code stands side by side: all in half precision, one in float32, where more would spill."""
    return (D + W - 1) // W if dtype.primitive_bitwidth == 16 else 1


@triton.jit
def _place(tile, start, ROWS: tl.constexpr, FP: tl.constexpr, PX: tl.constexpr, F, N):
    """Frame, pixel, validity and index into (B, F, N) of rows start, ... start + ROWS of a tile."""
    row = start + tl.arange(0, ROWS)
    tiles = tl.cdiv(N, PX)
    frame, pixel = (row, tile % tiles + tl.zeros_like(row)) if PX == 1 else (row % FP, tile % tiles * PX + row // FP)
    return frame, pixel, (frame < F) & (pixel < N), (tile // tiles * F + frame).to(tl.int64) * N + pixel


@triton.jit
def _columns(valid, part, W: tl.constexpr, D: tl.constexpr):
    """Columns of a part of a head, and which elements are inside."""
    column = part * W + tl.arange(0, W)
    inside = valid[:, None]
    if D % W:
        inside = inside & (column < D)[None, :]
    return column[None, :], inside


@triton.jit
def _load(x, offsets, valid, part, W: tl.constexpr, D: tl.constexpr):
    column, inside = _columns(valid, part, W, D)
    return tl.load(x + offsets[:, None] + column, mask=inside, other=0.0)


@triton.jit
def _store_product(x, offsets, valid, a, b, part, W: tl.constexpr, D: tl.constexpr):
    """x = a b."""
    column, inside = _columns(valid, part, W, D)
    product = tl.dot(a, b, input_precision="ieee")
    tl.store(x + offsets[:, None] + column, product.to(x.dtype.element_ty), mask=inside)


@triton.jit
def _products(
    x, offsets_x, valid_x, y, offsets_y, valid_y, M: tl.constexpr, R: tl.constexpr, W: tl.constexpr,
    D: tl.constexpr,
):  # fmt: skip
    """x y^T, (M, R), summed over the parts of a head."""
    product = tl.zeros((M, R), tl.float32)
    for i in tl.range(0, (D + W - 1) // W, loop_unroll_factor=_at_once(D, W, x.dtype.element_ty)):
        part = tl.trans(_load(y, offsets_y, valid_y, i, W, D))
        product = tl.dot(_load(x, offsets_x, valid_x, i, W, D), part, product, input_precision="ieee")
    return product


@triton.jit
def _restrict(
    scores, bias, mask, head, batch, frame_q, pixel_q, frame_k, pixel_k, F, N, PX: tl.constexpr, CAUSAL, BIAS, MASK
):  # fmt: skip
    """Scores with the bias, FORBIDDEN where nothing is attended to; frames and pixels broadcast to their shape."""
    if BIAS:
        known = (frame_q < F) & (frame_k < F)
        scores += tl.load(bias + head * F * F + frame_q * F + frame_k, mask=known, other=0.0).to(tl.float32)
    allowed = frame_k < F
    if PX > 1:
        allowed = allowed & (pixel_q == pixel_k) & (pixel_k < N)
    if CAUSAL:
        allowed = allowed & (frame_k <= frame_q)
    if MASK:
        allowed = allowed & (tl.load(mask + batch * F + frame_k, mask=frame_k < F, other=0) != 0)
    return tl.where(allowed, scores, FORBIDDEN)


@triton.jit
def _exp(scores, shift):
    return tl.where(scores > FORBIDDEN / 2, tl.exp(scores - shift), 0.0)


@triton.jit
def forward_kernel(
    q, k, v, bias, mask, out, B, F, N, scale,
    HEADS: tl.constexpr, D: tl.constexpr, ROW: tl.constexpr, HEAD: tl.constexpr, W: tl.constexpr,
    FP: tl.constexpr, PX: tl.constexpr, QR: tl.constexpr, CAUSAL: tl.constexpr,
    BIAS: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """q, k, v: rows of ROW elements, HEAD from head to head; out: rows of HEADS * D."""
    R: tl.constexpr = PX * FP
    head, start = tl.program_id(0) % HEADS, tl.program_id(0) // HEADS % (R // QR) * QR
    tile = tl.program_id(0) // (HEADS * (R // QR))
    frame_q, pixel_q, valid_q, place_q = _place(tile, start, QR, FP, PX, F, N)
    frame_k, pixel_k, valid_k, place_k = _place(tile, 0, R, FP, PX, F, N)
    queries, keys = place_q * ROW + head * HEAD, place_k * ROW + head * HEAD
    part = _load(v, keys, valid_k, 0, W, D)  # on its way while the scores are made
    scores = _products(q, queries, valid_q, k, keys, valid_k, QR, R, W, D) * scale
    scores = _restrict(
        scores, bias, mask, head, tile // tl.cdiv(N, PX), frame_q[:, None], pixel_q[:, None], frame_k[None, :],
        pixel_k[None, :], F, N, PX, CAUSAL, BIAS, MASK,
    )  # fmt: skip
    weights = _exp(scores, tl.max(scores, 1)[:, None])
    total = tl.sum(weights, 1)
    weights = (weights / tl.where(total > 0, total, 1.0)[:, None]).to(part.dtype)
    outputs = place_q * (HEADS * D) + head * D
    _store_product(out, outputs, valid_q, weights, part, 0, W, D)
    for i in tl.range(1, (D + W - 1) // W, loop_unroll_factor=_at_once(D, W, k.dtype.element_ty)):
        part_i = _load(v, keys, valid_k, i, W, D)
        _store_product(out, outputs, valid_q, weights, part_i, i, W, D)


@triton.jit
def backward_kernel(
    q, k, v, bias, mask, grad, grad_q, grad_k, grad_v, grad_bias, rows, B, F, N, scale, stride,
    HEADS: tl.constexpr, D: tl.constexpr, ROW: tl.constexpr, HEAD: tl.constexpr, W: tl.constexpr,
    FP: tl.constexpr, PX: tl.constexpr, QR: tl.constexpr, CAUSAL: tl.constexpr,
    BIAS: tl.constexpr, MASK: tl.constexpr,
):  # fmt: skip
    """grad, grad_q, grad_k, grad_v: rows of HEADS * D; grad_bias: (programs, HEADS, F, F), zero at first; rows: (2, B,
    F, N, HEADS), float32, to work in: log of the sum of exponentials, and sum of weights times their gradients.

    Program p takes tiles p, p + stride, ... and adds its share of the bias's gradient to its own slice.
    """
    head, program = tl.program_id(0) % HEADS, tl.program_id(0) // HEADS
    R: tl.constexpr = PX * FP
    sums = rows + tl.full((), HEADS, tl.int64) * B * F * N
    for tile in range(program, B * tl.cdiv(N, PX), stride):
        batch = tile // tl.cdiv(N, PX)
        frame_r, pixel_r, valid_r, place_r = _place(tile, 0, R, FP, PX, F, N)
        inputs, outputs = place_r * ROW + head * HEAD, place_r * (HEADS * D) + head * D
        for start in range(0, R, QR):  # some queries, all keys
            frame_i, pixel_i, valid_i, place_i = _place(tile, start, QR, FP, PX, F, N)
            inputs_i, outputs_i = place_i * ROW + head * HEAD, place_i * (HEADS * D) + head * D
            scores = _products(q, inputs_i, valid_i, k, inputs, valid_r, QR, R, W, D) * scale
            scores = _restrict(
                scores, bias, mask, head, batch, frame_i[:, None], pixel_i[:, None], frame_r[None, :],
                pixel_r[None, :], F, N, PX, CAUSAL, BIAS, MASK,
            )  # fmt: skip
            highest = tl.max(scores, 1)
            total = tl.sum(_exp(scores, highest[:, None]), 1)
            log_total = tl.where(total > 0, highest + tl.log(tl.where(total > 0, total, 1.0)), 0.0)
            weights = _exp(scores, log_total[:, None])
            grad_weights = _products(grad, outputs_i, valid_i, v, inputs, valid_r, QR, R, W, D)
            sum_i = tl.sum(weights * grad_weights, 1)
            grad_scores = weights * (grad_weights - sum_i[:, None])
            tl.store(rows + place_i * HEADS + head, log_total, mask=valid_i)
            tl.store(sums + place_i * HEADS + head, sum_i, mask=valid_i)
            if BIAS:
                if PX > 1:
                    share = tl.sum(tl.sum(tl.reshape(grad_scores, (PX, FP, PX, FP)), 2), 0)  # zero between pixels
                    i = tl.arange(0, FP)
                else:
                    share = grad_scores
                    i = start + tl.arange(0, QR)
                j = tl.arange(0, FP)
                slots = grad_bias + (program * HEADS + head).to(tl.int64) * F * F + i[:, None] * F + j[None, :]
                known = (i < F)[:, None] & (j < F)[None, :]
                tl.store(slots, tl.load(slots, mask=known, other=0.0) + share, mask=known)
            scaled = (grad_scores * scale).to(v.dtype.element_ty)
            for part in tl.range(0, (D + W - 1) // W, loop_unroll_factor=_at_once(D, W, k.dtype.element_ty)):
                keys = _load(k, inputs, valid_r, part, W, D)
                _store_product(grad_q, outputs_i, valid_i, scaled, keys, part, W, D)
        tl.debug_barrier()  # a thread reads next what another has written
        log_total_r = tl.load(rows + place_r * HEADS + head, mask=valid_r, other=0.0)
        sum_r = tl.load(sums + place_r * HEADS + head, mask=valid_r, other=0.0)
        for start in range(0, R, QR):  # some keys, all queries
            frame_j, pixel_j, valid_j, place_j = _place(tile, start, QR, FP, PX, F, N)
            inputs_j, outputs_j = place_j * ROW + head * HEAD, place_j * (HEADS * D) + head * D
            scores_t = _products(k, inputs_j, valid_j, q, inputs, valid_r, QR, R, W, D) * scale
            scores_t = _restrict(
                scores_t, bias, mask, head, batch, frame_r[None, :], pixel_r[None, :], frame_j[:, None],
                pixel_j[:, None], F, N, PX, CAUSAL, BIAS, MASK,
            )  # fmt: skip
            weights_t = _exp(scores_t, log_total_r[None, :])
            grad_weights_t = _products(v, inputs_j, valid_j, grad, outputs, valid_r, QR, R, W, D)
            scaled_t = (weights_t * (grad_weights_t - sum_r[None, :]) * scale).to(v.dtype.element_ty)
            weights_t = weights_t.to(v.dtype.element_ty)
            for part in tl.range(0, (D + W - 1) // W, loop_unroll_factor=_at_once(D, W, k.dtype.element_ty)):
                grads = _load(grad, outputs, valid_r, part, W, D)
                _store_product(grad_v, outputs_j, valid_j, weights_t, grads, part, W, D)
                queries = _load(q, inputs, valid_r, part, W, D)
                _store_product(grad_k, outputs_j, valid_j, scaled_t, queries, part, W, D)


def _rows(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> tuple[list[torch.Tensor], int, int]:
    """The tensors with the stride from row to row and from head to head: as they are where these are the same."""
    strides = {_row_strides(x) for x in (query, key, value)}
    if len(strides) == 1 and (found := strides.pop()) is not None:
        return [query, key, value], *found
    heads, d = query.shape[-2:]
    return [x.contiguous() for x in (query, key, value)], heads * d, d


def _row_strides(x: torch.Tensor) -> tuple[int, int] | None:
    """Strides of the pixel and head axes if the axes before the pixels are dense in rows, else None."""
    b, f, n, heads, d = x.shape
    head = x.stride(3) if heads > 1 else d
    sizes, strides = (n, f, b), (x.stride(2), x.stride(1), x.stride(0))
    dense = 1
    row = next((stride for size, stride in zip(sizes, strides, strict=True) if size > 1), heads * d)
    for size, stride in zip(sizes, strides, strict=True):
        if size > 1 and stride != row * dense:
            return None
        dense *= size
    return (row, head) if x.stride(4) == 1 or d == 1 else None


def _constants(query: torch.Tensor, row: int, head: int, bias: object, mask: object, causal: bool) -> dict[str, int]:
    return {
        "HEADS": query.shape[3], "D": query.shape[4], "ROW": row, "HEAD": head,
        "CAUSAL": causal, "BIAS": bias is not None, "MASK": mask is not None,
    }  # fmt: skip


def _config(query: torch.Tensor, biased: bool, backward: bool) -> AttentionConfig:
    _, f, _, _, d = query.shape
    default = attention_config(f, d, backward, biased, query.dtype.itemsize)
    return chosen(attention_key(f, d, backward, biased), default, query)


def forward(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
    causal: bool,
) -> torch.Tensor:
    """As `t2v.ops.temporal_attention`, for up to 128 frames."""
    b, f, n, heads, d = query.shape
    (q, k, v), row, head = _rows(query, key, value)
    config = _config(q, bias is not None, backward=False)
    out = q.new_empty(b, f, n, heads * d)
    grid = (b * triton.cdiv(n, config.PX) * config.blocks * heads,)
    with torch.cuda.device_of(q):
        forward_kernel[grid](
            q, k, v, bias, mask, out, b, f, n, d**-0.5,
            **_constants(q, row, head, bias, mask, causal), **config.options(),
        )  # fmt: skip
    return out


def backward(
    grad: torch.Tensor,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor | None,
    mask: torch.Tensor | None,
    causal: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of query, key, value and bias; without a bias its gradient is empty."""
    b, f, n, heads, d = query.shape
    (q, k, v), row, head = _rows(query, key, value)
    config = _config(q, bias is not None, backward=True)
    tiles = b * triton.cdiv(n, config.PX)
    programs = tiles if bias is None else min(tiles, config.bias_programs)
    grad_q, grad_k, grad_v = (q.new_empty(q.shape) for _ in range(3))
    grad_bias = q.new_zeros((0,) if bias is None else (programs, heads, f, f), dtype=torch.float32)
    rows = q.new_empty((2, b, f, n, heads), dtype=torch.float32)
    with torch.cuda.device_of(q):
        backward_kernel[(programs * heads,)](
            q, k, v, bias, mask, grad.contiguous(), grad_q, grad_k, grad_v, grad_bias, rows, b, f, n, d**-0.5, programs,
            **_constants(q, row, head, bias, mask, causal), **config.options(),
        )  # fmt: skip
    return grad_q, grad_k, grad_v, grad_bias if bias is None else grad_bias.sum(0).to(bias.dtype)
