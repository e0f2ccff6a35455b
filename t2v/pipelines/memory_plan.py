"""What fits a video into a given memory: how the weights are placed, and how much is worked on at once."""

import itertools
import re
from collections.abc import Collection
from dataclasses import dataclass, fields, replace
from typing import Any

from t2v.errors import InputError
from t2v.pipelines.memory import Footprint, MemoryEstimate, format_bytes
from t2v.pipelines.offload import LEVELS
from t2v.pipelines.settings import GenerationOptions, GenerationSettings

UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SMALL_TILE = 256  # pixels
SMALLER = (8, 4, 2, 1)  # frames at once


@dataclass(frozen=True)
class MemoryPlan:
    """How to make a video in a given memory."""

    offload: str
    options: GenerationOptions  # what differs from the settings that were asked for
    estimate: MemoryEstimate

    def __str__(self) -> str:
        chosen: dict[str, Any] = {**({"offload": self.offload} if self.offload != "none" else {}), **self.options}
        words = [f"--{name.replace('_', '-')} {value}" for name, value in chosen.items()]
        return f"{' '.join(words) or 'nothing to change'}, about {format_bytes(self.estimate.total)}"


def parse_bytes(text: str) -> int:
    """Bytes of what people write: 8GB, 7.5 GiB, 6000MB.

    Raises:
        InputError: something else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?([KMGT]?I?)B?", text.strip().upper())
    if match is None or match[2] not in UNITS or not float(match[1]):
        raise InputError(f"memory is given as in 8GB or 7.5GiB, got {text!r}")
    return int(float(match[1]) * UNITS[match[2]])


def plan_memory(
    footprint: Footprint,
    settings: GenerationSettings,
    limit: int,
    levels: Collection[str] = LEVELS,
    fixed: Collection[str] = (),
) -> MemoryPlan:
    """The first of all ways to make a video that fits; those that cost the least time come first.

    Fewer frames in the decoder, then in attention layers; then weights that are offloaded; then smaller tiles, which
    alone change the picture.

    Args:
        limit: bytes.
        levels: of offload, from which to choose.
        fixed: names of settings that stay as they are.

    Raises:
        InputError: nothing fits.
    """
    choices: dict[str, list[Any]] = {
        "tile_size": [settings.tile_size, min(SMALL_TILE, settings.tile_size or SMALL_TILE)],
        "attention_chunk_size": _smaller(settings.attention_chunk_size, settings.frames_at_once),
        "chunk_size": _smaller(settings.chunk_size, settings.num_frames),
    }
    choices |= {name: [getattr(settings, name)] for name in choices if name in fixed}
    tiles, attention_chunks, chunks = choices.values()
    for tile, level, attention_chunk, chunk in itertools.product(tiles, levels, attention_chunks, chunks):
        candidate = replace(settings, tile_size=tile, attention_chunk_size=attention_chunk, chunk_size=chunk)
        estimate = footprint.estimate(candidate, level)
        plan = MemoryPlan(level, _changes(settings, candidate), estimate)
        if estimate.total <= limit:
            return plan
    raise InputError(
        f"{format_bytes(limit)} of memory are too little, the least that this takes is {plan}: lower --num-frames, "
        "--height and --width, or use --dtype bf16"
    )


def _smaller(value: int | None, count: int) -> list[int | None]:
    """A number of frames at once (None: all), then smaller ones."""
    return [value, *(number for number in SMALLER if number < (value or count))]


def _changes(before: GenerationSettings, after: GenerationSettings) -> GenerationOptions:
    names = [field.name for field in fields(before)]
    changed = {name: getattr(after, name) for name in names if getattr(after, name) != getattr(before, name)}
    return GenerationOptions(**changed)  # type: ignore[typeddict-item]
