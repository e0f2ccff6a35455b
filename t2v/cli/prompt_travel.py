"""`--prompt-at FRAME:PROMPT`: prompts that take over at later frames."""

import re
from typing import Any

from t2v.errors import InputError

PROMPT_AT = re.compile(r"\s*(\d+)\s*:(.*\S.*)", re.DOTALL)


def read_prompt_at(values: list[str]) -> dict[int, str]:
    """The prompts by their frames, in order; InputError for another form and for a frame given twice."""
    prompts: dict[int, str] = {}
    for value in values:
        if (match := PROMPT_AT.fullmatch(value)) is None:
            raise InputError(f'--prompt-at must be FRAME:PROMPT, as in 12:"a dog on the beach", got {value!r}')
        frame = int(match[1])
        if frame in prompts:
            raise InputError(
                f"--prompt-at gives frame {frame} two prompts: {prompts[frame]!r} and {match[2].strip()!r}"
            )
        prompts[frame] = match[2].strip()
    return dict(sorted(prompts.items()))


def split_first(prompt: str | None, prompts: dict[int, str]) -> tuple[str | None, dict[str, Any]]:
    """The prompt of frame 0, which may be given either way, and the setting with the later ones, if any were given."""
    later = {frame: text for frame, text in prompts.items() if frame > 0}
    if prompt is not None and 0 in prompts:
        raise InputError(f"frame 0 has two prompts: {prompt!r} and, by --prompt-at, {prompts[0]!r}: give one")
    return prompts.get(0, prompt), {"prompt_at": later} if prompts else {}
