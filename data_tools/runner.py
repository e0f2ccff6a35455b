"""Run a stage over a manifest: skip what the ledger has, work on the rest, write the new manifest when all is there."""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from data_tools.executors.isolated import Limits
from data_tools.ledger import Ledger, ledger_folder, read_ledgers
from data_tools.progress import Progress
from data_tools.stage import Group, Stage, group_by_file, in_order, moved
from t2v.data.manifest import ClipRow, read_manifest, write_manifest
from t2v.data.video_io import check_parent
from t2v.errors import InputError

EXECUTORS = ("local", "ray")


@dataclass(frozen=True)
class RunOptions:
    """How stages are run; nothing here changes their results."""

    executor: str = "local"
    workers: int = 0  # 0: as many as fit
    time_limit: float = 3600.0  # seconds for one file
    memory_limit: float = 4.0  # GiB for one file
    rank: int = 0
    world_size: int = 1
    address: str | None = None  # of the Ray cluster
    retry_failed: bool = False
    overwrite: bool = False
    quiet: bool = False

    def check(self) -> None:
        """InputError for values that make no sense."""
        if self.executor not in EXECUTORS:
            raise InputError(f"unknown executor {self.executor!r}; choose from {', '.join(EXECUTORS)}")
        if self.address is not None and self.executor != "ray":
            raise InputError("--address belongs to --executor ray")
        if self.workers < 0:
            raise InputError(f"workers must be at least 0, got {self.workers}")
        for name, value in (("time limit", self.time_limit), ("memory limit", self.memory_limit)):
            if not value > 0:
                raise InputError(f"the {name} must be above 0, got {value:g}")
        if not 0 <= self.rank < self.world_size:
            raise InputError(f"rank must be 0 to world size - 1, got rank {self.rank} of {self.world_size}")
        if self.overwrite and self.world_size > 1:
            raise InputError("--overwrite would take away what other ranks have done; remove the .ledger folder first")

    def run(self, stage: Stage, groups: list[Group]) -> Iterator[tuple[Group, list[ClipRow]]]:
        """The stage's rows for each group, as they finish."""
        limits = Limits(self.time_limit, int(self.memory_limit * (1 << 30)))
        if self.executor == "ray":
            from data_tools.executors.ray_cluster import RayExecutor

            return RayExecutor(self.workers, self.address)(stage, groups, limits)
        from data_tools.executors.local import LocalExecutor

        return LocalExecutor(self.workers)(stage, groups, limits)


Finish = Callable[[list[ClipRow]], list[ClipRow]]


def run_stage(
    name: str,
    stage: Stage,
    rows: list[ClipRow],
    output: Path,
    options: RunOptions,
    finish: Finish = lambda rows: rows,
) -> list[ClipRow] | None:
    """Put every usable row through the stage and write all rows, sorted, to the manifest `output`.

    Rows that failed or were filtered out before are kept as they are. A killed run goes on where it was.

    Args:
        name: for the progress bar.
        finish: what is left to do on the sorted rows when all files are done, such as comparing them.

    Returns:
        The rows of the manifest, or None where other ranks have work left to do.
    """
    check_manifest(output, options.overwrite)
    if options.overwrite:
        shutil.rmtree(ledger_folder(output), ignore_errors=True)
    groups = {group.key(stage): group for group in group_by_file(row for row in rows if row.is_usable)}
    finished = _finished(output, groups)
    with Ledger(output, options.rank) as ledger, Progress(name, options.quiet) as progress:
        todo = {key: groups[key] for key in groups if _is_mine(key, options) and _is_open(key, finished, options)}
        progress.start(len(groups), [rows for key, rows in finished.items() if key not in todo])
        for group, result in options.run(stage, list(todo.values())):
            ledger.append(group.key(stage), result)
            progress.add(result)
    finished = _finished(output, groups)
    if missing := groups.keys() - finished.keys():
        progress.note(f"{len(missing)} of {len(groups)} files are left to other ranks; the last one writes {output}")
        return None
    kept = [row for row in rows if not row.is_usable]
    result = finish(sorted([*kept, *(row for rows in finished.values() for row in rows)], key=in_order))
    write_manifest(result, output)
    return result


def read_rows(manifest: Path, output: Path) -> list[ClipRow]:
    """The rows of a manifest, with paths as the manifest `output` is to hold them."""
    folder = manifest if manifest.is_dir() else manifest.parent
    if output.exists() and manifest.exists() and output.samefile(manifest):
        raise InputError(f"{output} is the input; choose another --output")
    return moved(read_manifest(manifest), folder, output.parent)


def check_manifest(output: Path, overwrite: bool) -> None:
    """InputError unless `output` can become a manifest; one with a ledger beside it may be brought up to date."""
    if output.suffix != ".parquet":
        raise InputError(f"cannot write {output.name}: a manifest is a .parquet file")
    check_parent(output)
    if output.exists() and not overwrite and not ledger_folder(output).is_dir():
        raise InputError(f"{output} exists; choose another --output or add --overwrite")


def _finished(output: Path, groups: dict[str, Group]) -> dict[str, list[ClipRow]]:
    """What the ledgers hold of the groups. Of work that was done twice the result without errors counts."""
    finished: dict[str, list[ClipRow]] = {}
    for key, rows in read_ledgers(output):
        if key in groups and (key not in finished or _has_failed(finished[key])):
            finished[key] = rows
    return finished


def _is_mine(key: str, options: RunOptions) -> bool:
    return int(key[:8], 16) % options.world_size == options.rank


def _is_open(key: str, finished: dict[str, list[ClipRow]], options: RunOptions) -> bool:
    return key not in finished or (options.retry_failed and _has_failed(finished[key]))


def _has_failed(rows: list[ClipRow]) -> bool:
    return any(row.error is not None for row in rows)
