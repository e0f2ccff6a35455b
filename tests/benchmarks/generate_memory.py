"""The most memory that making a video takes: `python -m tests.benchmarks.run generate_memory`.

Stable Diffusion 1.5 with AnimateDiff v2 modules, in their full sizes, with random weights that are written to a folder
first and nothing is downloaded for; t2v against diffusers' AnimateDiffPipeline, from that folder, at each level of
offload and with everything done in small portions. Every measurement is a process of its own. On a GPU the figure is
what torch has allocated, on a CPU the resident set of the process beyond what the imports take, loading included.
Rows go to results/generate_memory.csv.
"""

import argparse
import dataclasses
import datetime
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.registry import RESULTS, device_name, save_rows

PROMPT = "a robot dancing in times square"
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
SIZES: dict[str, dict[str, Any]] = {  # of U-Net, autoencoder and text encoder
    "sd15": {"unet": (320, 640, 1280, 1280), "vae": (128, 256, 512, 512), "text": 768, "layers": 12, "vocab": 49408},
    "narrow": {"unet": (96, 192, 384, 384), "vae": (32, 64, 128, 128), "text": 256, "layers": 12, "vocab": 49408},
    "tiny": {"unet": (32, 64, 64, 64), "vae": (32, 32, 32, 32), "text": 32, "layers": 2, "vocab": 600},
}
# Level of offload, and whether the decoder takes one frame at a time and the transformers a part of their tokens.
CASES = {"none": ("none", False), "model": ("model", False), "sequential": ("sequential", False)}
CASES |= {"none, small portions": ("none", True), "sequential, small portions": ("sequential", True)}
ON_CPU = ["none", "none, small portions"]  # where weights have nowhere else to go


@dataclass(frozen=True)
class Row:
    """One pipeline at one level."""

    date: str
    case: str
    pipeline: str
    offload: str
    peak_memory_mb: float
    of_peer: float  # share of what diffusers takes in the same run; NaN where it fails
    load_mb: float  # CPU: the peak of loading alone; GPU: what is on it after loading
    estimate_mb: float  # t2v: what `t2v info` says without the process itself
    seconds: float
    precision: str
    threads: int
    device: str
    torch: str
    diffusers: str


def write_model(size: str, folder: Path) -> None:
    """A model folder with motion/, as diffusers writes it, of random weights in float16."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    from t2v.models.base import save_json
    from t2v.models.checkpoint import model_index
    from t2v.models.text_encoder import save_tokenizer, train_tokenizer

    sizes = SIZES[size]
    tokenizer = train_tokenizer([PROMPT] * 2, 560, 77)
    text = {"hidden_size": sizes["text"], "intermediate_size": 4 * sizes["text"], "vocab_size": sizes["vocab"]}
    text |= {"num_hidden_layers": sizes["layers"], "num_attention_heads": max(1, sizes["text"] // 64)}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    levels = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", clip_sample=False, steps_offset=1
    )
    networks: dict[str, Callable[[], Any]] = {
        "text_encoder": lambda: CLIPTextModel(CLIPTextConfig(**text, **special)),
        "unet": lambda: diffusers.UNet2DConditionModel(
            sample_size=64, block_out_channels=sizes["unet"], cross_attention_dim=sizes["text"], attention_head_dim=8
        ),
        "vae": lambda: diffusers.AutoencoderKL(
            block_out_channels=sizes["vae"], latent_channels=4, layers_per_block=2, sample_size=512, **levels
        ),
        "motion": lambda: diffusers.MotionAdapter(block_out_channels=sizes["unet"]),
    }
    torch.manual_seed(0)
    for part, make in networks.items():
        make().half().save_pretrained(folder / part)
    scheduler.save_pretrained(folder / "scheduler")
    save_tokenizer(tokenizer, folder / "tokenizer")
    save_json(folder / "model_index.json", model_index(dict(scheduler.config), "AutoencoderKL"))


def options(arguments: argparse.Namespace) -> dict[str, Any]:
    """What both pipelines are asked for."""
    size = {"num_frames": arguments.frames, "height": arguments.pixels, "width": arguments.pixels}
    return {**size, "num_inference_steps": arguments.steps, "guidance_scale": arguments.guidance}


def own(arguments: argparse.Namespace, offload: str, small: bool) -> tuple[Callable[[], Any], float]:
    """t2v: a function that makes the video, and the estimate in bytes."""
    import t2v
    from t2v.pipelines.memory import PROCESS_BYTES

    pipe = t2v.load(str(arguments.folder), arguments.device, arguments.dtype, offload=offload)
    portions = {"chunk_size": 1, "attention_chunk_size": 2} if small else {"chunk_size": 8}
    settings = {**options(arguments), **portions, "sampler": "ddim"}
    estimate = pipe.memory(dataclasses.replace(pipe.defaults, **settings)).total - PROCESS_BYTES
    return lambda: pipe(PROMPT, seed=0, **settings), estimate


def peer(arguments: argparse.Namespace, offload: str, small: bool) -> tuple[Callable[[], Any], float]:
    """diffusers: a function that makes the video, and no estimate."""
    import diffusers

    dtype = {"torch_dtype": DTYPES[arguments.dtype]}
    adapter = diffusers.MotionAdapter.from_pretrained(arguments.folder / "motion", **dtype)
    pipe = diffusers.AnimateDiffPipeline.from_pretrained(arguments.folder, motion_adapter=adapter, **dtype)
    pipe.set_progress_bar_config(disable=True)
    if small:
        pipe.vae.enable_slicing()
        pipe.unet.enable_forward_chunking(chunk_size=2, dim=1)
    if offload == "none":
        pipe.to(arguments.device)
    elif offload == "model":
        pipe.enable_model_cpu_offload(device=arguments.device)
    else:
        pipe.enable_sequential_cpu_offload(device=arguments.device)
    chunk_size = 1 if small else 8
    return lambda: pipe(PROMPT, decode_chunk_size=chunk_size, output_type="np", **options(arguments)), 0.0


PIPELINES = {"t2v": own, "diffusers AnimateDiffPipeline": peer}
PEER = "diffusers AnimateDiffPipeline"


def measure(arguments: argparse.Namespace) -> dict[str, float]:
    """Load, make one video; bytes and seconds."""
    import diffusers  # noqa: F401  # both pipelines pay for the imports of both

    import t2v.pipelines.text_to_video  # noqa: F401

    imports, started = _resident("VmRSS"), time.perf_counter()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    make, estimate = PIPELINES[arguments.pipeline](arguments, *CASES[arguments.case])
    loaded = torch.cuda.memory_allocated() if arguments.device == "cuda" else _resident("VmHWM") - imports
    if arguments.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    make()
    peak = torch.cuda.max_memory_allocated() if arguments.device == "cuda" else _resident("VmHWM") - imports
    return {"peak": peak, "load": loaded, "estimate": estimate, "seconds": time.perf_counter() - started}


def _resident(figure: str) -> int:
    """Bytes of the process in memory, at present (VmRSS) or at most (VmHWM); getrusage counts the parent's, too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{figure}:"))


def measure_apart(pipeline: str, case: str, arguments: argparse.Namespace) -> dict[str, float]:
    """`measure` in a new process."""
    command = [sys.executable, "-m", "tests.benchmarks.generate_memory", "--pipeline", pipeline, "--case", case]
    for name in ("folder", "size", "pixels", "frames", "steps", "guidance", "dtype", "device", "threads"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=pipeline != PEER, stdout=subprocess.PIPE, text=True)
    failed = {name: math.nan for name in ("peak", "load", "estimate", "seconds")}
    return failed if done.returncode else dict(json.loads(done.stdout.splitlines()[-1]))


def row(pipeline: str, case: str, found: dict[str, float], peak: float, arguments: argparse.Namespace) -> Row:
    """What was found, beside diffusers' `peak`."""
    import diffusers

    size = f"{arguments.frames} frames, {arguments.pixels} px, {arguments.steps} steps, guidance {arguments.guidance:g}"
    return Row(
        date=datetime.date.today().isoformat(),
        case=f"{arguments.size}, {size}",
        pipeline=pipeline,
        offload=case,
        peak_memory_mb=round(found["peak"] / 1e6),
        of_peer=round(found["peak"] / peak, 3),
        load_mb=round(found["load"] / 1e6),
        estimate_mb=round(found["estimate"] / 1e6),
        seconds=round(found["seconds"], 1),
        precision=arguments.dtype,
        threads=arguments.threads,
        device=torch.cuda.get_device_name() if arguments.device == "cuda" else device_name(),
        torch=str(torch.__version__),
        diffusers=diffusers.__version__,
    )


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    has_gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="generate_memory", description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="sd15", help="of the networks")
    parser.add_argument("--pixels", type=int, default=512, help="height and width of the video")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--dtype", choices=DTYPES, default="fp16" if has_gpu else "bf16")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if has_gpu else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--folder", type=Path, help="of the random model: made there if it is missing; else temporary")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES) if has_gpu else ON_CPU)
    parser.add_argument("--dry-run", action="store_true", help="print the rows only")
    parser.add_argument("--pipeline", choices=PIPELINES, help="measure one pipeline here, and print it as JSON")
    parser.add_argument("--case", choices=CASES, help="of --pipeline")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Measure, print and append the rows."""
    arguments = parse(argv)
    if arguments.pipeline is not None:
        torch.set_num_threads(arguments.threads)
        print(json.dumps(measure(arguments)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        arguments.folder = arguments.folder or Path(temporary)
        if not (arguments.folder / "model_index.json").is_file():
            write_model(arguments.size, arguments.folder)
        for case in arguments.cases:
            found = {pipeline: measure_apart(pipeline, case, arguments) for pipeline in PIPELINES}
            rows = [
                row(name, case, figures, found[PEER]["peak"], arguments)
                for name, figures in found.items()
                if not math.isnan(figures["peak"])
            ]
            for each in rows:
                print(
                    f"{each.offload:28} {each.pipeline:30} {each.peak_memory_mb:7.0f} MB (x{each.of_peer:.2f}), "
                    f"loading {each.load_mb:.0f} MB, estimate {each.estimate_mb:.0f} MB, {each.seconds:.0f} s",
                    flush=True,
                )
            if not arguments.dry_run:
                save_rows([dataclasses.asdict(each) for each in rows], RESULTS / "generate_memory.csv")


if __name__ == "__main__":
    main()
