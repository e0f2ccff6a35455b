"""Videos in the folder layout that VBench reads: PROMPT-INDEX.mp4, nothing else among them."""

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from t2v.data.sources import Source, find_sources
from t2v.errors import InputError
from t2v.evaluation.clip_set import generation_record

SUFFIXES = (".mp4", ".gif")  # that VBench opens
_LONGEST = 255  # bytes of a file name


@dataclass(frozen=True)
class Export:
    """One video of the layout."""

    source: Path
    name: str
    prompt: str
    seed: int


def plan_export(folder: Path, num_videos: int, prompts: Sequence[str] | None = None) -> list[Export]:
    """The first `num_videos` seeds of each prompt, prompt by prompt, of videos that `t2v generate` made.

    Args:
        prompts: which must be there, such as VBench's list; None: those that are there.

    Raises:
        InputError: a prompt has too few videos or cannot be a file name, or files are not all mp4 or all gif.
    """
    made: dict[str, list[tuple[int, Path]]] = {}
    for source in find_sources(folder):
        record = generation_record(source) if isinstance(source, Source) else {}
        if {"prompt", "seed"} <= record.keys() and isinstance(source.path, Path):
            made.setdefault(record["prompt"], []).append((record["seed"], source.path))
    if not made:
        raise InputError(
            f"{folder} has no video with the .json beside it that `t2v generate` writes: make them with it"
        )
    exports = []
    for prompt in dict.fromkeys(prompts) if prompts is not None else made:
        chosen = sorted(made.get(prompt, []))[:num_videos]
        if len(chosen) < num_videos:
            raise InputError(
                f"{prompt!r} has {len(chosen)} videos, {num_videos} are wanted: t2v generate --num-videos {num_videos}"
            )
        exports += [Export(path, _name(prompt, i, path), prompt, seed) for i, (seed, path) in enumerate(chosen)]
    suffixes = {export.source.suffix for export in exports}
    if len(suffixes) > 1 or not suffixes <= set(SUFFIXES):
        raise InputError(
            f"VBench reads folders of {' or '.join(SUFFIXES)} alone, these are {', '.join(sorted(suffixes))}"
        )
    return exports


def write_export(exports: Sequence[Export], output: Path) -> None:
    """Copy the videos into the new folder `output`, whole or not at all."""
    partial = output.with_name(f".{output.name}-{secrets.token_hex(4)}")
    try:
        partial.mkdir(parents=True)
        for export in exports:
            shutil.copyfile(export.source, partial / export.name)
        os.replace(partial, output)
    except OSError as error:
        raise InputError(f"cannot write {output}: {error.strerror}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _name(prompt: str, index: int, path: Path) -> str:
    name = f"{prompt}-{index}{path.suffix}"
    if "/" in prompt or len(name.encode()) > _LONGEST:
        raise InputError(
            f"the prompt {prompt[:60]!r} cannot be a file name, as VBench wants it: shorten it, without '/'"
        )
    return name
