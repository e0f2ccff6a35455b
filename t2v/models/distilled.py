"""Weights that were distilled to few steps, Lightning (arXiv 2403.12706) and LCM (arXiv 2310.04378, 2311.05556).

Motion modules and LoRA of these kinds have the layers of any other: their files tell them by nothing but their names.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LCM: dict[str, Any] = {"sampler": "lcm", "num_inference_steps": 6, "guidance_scale": 2.0}
LIGHTNING: dict[str, Any] = {"sampler": "euler", "timestep_spacing": "trailing", "guidance_scale": 1.0}
UNNAMED = "pytorch_lora_weights"  # what every LoRA folder calls its file: there the folder's name counts
LCM_NAME = re.compile(r"(?<![a-z])(animate)?lcm(?![a-z])")
NUM_STEPS = re.compile(r"(\d+)[-_ ]?step")  # in every name of Lightning; without, it may be a style of that name


@dataclass(frozen=True)
class Distilled:
    """A file of distilled weights."""

    name: str
    settings: dict[str, Any]  # of generation, as the weights need them

    @property
    def summary(self) -> str:
        """The settings, for people."""
        return ", ".join(f"{name} {value}" for name, value in self.settings.items())

    @property
    def note(self) -> str:
        """What a person should know."""
        return f"{self.name} is distilled, by its name: unless given otherwise, {self.summary}"


def find_distilled(files: Iterable[str]) -> Distilled | None:
    """The last of the files, motion and LoRA, whose name says Lightning or LCM."""
    found = [distilled for file in files if (distilled := _by_name(Path(file))) is not None]
    return found[-1] if found else None


def _by_name(file: Path) -> Distilled | None:
    name = file.parent.name if file.stem == UNNAMED else file.name
    steps = NUM_STEPS.search(name.lower())
    if "lightning" in name.lower() and steps is not None:
        return Distilled(name, {**LIGHTNING, "num_inference_steps": max(1, int(steps[1]))})
    return Distilled(name, LCM) if LCM_NAME.search(name.lower()) else None
