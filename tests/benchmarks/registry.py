"""Benchmarks by name, how they measure, and the rows they write."""

import csv
import datetime
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured function. Ratios are of the same round, so that a change in the machine's load cancels out."""

    date: str
    benchmark: str
    case: str
    function: str
    median_s: float
    p20_s: float
    p80_s: float
    baseline: str
    ratio: float  # median over the rounds of time / baseline's time
    ratio_p20: float
    ratio_p80: float
    cpu_ratio: float  # the same of processor time instead of wall time
    rounds: int
    threads: int
    device: str
    torch: str


@dataclass(frozen=True)
class Case:
    """Functions to compare under one name; each has the name of its baseline, which is one of them."""

    name: str
    functions: Mapping[str, Callable[[], object]]
    baselines: Mapping[str, str]


Benchmark = Callable[[], list[Case]]
BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(function: Benchmark) -> Benchmark:
    """Register a function that returns cases, under its own name."""
    BENCHMARKS[function.__name__] = function
    return function


def measure(name: str, case: Case, rounds: int) -> list[Row]:
    """Run every function once per round, in another order each time, after one unmeasured round."""
    order = list(case.functions)
    shuffle = random.Random(0).shuffle
    wall: dict[str, list[float]] = {function: [] for function in case.functions}
    cpu: dict[str, list[float]] = {function: [] for function in case.functions}
    for i in range(rounds + 1):
        shuffle(order)  # what ran before leaves its mark on caches and the heap
        for function in order:
            start, cpu_start = time.perf_counter(), time.process_time()
            case.functions[function]()
            if i > 0:
                wall[function].append(time.perf_counter() - start)
                cpu[function].append(time.process_time() - cpu_start)
    return [_row(name, case, function, wall, cpu) for function in case.functions]


def _row(name: str, case: Case, function: str, wall: Mapping[str, list[float]], cpu: Mapping[str, list[float]]) -> Row:
    baseline = case.baselines[function]
    ratios = [a / b for a, b in zip(wall[function], wall[baseline], strict=True)]
    cpu_ratios = [a / b for a, b in zip(cpu[function], cpu[baseline], strict=True)]
    return Row(
        date=datetime.date.today().isoformat(),
        benchmark=name,
        case=case.name,
        function=function,
        median_s=round(statistics.median(wall[function]), 4),
        p20_s=round(percentile(wall[function], 20), 4),
        p80_s=round(percentile(wall[function], 80), 4),
        baseline=baseline,
        ratio=round(statistics.median(ratios), 3),
        ratio_p20=round(percentile(ratios, 20), 3),
        ratio_p80=round(percentile(ratios, 80), 3),
        cpu_ratio=round(statistics.median(cpu_ratios), 3),
        rounds=len(ratios),
        threads=torch.get_num_threads(),
        device=device_name(),
        torch=torch.__version__,
    )


def percentile(values: list[float], percent: float) -> float:
    """The value below which `percent` of `values` lie, interpolated linearly."""
    return torch.tensor(values, dtype=torch.float64).quantile(percent / 100).item()


def device_name() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def save_rows(rows: Sequence[Mapping[str, object]], path: Path, *, replace: bool = False) -> None:
    """Append rows to a CSV file, whose first row brings the header; or make the file anew of them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = replace or not path.exists()
    with path.open("w" if new else "a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if new:
            writer.writeheader()
        writer.writerows(rows)
