"""Processes of this machine."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from data_tools.executors.isolated import Limits, run_isolated
from data_tools.stage import Group, Stage
from t2v.data.manifest import ClipRow


@dataclass(frozen=True)
class LocalExecutor:
    """At most `workers` files at a time; 0 takes one per core."""

    workers: int = 0

    def __call__(self, stage: Stage, groups: Iterable[Group], limits: Limits) -> Iterator[tuple[Group, list[ClipRow]]]:
        return run_isolated(stage, groups, self.workers or len(os.sched_getaffinity(0)), limits)
