"""What is known about a video."""

from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class VideoInfo:
    """Facts about a video, counted from its packets rather than believed from its header."""

    num_frames: int
    fps: Fraction  # mean rate; the nominal one where the frames keep to it
    duration: float  # seconds, from the first frame to the end of the last
    width: int  # after rotation
    height: int
    rotation: int  # degrees clockwise from the stored picture to the upright one: 0, 90, 180 or 270
    codec: str
    is_variable_rate: bool = False
    pixel_aspect: Fraction = Fraction(1)  # width / height of a pixel, after rotation
    hidden_frames: int = 0  # in the file but never shown: cut off by an edit list, or only a reference for others
    pixel_format: str | None = None  # FFmpeg's name, such as "yuv420p10le"
    container: str | None = None  # FFmpeg's names of the format, such as "mov,mp4,m4a,3gp,3g2,mj2"
    audio_codec: str | None = None  # of the first audio stream

    @property
    def fps_rational(self) -> str:
        """The rate as a manifest holds it, such as "24000/1001"."""
        return f"{self.fps.numerator}/{self.fps.denominator}"
