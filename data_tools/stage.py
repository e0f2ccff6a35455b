"""A stage of curation: rows of one file in, rows out. How it is run over many files is the executor's affair."""

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from t2v.data.manifest import ClipRow


class Stage(Protocol):
    """A picklable callable whose repr holds every setting that its result depends on.

    It gets rows of one file, with paths relative to the folder of the manifest that it makes, and returns the rows that
    take their place. Equal rows must give equal rows. What goes wrong with the file raises InputError. It may name
    modules that take long to import in an attribute `preloaded`: all processes share one import.
    """

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]: ...


@dataclass(frozen=True)
class Group:
    """Rows that are worked on together, because they share a file."""

    rows: list[ClipRow]

    def key(self, stage: Stage) -> str:
        """A name for this work: it changes with the rows and with the stage's settings."""
        text = json.dumps([repr(stage), *(row.to_dict() for row in self.rows)], ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def seconds(self) -> float:
        """Length of the clips."""
        return sum(max(0.0, row.end - row.start) for row in self.rows)


def group_by_file(rows: Iterable[ClipRow]) -> list[Group]:
    """One group for each file, in the order of paths; the clips of a file in the order of time."""
    groups: dict[str, list[ClipRow]] = {}
    for row in sorted(rows, key=in_order):
        groups.setdefault(row.path, []).append(row)
    return [Group(rows) for rows in groups.values()]


def in_order(row: ClipRow) -> tuple[str, float, str]:
    """Sort key of the rows of a manifest."""
    return row.path, row.start, row.clip_id


def moved(rows: Iterable[ClipRow], old: Path, new: Path) -> list[ClipRow]:
    """The rows of a manifest in folder `old`, as a manifest in folder `new` holds them."""
    prefix = os.path.relpath(old, new)
    return [replace(row, path=Path(os.path.normpath(Path(prefix, row.path))).as_posix()) for row in rows]
