"""Run benchmarks by name: `python -m tests.benchmarks.run unet_inflation`.

Rows go to tests/benchmarks/results/NAME.csv. Benchmarks of another kind are programs of their own, which take their own
options: `python -m tests.benchmarks.run temporal_training_step --size tiny`.
"""

import argparse
import dataclasses
import importlib
import sys

import torch

from tests.benchmarks.registry import BENCHMARKS, RESULTS, measure, save_rows

MODULES = ("curation", "attention_cpu", "data_pipeline", "unet_inflation", "mini_ops")  # each registers its benchmarks
PROGRAMS = ("generate_memory", "temporal_training_step")


def main() -> None:
    """Measure, print and append the rows."""
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        importlib.import_module(f"tests.benchmarks.{sys.argv[1]}").main(sys.argv[2:])
        return
    for module in MODULES:
        importlib.import_module(f"tests.benchmarks.{module}")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(BENCHMARKS))
    parser.add_argument("--case", help="only the case of this name")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--dry-run", action="store_true", help="print the rows only")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for name in arguments.names:
        for case in BENCHMARKS[name]():
            if arguments.case not in (None, case.name):
                continue
            rows = measure(name, case, arguments.rounds)
            for row in rows:
                print(
                    f"{row.case:22} {row.function:32} {row.median_s:8.3f} s  [{row.p20_s:.3f} {row.p80_s:.3f}]  "
                    f"x{row.ratio:.2f} [{row.ratio_p20:.2f} {row.ratio_p80:.2f}] of {row.baseline}, "
                    f"processor time x{row.cpu_ratio:.2f}",
                    flush=True,
                )
            if not arguments.dry_run:
                save_rows([dataclasses.asdict(row) for row in rows], RESULTS / f"{name}.csv")


if __name__ == "__main__":
    main()
