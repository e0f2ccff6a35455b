"""Numbers in `config.json` files: whole, and no larger than networks have them, so that none is built without end."""

from typing import Any

MAX_LAYERS = 128
MAX_WIDTH = 1 << 20  # of layers, vocabularies, tables


def is_count(name: str, value: Any) -> bool:
    """Whether a value can be the number that a field called `name` holds."""
    return type(value) is int and 1 <= value <= (MAX_LAYERS if "layers" in name else MAX_WIDTH)


def are_widths(value: Any) -> bool:
    """Whether a value is the list of the widths of a network's levels."""
    if not isinstance(value, list | tuple) or not 0 < len(value) <= MAX_LAYERS:
        return False
    return all(is_count("width", width) for width in value)
