"""The ops, the temporal modules and the whole U-Net against the plain reference and diffusers.

    python -m tests.benchmarks.ops                  on a GPU: Stable Diffusion 1.5 sizes in bfloat16, under 8 minutes
    python -m tests.benchmarks.ops --device cpu     the embedded model's sizes, 1 to 2 minutes

Rows go to tests/benchmarks/results/ops.csv; `python -m tests.benchmarks.plot` draws them.
"""

import argparse
import csv
import datetime
import importlib.metadata
import time
from collections.abc import Iterator
from typing import Any

import diffusers
import torch
from diffusers.models.resnet import TemporalConvLayer
from diffusers.models.transformers.transformer_temporal import TransformerTemporalModel
from diffusers.models.unets.unet_motion_model import AnimateDiffTransformer3D

from t2v.evaluation import op_speed
from t2v.evaluation.op_speed import Case, LevelShape, Measurement
from t2v.evaluation.timing import Roofline, device_name, measure_roofline
from t2v.models.unet import VideoUNetConfig
from t2v.nn.temporal_attention import TemporalAttention
from t2v.nn.temporal_conv import TemporalConv
from t2v.ops.backend import triton_runs_on
from tests.benchmarks.registry import RESULTS

MARGIN = 45  # seconds kept for the case that is running


def permuted_attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """How diffusers' temporal transformers attend: copies to (B*N, F, C), fused attention, a copy back."""
    b, f, n, heads, d = query.shape
    q, k, v = (
        x.permute(0, 2, 1, 3, 4).reshape(b * n, f, heads * d).view(b * n, f, heads, d).transpose(1, 2)
        for x in (query, key, value)
    )
    limit = 65535  # of the fused CUDA kernels, per batch
    portions = zip(*(x.split(limit) for x in (q, k, v)), strict=True)
    out = torch.cat([torch.nn.functional.scaled_dot_product_attention(*portion) for portion in portions])
    out = out.transpose(1, 2).reshape(b, n, f, heads * d)
    return out.transpose(1, 2).contiguous()


def module_cases(level: LevelShape, num_frames: int, dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """Whole temporal modules. diffusers' transformers have a feed-forward layer and a second attention too, and its
    convolution layer four convolutions: they are what a network of theirs pays at this place.
    """
    c, size, head_dim = level.channels, level.size, level.channels // level.heads
    x = torch.randn(2 * num_frames, size, size, c, dtype=dtype, device=device).permute(0, 3, 1, 2)
    label = f"{size}x{size}x{c}_f{num_frames}"
    norm = {"norm_num_groups": 32}
    with torch.device(device):
        modules: dict[str, torch.nn.Module] = {
            "TransformerTemporalModel": TransformerTemporalModel(level.heads, head_dim, c, **norm),
            "AnimateDiffTransformer3D": AnimateDiffTransformer3D(
                level.heads, head_dim, c, **norm, positional_embeddings="sinusoidal",
                num_positional_embeddings=max(32, num_frames),
            ),
            "TemporalAttention": TemporalAttention(c, level.heads),
            "TemporalConvLayer": TemporalConvLayer(c, c),
            "TemporalConv": TemporalConv(c),
        }  # fmt: skip
    for module in modules.values():
        module.to(dtype).eval().requires_grad_(False)
    yield Case(
        f"attention_module_{label}",
        (x,),
        {
            "diffusers TransformerTemporalModel": lambda x: (
                modules["TransformerTemporalModel"](x, num_frames=num_frames).sample
            ),
            "diffusers AnimateDiffTransformer3D": lambda x: modules["AnimateDiffTransformer3D"](
                x, num_frames=num_frames
            ),
            "t2v TemporalAttention": lambda x: modules["TemporalAttention"](x, num_frames),
        },
        0,
        0,
    )
    yield Case(
        f"conv_module_{label}",
        (x,),
        {
            "diffusers TemporalConvLayer": lambda x: modules["TemporalConvLayer"](x, num_frames=num_frames),
            "t2v TemporalConv": lambda x: modules["TemporalConv"](x, num_frames),
        },
        0,
        0,
    )


def unet_case(num_frames: int, size: int, dtype: torch.dtype, device: torch.device) -> Case:
    """Stable Diffusion 1.5, inflated, with diffusers' two video networks of its size in the same rounds."""
    own = op_speed.network_case(
        "unet_sd15", VideoUNetConfig.from_dict(op_speed.SD15_UNET), num_frames, size, 2, dtype, device
    )
    with torch.device(device):
        adapter = diffusers.UNetMotionModel(
            cross_attention_dim=768, num_attention_heads=8, motion_num_attention_heads=8, motion_max_seq_length=128
        )
        joint = diffusers.UNet3DConditionModel(cross_attention_dim=768, attention_head_dim=64)
    adapter, joint = adapter.to(dtype).eval(), joint.to(dtype).eval()
    texts = own.inputs[1].repeat_interleave(num_frames, 0)
    functions: dict[str, Any] = {
        **own.functions,
        "diffusers UNetMotionModel": lambda x, _text, t, _fps: adapter(x, t, texts).sample,
        "diffusers UNet3DConditionModel": lambda x, text, t, _fps: joint(x, t, text).sample,
    }
    return Case(own.name, own.inputs, functions, 0, 0, modes=("forward",))


def gpu_cases(device: torch.device) -> Iterator[Case]:
    """The most telling first: 16 frames and the whole network, then longer and shorter videos."""
    dtype = torch.bfloat16
    for num_frames in (16, 76, 8, 32):
        levels = op_speed.SD15_LEVELS
        for case in op_speed.op_cases(levels, 2, num_frames, dtype, device, ("torch", "triton")):
            yield with_permuted(case)
        for level in levels[:1] if num_frames != 16 else levels:
            yield from module_cases(level, num_frames, dtype, device)
        if num_frames == 16:
            yield unet_case(num_frames, 64, dtype, device)


def cpu_cases(device: torch.device) -> Iterator[Case]:
    """The embedded model's sizes, float32; the kernels do not run here."""
    for case in op_speed.op_cases(op_speed.MINI_LEVELS, 2, 16, torch.float32, device, ("torch",)):
        yield with_permuted(case)
    for level in op_speed.MINI_LEVELS[:2]:
        yield from module_cases(level, 16, torch.float32, device)


def with_permuted(case: Case) -> Case:
    """Attention over frames gets diffusers' way as its baseline."""
    if not case.name.startswith("temporal_attention"):
        return case
    functions = {"permuted copies and SDPA": permuted_attention, **case.functions}
    return Case(case.name, case.inputs, functions, case.num_bytes, case.flops)


def row(found: Measurement, device: torch.device, dtype: torch.dtype, roofline: Roofline) -> dict[str, Any]:
    """A line of the CSV."""
    return {
        "date": datetime.date.today().isoformat(),
        "device": device_name(device),
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton") if triton_runs_on(device) else "",
        "diffusers": diffusers.__version__,
        "dtype": str(dtype).removeprefix("torch."),
        "threads": torch.get_num_threads() if device.type == "cpu" else "",
        "case": found.case,
        "mode": found.mode,
        "function": found.function,
        "median_ms": round(found.timing.median * 1e3, 4),
        "p20_ms": round(found.timing.p20 * 1e3, 4),
        "p80_ms": round(found.timing.p80 * 1e3, 4),
        "speedup": round(found.speedup, 3),
        "gb_per_s": round(found.bytes_per_s / 1e9, 1),
        "tflop_per_s": round(found.flops_per_s / 1e12, 2),
        "of_roofline": round(found.of_roofline, 3),
        "peak_mib": round(found.timing.peak_bytes / 2**20, 1),
        "roofline_gb_per_s": round(roofline.bytes_per_s / 1e9, 1),
        "roofline_tflop_per_s": round(roofline.flops_per_s / 1e12, 2),
    }


def main() -> None:
    """Measure, print and append the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--case", default="", help="only cases whose names contain this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=8.0, help="no case is begun that might end later")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dry-run", action="store_true", help="print the rows only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    end = time.monotonic() + 60 * arguments.minutes - MARGIN
    device = torch.device(arguments.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    roofline = measure_roofline(device, dtype)
    print(f"{device_name(device)}: {roofline.bytes_per_s / 1e9:.0f} GB/s, {roofline.flops_per_s / 1e12:.2f} TFLOP/s")
    for case in (gpu_cases if device.type == "cuda" else cpu_cases)(device):
        if arguments.case not in case.name:
            continue
        if time.monotonic() > end:
            print(f"out of time at {case.name}")
            break
        try:
            found = list(op_speed.measure(case, arguments.rounds, device, roofline))
        except RuntimeError as error:  # a peer that cannot run at this size must not cost the rest
            print(f"{case.name} failed: {error}", flush=True)
            continue
        rows = [row(measurement, device, dtype, roofline) for measurement in found]
        for line in rows:
            print(
                f"{line['case']:44} {line['mode']:8} {line['function']:36} {line['median_ms']:9.3f} ms "
                f"[{line['p20_ms']:.3f} {line['p80_ms']:.3f}]  x{line['speedup']:.2f}  {line['of_roofline']:.0%}",
                flush=True,
            )
        if not arguments.dry_run:
            append(rows)


def append(rows: list[dict[str, Any]]) -> None:
    """Append to results/ops.csv; the first rows bring the header."""
    path = RESULTS / "ops.csv"
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
