"""The ops, the temporal modules and whole networks against the plain reference, diffusers and make-a-video-pytorch.

    python -m tests.benchmarks.ops                  on a GPU: Stable Diffusion 1.5 sizes in bfloat16, under 8 minutes
    python -m tests.benchmarks.ops --device cpu     the embedded model's sizes
    python -m tests.benchmarks.ops --sizes tiny     all that it does, at sizes without meaning

Cases run in a worker process. One that fails, hangs or takes the GPU down with it is named, and a new worker goes on
after it; rows go to tests/benchmarks/results/ops.csv as they come. `python -m tests.benchmarks.plot` draws them.
"""

import argparse
import datetime
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import diffusers
import torch

from t2v.evaluation import op_speed
from t2v.evaluation.op_speed import Case, Measurement
from t2v.evaluation.timing import Roofline, device_name, measure_roofline
from t2v.ops.backend import triton_runs_on
from tests.benchmarks.op_cases import HAS_MAKE_A_VIDEO, SIZES, Portion, portions
from tests.benchmarks.registry import RESULTS, save_rows
from tests.benchmarks.supervisor import supervise


def main(argv: list[str] | None = None) -> None:
    """Measure, print and append the rows as they come."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", choices=SIZES, help="[default: sd15 on a GPU, mini elsewhere]")
    parser.add_argument("--case", default="", help="only cases whose names contain this")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=7.5, help="the whole run ends then")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path, default=RESULTS / "ops.csv")
    parser.add_argument("--dry-run", action="store_true", help="print the rows only")
    parser.add_argument("--worker", help="measure here, from this case on, and print messages")
    arguments = parser.parse_args(argv)
    if arguments.worker is not None:
        work(arguments)
        return
    if not HAS_MAKE_A_VIDEO:
        print("make-a-video-pytorch is left out: pip install --no-deps make-a-video-pytorch")
    given = argv if argv is not None else sys.argv[1:]
    command = [sys.executable, "-m", "tests.benchmarks.ops", *given, "--worker"]
    for message in supervise(command, time.monotonic() + 60 * arguments.minutes):
        if "row" not in message:
            print(message["text"], flush=True)
            continue
        print_row(message["row"])
        if not arguments.dry_run:
            save_rows([message["row"]], arguments.output)


def work(arguments: argparse.Namespace) -> None:
    """Measure from a case on, PORTION.CASE, and print messages: a case begins, a row, a text."""
    first = tuple(int(number) for number in arguments.worker.split("."))
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    on_gpu = device.type == "cuda"
    dtype = torch.bfloat16 if on_gpu else torch.float32
    roofline = measure_roofline(device, dtype)
    rates = f"{roofline.bytes_per_s / 1e9:.0f} GB/s, {roofline.flops_per_s / 1e12:.2f} TFLOP/s"
    tell(text=f"{device_name(device)}: {rates}")
    planned = portions(SIZES[arguments.sizes or ("sd15" if on_gpu else "mini")], dtype, device)
    for place, seconds, case in enumerate_cases(planned, first):
        if arguments.case in case.name:
            tell(begin=place, seconds=seconds, name=case.name)
            for found in op_speed.measure(runnable(case), arguments.rounds, device, roofline):
                tell(row=row(found, device, dtype, roofline))


def enumerate_cases(planned: list[Portion], first: tuple[int, ...]) -> Iterator[tuple[list[int], float, Case]]:
    """Cases from the `first` one on, each with its place and its seconds; the portions before are not made."""
    for i, portion in enumerate(planned):
        if i >= first[0]:
            tell(begin=[i, 0 if i > first[0] else first[1]], seconds=portion.seconds, name=f"making of portion {i}")
            for j, case in enumerate(portion.cases()):
                if (i, j) >= first:
                    yield [i, j], portion.seconds, case


def runnable(case: Case) -> Case:
    """The case without the functions that cannot run here: a peer must not cost the others their row."""
    functions: dict[str, Callable[..., Any]] = {}
    for name, function in case.functions.items():
        try:
            with torch.no_grad():
                function(*case.inputs)
            functions[name] = function
        except (RuntimeError, NotImplementedError) as error:
            tell(text=f"{case.name}, {name} cannot run: {str(error).splitlines()[0]}")
    return replace(case, functions=functions)


def tell(**message: Any) -> None:
    """A message to the process that started this one."""
    print(json.dumps(message), flush=True)


def row(found: Measurement, device: torch.device, dtype: torch.dtype, roofline: Roofline) -> dict[str, Any]:
    """A line of the CSV."""
    peer = "make-a-video-pytorch"
    return {
        "date": datetime.date.today().isoformat(),
        "device": device_name(device),
        "torch": torch.__version__,
        "cuda": torch.version.cuda or "",
        "triton": importlib.metadata.version("triton") if triton_runs_on(device) else "",
        "diffusers": diffusers.__version__,
        peer: importlib.metadata.version(peer) if HAS_MAKE_A_VIDEO else "",
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
        "cuda_graph": found.timing.graph,
        "roofline_gb_per_s": round(roofline.bytes_per_s / 1e9, 1),
        "roofline_tflop_per_s": round(roofline.flops_per_s / 1e12, 2),
    }


def print_row(line: dict[str, Any]) -> None:
    """One line for the terminal."""
    print(
        f"{line['case']:40} {line['mode']:8} {line['function']:32} {line['median_ms']:9.3f} ms "
        f"[{line['p20_ms']:.3f} {line['p80_ms']:.3f}]  x{line['speedup']:.2f}  {line['of_roofline']:.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
