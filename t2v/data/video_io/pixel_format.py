"""What the name of a pixel format tells, such as "yuv420p10le"."""

import av


def bit_depth(name: str) -> int:
    """Bits of a colour value."""
    return max(component.bits for component in av.VideoFormat(name).components)


def has_alpha(name: str) -> bool:
    """Whether pixels can be transparent."""
    return any(component.is_alpha for component in av.VideoFormat(name).components)
