"""Prompt to file in a fresh process, and where the time goes: `python -m tests.benchmarks.generate_cold`.

Options after `--` go to `t2v generate`, as in `python -m tests.benchmarks.generate_cold -- --num-inference-steps 15`.
Rows go to tests/benchmarks/results/generate_cold.csv.
"""

import argparse
import dataclasses
import datetime
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.registry import RESULTS, device_name, save_rows

PROMPT = "robot dancing in Times Square"
STAGES = ("import", "load", "text", "denoise", "decode", "encode")


@dataclass(frozen=True)
class Row:
    """One measured command; seconds are medians over the rounds."""

    date: str
    model: str
    settings: str
    wall_s: float  # from the start of the process to its end
    wall_max_s: float
    import_s: float
    load_s: float
    text_s: float
    denoise_s: float
    decode_s: float
    encode_s: float
    peak_memory_mb: float
    rounds: int
    device: str
    dtype: str
    threads: int
    torch: str


def generate(options: list[str]) -> dict[str, Any]:
    """Run the command once; what it reports, and its wall time."""
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "video.mp4")
        command = [sys.executable, "-m", "t2v", "generate", PROMPT, "--json", "--quiet", "--output", output, *options]
        started = time.perf_counter()
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.perf_counter() - started
    return {**json.loads(done.stdout.splitlines()[-1]), "wall": wall}


def summarise(results: list[dict[str, Any]]) -> Row:
    """One row for the rounds of one command."""
    first, walls = results[0], [result["wall"] for result in results]
    settings = first["settings"]
    size = f"{settings['num_frames']} frames {settings['width']}x{settings['height']}"
    return Row(
        date=datetime.date.today().isoformat(),
        model=first["model"],
        settings=f"{size} {settings['sampler']} {settings['num_inference_steps']} steps",
        wall_s=round(statistics.median(walls), 2),
        wall_max_s=round(max(walls), 2),
        **{
            f"{stage}_s": round(statistics.median(result["seconds"][stage] for result in results), 2)
            for stage in STAGES
        },
        peak_memory_mb=round(max(result["peak_memory_bytes"] for result in results) / 1e6),
        rounds=len(results),
        device=device_name() if first["device"] == "cpu" else first["device"],
        dtype=first["dtype"],
        threads=first["threads"],
        torch=first["torch"],
    )


def main() -> None:
    """Measure, print and append the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dry-run", action="store_true", help="print the row only")
    parser.add_argument("options", nargs="*", help="for t2v generate")
    arguments = parser.parse_args()
    row = summarise([generate(arguments.options) for _ in range(arguments.rounds)])
    for name, value in dataclasses.asdict(row).items():
        print(f"{name:16} {value}")
    if not arguments.dry_run:
        save_rows([dataclasses.asdict(row)], RESULTS / "generate_cold.csv")


if __name__ == "__main__":
    main()
