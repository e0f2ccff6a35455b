"""Compile the shipped kernel configurations ahead of time, without a GPU, and print what became of each.

    python -m tests.ops.compile_kernels                  # a few of each kernel
    python -m tests.ops.compile_kernels bf16 fp16 fp32   # everything that is shipped for these types

One JSON object a line: name, architecture, registers, bytes of stack (spills), bytes of shared memory, the matrix
instruction, and the widths of the global loads and stores in bits. It runs in a process of its own: the interpreter
that the other tests use is switched on when triton is imported.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, product
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from t2v.ops.library import CHUNK
from t2v.ops.triton import group_norm, temporal_attention, temporal_conv
from t2v.ops.triton.configs import NORM_CONFIG, attention_config, conv_config

ARCHITECTURES = (80, 90, 100)
HEAD_DIMS = (40, 64, 80, 128, 160)
NUM_FRAMES = (8, 16, 32, 64, 76)  # 76 is built as 128; shorter videos have the rows of 8 frames
MINI_HEAD_DIMS, MINI_FRAMES = (24, 32, 48), 16  # of the embedded model
ITEMSIZE = {"bf16": 2, "fp16": 2, "fp32": 4}


@dataclass(frozen=True)
class Build:
    """A kernel with the types of its arguments and its constants; arguments not named are constants."""

    name: str
    kernel: Any
    types: dict[str, str]
    constants: dict[str, Any]
    options: dict[str, int]


def attention_builds(dtype: str, num_frames: int, head_dim: int, with_bias: bool) -> Iterator[Build]:
    """Forward and backward, 8 heads, q, k and v in tensors of their own; with a bias, also mask and causality."""
    heads = 8
    for backward in (False, True):
        config = attention_config(num_frames, head_dim, backward, with_bias, ITEMSIZE[dtype])
        tile, options = _split(config.options())
        constants = {
            "HEADS": heads, "D": head_dim, "ROW": heads * head_dim, "HEAD": head_dim, **tile,
            "CAUSAL": with_bias, "BIAS": with_bias, "MASK": with_bias,
        }  # fmt: skip
        tensors = ["q", "k", "v", *(("grad", "grad_q", "grad_k", "grad_v") if backward else ("out",))]
        types = dict.fromkeys(tensors, f"*{dtype}") | dict.fromkeys(("B", "F", "N"), "i32") | {"scale": "fp32"}
        types |= {"stride": "i32", "grad_bias": "*fp32", "rows": "*fp32"} if backward else {}
        if with_bias:
            types |= {"bias": f"*{dtype}", "mask": "*i1"}
        else:
            constants |= {"bias": None, "mask": None}
        kernel = temporal_attention.backward_kernel if backward else temporal_attention.forward_kernel
        name = f"attention_{'backward' if backward else 'forward'}_f{num_frames}_d{head_dim}{'_bias' * with_bias}"
        yield Build(f"{name}_{dtype}", kernel, types, constants, options)


def norm_builds(dtype: str, channels: int, num_groups: int) -> Iterator[Build]:
    """The five kernels of group norm with SiLU, forward and backward."""
    tile, options = _split(NORM_CONFIG.options())
    types = {name: f"*{dtype}" for name in ("x", "out", "grad", "grad_x", "weight", "bias")}
    types |= {name: "*fp32" for name in ("partials", "mean", "rstd", "means")} | {"HW": "i32", "eps": "fp32"}
    constants = {"C": channels, "G": num_groups, "CHUNK": CHUNK, "SILU": True, **tile}
    for name in ("partials", "apply", "grad_partials", "grad"):
        kernel = getattr(group_norm, f"{name}_kernel")
        yield Build(f"norm_{name}_c{channels}_{dtype}", kernel, types, constants, options)
    constants |= {"BK": 64, "GP": triton.next_power_of_2(channels // num_groups)}
    yield Build(f"merge_c{channels}", group_norm.merge_kernel, types, constants, {})


def conv_build(dtype: str, channels: int, pixels: int, with_epilogue: bool) -> Build:
    """The convolution, alone or with all that may follow it."""
    tile, options = _split(conv_config(channels, pixels, ITEMSIZE[dtype]).options())
    flags = {"BIAS": True, **dict.fromkeys(("SHIFT", "RESIDUAL", "PARTIALS"), with_epilogue)}
    tensors = ("x", "weight", "bias", "out", *(("shift", "residual") if with_epilogue else ()))
    types = dict.fromkeys(tensors, f"*{dtype}") | {"partials": "*fp32", "F": "i32", "HW": "i32"}
    constants = {"C_IN": channels, "C_OUT": channels, "CHUNK": CHUNK, **flags, **tile}
    if not with_epilogue:
        constants |= {"shift": None, "residual": None}
    name = f"conv_c{channels}_hw{pixels}{'_epilogue' * with_epilogue}_{dtype}"
    return Build(name, temporal_conv.forward_kernel, types, constants, options)


def _split(options: dict[str, int]) -> tuple[dict[str, int], dict[str, int]]:
    """The constants of a launch and the options of the compiler."""
    compiler = {name: options[name] for name in ("num_warps", "num_stages", "maxnreg") if name in options}
    return {name: value for name, value in options.items() if name not in compiler}, compiler


def sample() -> Iterator[Build]:
    """A few of each kernel."""
    yield from norm_builds("bf16", 320, 32)
    yield conv_build("bf16", 320, 4096, with_epilogue=True)
    yield from attention_builds("bf16", 16, 40, with_bias=False)
    for dtype in ("bf16", "fp32"):
        yield from attention_builds(dtype, 76, 160, with_bias=True)


def shipped(dtype: str) -> Iterator[Build]:
    """Everything that is shipped for a type, at the sizes of Stable Diffusion and of the embedded model."""
    attended = [*product(NUM_FRAMES, HEAD_DIMS), *((MINI_FRAMES, head_dim) for head_dim in MINI_HEAD_DIMS)]
    for (num_frames, head_dim), with_bias in product(attended, (False, True)):
        yield from attention_builds(dtype, num_frames, head_dim, with_bias)
    for channels, num_groups in ((320, 32), (640, 32), (1280, 32), (2560, 32), (96, 16), (192, 16)):
        yield from norm_builds(dtype, channels, num_groups)
    convolved = ((320, 4096), (640, 1024), (1280, 256), (1280, 64), (96, 256), (128, 64), (192, 16))
    for (channels, pixels), with_epilogue in product(convolved, (False, True)):
        yield conv_build(dtype, channels, pixels, with_epilogue)


def compile_build(build: Build, architecture: int) -> dict[str, Any]:
    """Compile for a compute capability and read what the cubin and the PTX say."""
    names = build.kernel.arg_names
    signature = {name: build.types.get(name, "constexpr") for name in names}
    constants = {name: value for name, value in build.constants.items() if name in names}
    aligned = {
        (i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if build.types.get(name, "").startswith("*")
    }
    source = ASTSource(build.kernel, signature, constants, aligned)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=build.options)
    ptx = compiled.asm["ptx"]
    return {
        "name": build.name,
        "architecture": architecture,
        "shared": compiled.metadata.shared,
        "matrix": sorted(set(re.findall(r"tcgen05\.mma|wgmma\.mma_async|mma\.sync", ptx))),
        "loads": sorted(
            {_bits(match) for match in re.findall(r"(?:ld\.global|cp\.async\.c[ag]\.shared\.global)[^\n]*", ptx)}
        ),
        "stores": sorted({_bits(match) for match in re.findall(r"st\.global[^\n]*", ptx)}),
        **_resources(compiled.asm["cubin"]),
    }


def _bits(instruction: str) -> int:
    """Bits that a thread moves by an instruction: ld.global.v4.b32, cp.async.cg.shared.global [ ... ], ..., 0x10."""
    if instruction.startswith("cp.async"):
        return 8 * int(re.findall(r", (0x[0-9a-f]+|\d+)", instruction)[0], 0)
    vector = re.search(r"\.v(\d)\.", instruction)
    return int(re.findall(r"\.[bfus](\d+)", instruction)[0]) * (int(vector.group(1)) if vector else 1)


def _resources(cubin: bytes) -> dict[str, int]:
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    return {key.lower(): int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}


def main() -> None:
    """Compile and print: all for the types that are named, or a sample."""
    dtypes = sys.argv[1:]
    chosen = chain.from_iterable(shipped(dtype) for dtype in dtypes) if dtypes else sample()
    for build, architecture in product(chosen, ARCHITECTURES):
        print(json.dumps(compile_build(build, architecture)), flush=True)


if __name__ == "__main__":
    main()
