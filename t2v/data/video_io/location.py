"""Where a video lies: a file, a folder of pictures, or a stretch of a tar file that is read in place."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ShardMember:
    """A file inside an uncompressed tar file."""

    shard: Path
    name: str
    offset: int  # of its first byte in the tar file
    size: int  # bytes

    def __str__(self) -> str:
        return f"{self.shard}/{self.name}"

    def read(self) -> bytes:
        """The whole member."""
        with self.shard.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


VideoPath = Path | ShardMember


def media_url(path: VideoPath) -> str:
    """What FFmpeg opens or writes; a member of a tar file through its protocol `subfile`."""
    if isinstance(path, ShardMember):
        return f"subfile,,start,{path.offset},end,{path.offset + path.size},,:file:{path.shard}"
    return f"file:{path}"  # else a name with a colon is taken for a protocol
