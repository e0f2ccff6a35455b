"""Tar shards in the WebDataset layout: files of one sample share their name up to a dot (KEY.mp4, KEY.txt)."""

import json
import tarfile
from pathlib import Path, PurePosixPath

from t2v.data.video_io import ShardMember
from t2v.errors import InputError


def read_shard(shard: Path, suffixes: tuple[str, ...]) -> list[tuple[ShardMember, ShardMember | None]]:
    """The members with one of `suffixes`, in their order, each with the member that holds its caption, if any.

    Raises:
        InputError: a broken or compressed tar file; members cannot be read in place there.
    """
    members = _members(shard)
    by_name = {member.name: member for member in members}
    videos = [member for member in members if PurePosixPath(member.name).suffix.lower() in suffixes]
    return [(video, _sidecar(PurePosixPath(video.name), by_name)) for video in videos]


def _sidecar(video: PurePosixPath, by_name: dict[str, ShardMember]) -> ShardMember | None:
    """The file of the same key; a key ends at the last dot, or at the first one as in WebDataset."""
    keys = (video.stem, video.name.partition(".")[0])
    names = [str(video.with_name(key + suffix)) for key in keys for suffix in (".txt", ".json")]
    return next((by_name[name] for name in names if name in by_name), None)


def read_caption(member: ShardMember) -> str | None:
    """The text of KEY.txt, or the `caption` of KEY.json; InputError where that is no JSON."""
    if member.name.endswith(".txt"):
        return member.read().decode("utf-8", "replace").strip()
    try:
        content = json.loads(member.read())
    except ValueError as error:
        raise InputError(f"{member} is no JSON ({error})") from error
    caption = content.get("caption") if isinstance(content, dict) else None
    return caption if isinstance(caption, str) else None


def _members(shard: Path) -> list[ShardMember]:
    try:
        with tarfile.open(shard, "r:") as tar:
            return [ShardMember(shard, file.name, file.offset_data, file.size) for file in tar if file.isfile()]
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{shard} cannot be read as an uncompressed tar file ({error})") from error
