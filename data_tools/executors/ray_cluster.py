"""A Ray cluster, or Ray on this machine. A task is one file: its rows travel, never its frames."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from data_tools.executors.isolated import Limits, failed, run_isolated
from data_tools.stage import Group, Stage
from t2v.data.manifest import ClipRow
from t2v.errors import InputError

_RETRIES = 3  # of a file whose Ray worker died, which takes more than a bad file


@dataclass(frozen=True)
class RayExecutor:
    """At most `workers` files at a time; 0 takes one per CPU of the cluster but one, which is the driver's.

    Args:
        address: of a running cluster, "auto" for the one that the environment knows; None starts Ray here.
    """

    workers: int = 0
    address: str | None = None

    def __call__(self, stage: Stage, groups: Iterable[Group], limits: Limits) -> Iterator[tuple[Group, list[ClipRow]]]:
        ray = _started(self.address)
        cpus = int(ray.cluster_resources().get("CPU", 1))
        room = max(1, cpus - 1)
        task = ray.remote(num_cpus=1 if cpus > 1 else 0.5, max_retries=_RETRIES)(_run_one)
        waiting, running = iter(groups), dict[Any, Group]()
        try:
            while True:
                while len(running) < min(self.workers or room, room) and (group := next(waiting, None)) is not None:
                    running[task.remote(stage, group, limits)] = group
                if not running:
                    return
                for result in ray.wait(list(running))[0]:
                    group = running.pop(result)
                    yield group, _rows_of(ray, result, group)
        finally:
            for result in running:
                ray.cancel(result, force=True)


def _started(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it reports over the network otherwise
    try:
        import ray
    except ImportError:
        raise InputError("--executor ray needs Ray: pip install 't2v[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(address=address, include_dashboard=None if address else False, log_to_driver=False)
        except (ConnectionError, ValueError) as error:
            raise InputError(f"no Ray cluster at {address} ({error}); start one or leave --address out") from error
    return ray


def _run_one(stage: Stage, group: Group, limits: Limits) -> list[ClipRow]:
    """Runs in a Ray worker; the file gets a process of its own there too."""
    ((_, rows),) = run_isolated(stage, [group], 1, limits)
    return rows


def _rows_of(ray: Any, result: Any, group: Group) -> list[ClipRow]:
    try:
        return ray.get(result)
    except ray.exceptions.RayError as error:
        return failed(group.rows, f"its Ray worker died {_RETRIES + 1} times ({type(error).__name__})")
