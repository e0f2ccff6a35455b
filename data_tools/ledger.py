"""What is done so far, in append-only files beside the manifest to be: a run that was killed goes on from there."""

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from t2v.data.manifest import ClipRow
from t2v.errors import InputError


def ledger_folder(output: Path) -> Path:
    """Where the ledgers for the manifest `output` lie."""
    return output.with_suffix(".ledger")


class Ledger:
    """The ledger of one rank; the only one that this process writes. One line is one group of rows, whole or absent.

    Raises:
        InputError: another process is writing it, or the folder cannot be written.
    """

    def __init__(self, output: Path, rank: int = 0) -> None:
        path = ledger_folder(output) / f"{rank:05d}.jsonl"
        try:
            path.parent.mkdir(exist_ok=True)
            self._file = open(path, "ab+")  # noqa: SIM115, closed in __exit__
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InputError(f"another process is making {output} (it holds {path}); wait for it to end") from None
        self._cut_torn_line()

    def _cut_torn_line(self) -> None:
        """A line without its newline is what a killed process left."""
        self._file.seek(0)
        whole = sum(len(line) for line in self._file if line.endswith(b"\n"))
        self._file.truncate(whole)

    def append(self, key: str, rows: list[ClipRow]) -> None:
        """Add the result of one group and bring it to the disk."""
        line = json.dumps({"key": key, "rows": [row.to_dict() for row in rows]}) + "\n"
        self._file.write(line.encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def read_ledgers(output: Path) -> Iterator[tuple[str, list[ClipRow]]]:
    """Key and rows of every group that any rank has finished; work that was done twice comes twice."""
    for path in sorted(ledger_folder(output).glob("*.jsonl")):
        with open(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                yield _parsed(line, path, number)


def _parsed(line: bytes, path: Path, number: int) -> tuple[str, list[ClipRow]]:
    try:
        entry = json.loads(line)
        return entry["key"], [ClipRow.from_dict(row) for row in entry["rows"]]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}, line {number} is damaged ({error}); remove it or add --overwrite") from error
