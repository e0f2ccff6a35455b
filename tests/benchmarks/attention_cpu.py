"""Ways to attend over frames on the CPU: the table behind `functional.CPU_PORTION` and `MAX_PLAIN_FRAMES`."""

from collections.abc import Callable

import torch

from t2v.ops import functional
from tests.benchmarks.op_cases import permuted_attention
from tests.benchmarks.registry import Case, benchmark

# videos, frames, pixels, heads, head size: the embedded model's levels, then Stable Diffusion's
SHAPES = [(2, 16, 256, 4, 24), (2, 16, 64, 4, 32), (1, 16, 1024, 8, 40), (2, 32, 256, 8, 40), (1, 76, 256, 8, 40)]


@benchmark
def attention_cpu() -> list[Case]:
    """Each shape in float32 and bfloat16, against fused attention on strided views."""
    return [_case(shape, dtype) for dtype in (torch.float32, torch.bfloat16) for shape in SHAPES]


def _case(shape: tuple[int, ...], dtype: torch.dtype) -> Case:
    b, f, n, heads, d = shape
    query, key, value = (torch.randn(shape).to(dtype) for _ in range(3))
    views = [x.view(b, f, n * heads, d).transpose(1, 2) for x in (query, key, value)]

    def call(function: Callable[..., torch.Tensor], *args: torch.Tensor) -> Callable[[], object]:
        def run() -> object:
            with torch.inference_mode():
                return function(*args).transpose(1, 2).contiguous()

        return run

    functions = {
        "fused on views": call(functional._fused_attention, *views),
        "products on views": call(functional._plain_attention, *views),
        "products in portions": call(lambda *x: functional._attention_in_place(*x).transpose(1, 2), *views),
        "permuted copies and fused": call(lambda *x: permuted_attention(*x).transpose(1, 2), query, key, value),
    }
    name = f"b{b}_f{f}_n{n}_h{heads}_d{d}_{str(dtype).removeprefix('torch.')}"
    return Case(name, functions, dict.fromkeys(functions, "fused on views"))
