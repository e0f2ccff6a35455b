"""A training step of the temporal layers, time and memory: `python -m tests.benchmarks.run temporal_training_step`.

The inflated U-Net against diffusers' UNetMotionModel (AnimateDiff), trained the same way: spatial weights frozen,
gradient checkpointing, AdamW, one clip of 16 frames of 256 pixels; bf16 autocast on a GPU, float32 on a CPU. Every
measurement is a process of its own; the networks take turns. Rows go to results/temporal_training_step.csv.
"""

import argparse
import dataclasses
import datetime
import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import nn

from t2v.models.inflate import inflate, temporal_parameters
from t2v.models.unet import MotionConfig, VideoUNet, VideoUNetConfig
from tests.benchmarks.registry import RESULTS, device_name, save_rows

NUM_FRAMES, LATENT_SIZE, HEADS = 16, 32, 8
SIZES: dict[str, dict[str, Any]] = {  # widths, text width
    "tiny": {"block_out_channels": (32, 64, 64, 64), "cross_attention_dim": 64},
    "sd15_narrow": {"block_out_channels": (96, 192, 384, 384), "cross_attention_dim": 768},
    "sd15": {"block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768},
}
CASES = {
    "tiny": "tiny",
    "sd15_narrow": "Stable Diffusion 1.5 at 0.3 of its width",
    "sd15": "Stable Diffusion 1.5, full size",
}
PEER = "diffusers UNetMotionModel"


@dataclass(frozen=True)
class Row:
    """One network; seconds are medians over all steps of all rounds, ratios the peer's over ours of the same round."""

    date: str
    case: str
    network: str
    step_s: float
    processor_s: float  # of all threads; on a CPU that others use too, the figure to trust
    peak_memory_mb: float  # GPU: allocated by torch; CPU: of the process, beyond what the imports take
    speedup: float  # over the peer: median over the rounds
    processor_speedup: float  # the same of processor time
    memory_ratio: float  # to the peer
    trained_parameters: int
    precision: str
    rounds: int
    threads: int
    device: str
    torch: str


def own(size: str, motion: MotionConfig) -> tuple[nn.Module, list[nn.Parameter]]:
    """Our network and the parameters that learn."""
    unet = VideoUNet(VideoUNetConfig.from_dict({**SIZES[size], "attention_head_dim": HEADS}))
    inflate(unet, motion)
    unet.requires_grad_(False)
    unet.gradient_checkpointing = True
    return unet, list(temporal_parameters(unet).values())


def peer(size: str) -> tuple[nn.Module, list[nn.Parameter]]:
    """AnimateDiff's network and the parameters that learn."""
    unet = diffusers.UNetMotionModel(**SIZES[size], num_attention_heads=HEADS, motion_num_attention_heads=HEADS)
    unet.freeze_unet2d_params()
    unet.enable_gradient_checkpointing()
    return unet, [parameter for parameter in unet.parameters() if parameter.requires_grad]


NETWORKS: dict[str, Callable[[str], tuple[nn.Module, list[nn.Parameter]]]] = {
    "t2v": lambda size: own(size, MotionConfig()),
    "t2v, temporal attention alone": lambda size: own(size, MotionConfig(temporal_conv=False)),
    PEER: peer,
}


def measure(network: str, size: str, device: str, steps: int) -> dict[str, Any]:
    """Train for one step unmeasured, then `steps` more.

    Returns: `seconds` and `processor_seconds` of each step, `peak` memory in bytes, number of `parameters` that learn.
    """
    imports = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.manual_seed(0)
    unet, parameters = NETWORKS[network](size)
    unet.train().to(device)
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)
    video, noise = torch.randn(2, 1, 4, NUM_FRAMES, LATENT_SIZE, LATENT_SIZE, device=device).unbind()
    text = torch.randn(1, 77, SIZES[size]["cross_attention_dim"], device=device)
    if network == PEER:
        text = text.expand(NUM_FRAMES, -1, -1)
    gc.collect()
    seconds, processor_seconds = [], []
    for _ in range(steps + 1):
        started, processor_started = time.perf_counter(), time.process_time()
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            output = unet(video, torch.tensor([500], device=device), text)
        output = output if isinstance(output, torch.Tensor) else output.sample
        (output.float() - noise).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        processor_seconds.append(time.process_time() - processor_started)
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated()
    else:
        peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - imports) * 1024
    return {
        "seconds": seconds[1:],
        "processor_seconds": processor_seconds[1:],
        "peak": peak,
        "parameters": sum(parameter.numel() for parameter in parameters),
    }


def measure_apart(network: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """`measure` in a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.temporal_training_step", "--network", network]
    for name in ("size", "device", "steps", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def summarise(results: dict[str, list[dict[str, Any]]], arguments: argparse.Namespace) -> list[Row]:
    """One row for each network."""

    def median(name: str, figure: str) -> float:
        return statistics.median(value for round_ in results[name] for value in round_[figure])

    def speedup(name: str, figure: str) -> float:
        pairs = zip(results[name], results[PEER], strict=True)
        return round(
            statistics.median(statistics.median(b[figure]) / statistics.median(a[figure]) for a, b in pairs), 3
        )

    peaks = {name: max(round_["peak"] for round_ in rounds) for name, rounds in results.items()}
    on_gpu = arguments.device == "cuda"
    return [
        Row(
            date=datetime.date.today().isoformat(),
            case=f"{CASES[arguments.size]}, {NUM_FRAMES} frames, 256 px",
            network=name,
            step_s=round(median(name, "seconds"), 4),
            processor_s=round(median(name, "processor_seconds"), 4),
            peak_memory_mb=round(peaks[name] / 1e6),
            speedup=speedup(name, "seconds"),
            processor_speedup=speedup(name, "processor_seconds"),
            memory_ratio=round(peaks[name] / peaks[PEER], 3),
            trained_parameters=rounds[0]["parameters"],
            precision="bf16 autocast" if on_gpu else "float32",
            rounds=arguments.rounds,
            threads=arguments.threads,
            device=torch.cuda.get_device_name() if on_gpu else device_name(),
            torch=str(torch.__version__),
        )
        for name, rounds in results.items()
    ]


def main(argv: list[str] | None = None) -> None:
    """Measure, print and append the rows."""
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="temporal_training_step", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="sd15" if has_gpu else "sd15_narrow")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if has_gpu else "cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10 if has_gpu else 2, help="measured in each round")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dry-run", action="store_true", help="print the rows only")
    parser.add_argument(
        "--network", choices=NETWORKS, help="measure one network here, and print what was found as JSON"
    )
    arguments = parser.parse_args(argv)
    if arguments.network is not None:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measure(arguments.network, arguments.size, arguments.device, arguments.steps)))
        return
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in NETWORKS}
    order = list(NETWORKS)
    for _ in range(arguments.rounds):
        random.shuffle(order)
        for name in order:
            results[name].append(measure_apart(name, arguments))
    rows = [dataclasses.asdict(row) for row in summarise(results, arguments)]
    for row in rows:
        print(
            f"{row['case']}: {row['network']:30} {row['step_s']:8.3f} s, x{row['speedup']:.2f} as fast as the peer (x"
            f"{row['processor_speedup']:.2f} by processor time), {row['peak_memory_mb']:.0f} MB, "
            f"x{row['memory_ratio']:.2f} its memory"
        )
    if not arguments.dry_run:
        save_rows(rows, RESULTS / "temporal_training_step.csv")


if __name__ == "__main__":
    main()
