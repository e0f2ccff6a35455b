from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from t2v.data.clips import Clip, Decoding, Window
from t2v.data.search import find_clips
from t2v.errors import InputError
from t2v.training import clip_cache
from t2v.training.clip_cache import ClipCache
from t2v.training.latent_cache import LatentMoments

SIZE = (32, 32)


def encode(pixels: np.ndarray) -> LatentMoments:
    """Mean colours of 8x8 blocks as if they were latents."""
    means = torch.from_numpy(pixels.reshape(len(pixels), 4, 8, 4, 8, 3).mean((2, 4))).permute(0, 3, 1, 2)
    return LatentMoments(means.half().contiguous(), (means / 10).half().contiguous())


def fail(clip: Clip, error: InputError) -> None:
    raise AssertionError(f"{clip.path}: {error}")


@pytest.fixture
def found(clips: Path) -> list[Clip]:
    return find_clips(clips, Decoding()).clips[:3]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ClipCache:
    monkeypatch.setattr(clip_cache, "_PART", 20)  # clips have 48 frames: parts of 20, 20 and 8
    return ClipCache(tmp_path / "latents", Decoding(), timeout=60.0)


def files(cache: ClipCache) -> list[Path]:
    return sorted(path for path in cache.folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("places", [[0, 1, 5], [18, 19, 20, 21], [3, 25, 41], list(range(48))])
def test_cache_reads_what_was_encoded(cache: ClipCache, found: list[Clip], places: list[int]) -> None:
    cache.fill([(clip, SIZE) for clip in found], encode, fail)
    chosen = np.array(places)
    read = cache.read(found[1], chosen, Window(SIZE))
    expected = encode(found[1].read(chosen, Window(SIZE), Decoding()))
    assert torch.equal(read["mean"], expected.mean) and torch.equal(read["std"], expected.std)


def test_cache_goes_on_where_it_was_interrupted(cache: ClipCache, found: list[Clip]) -> None:
    encoded: list[int] = []

    def interrupted(pixels: np.ndarray) -> LatentMoments:
        if len(encoded) == 4:
            raise KeyboardInterrupt
        encoded.append(len(pixels))
        return encode(pixels)

    wanted = [(clip, SIZE) for clip in found]
    with pytest.raises(KeyboardInterrupt):
        cache.fill(wanted, interrupted, fail)
    assert len(files(cache)) == 4 and all(path.suffix == ".safetensors" for path in files(cache))
    before = {path: path.stat().st_mtime_ns for path in files(cache)}
    count: list[int] = []
    cache.fill(wanted, lambda pixels: (count.append(len(pixels)), encode(pixels))[1], fail)
    assert count == [20, 8, 20, 20, 8] and len(files(cache)) == 9
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    cache.fill(wanted, lambda pixels: pytest.fail("encoded again"), fail)


def test_cache_tells_clips_sizes_and_frames_apart(cache: ClipCache, found: list[Clip]) -> None:
    one, other = found[:2]
    changed = [(one, SIZE), (other, SIZE), (one, (24, 40)), (one.thinned(12.0), SIZE), (one.between(0, 1), SIZE)]
    assert len({cache.parts(*pair)[0].path for pair in changed}) == 5
    assert [len(part.places) for part in cache.parts(one, SIZE)] == [20, 20, 8]


def test_cache_leaves_out_the_rest_of_a_broken_clip(cache: ClipCache, found: list[Clip], tmp_path: Path) -> None:
    failures: list[str] = []

    class Broken(Clip):
        def read(self, places: np.ndarray, window: Window, decoding: Decoding) -> np.ndarray:
            if places[0] == 20:
                raise InputError("a broken frame")
            return super().read(places, window, decoding)

    broken = Broken(**vars(found[0]))
    cache.fill([(broken, SIZE), (found[1], SIZE)], encode, lambda clip, error: failures.append(str(error)))
    assert failures == ["a broken frame"]
    assert [part.path.is_file() for part in cache.parts(broken, SIZE)] == [True, False, False]
    assert all(part.path.is_file() for part in cache.parts(found[1], SIZE))


def test_cache_keeps_few_parts_in_memory(cache: ClipCache, found: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading runs ahead of a slow encoder by no more than its threads."""
    reads: list[int] = []
    original: Callable[..., np.ndarray] = Clip.read
    monkeypatch.setattr(Clip, "read", lambda self, *rest: (reads.append(1), original(self, *rest))[1])
    ahead: list[int] = []
    encoded: list[int] = []

    def watch(pixels: np.ndarray) -> LatentMoments:
        ahead.append(len(reads) - len(encoded))
        encoded.append(1)
        return encode(pixels)

    cache.fill([(clip, SIZE) for clip in found], watch, fail, num_threads=2)
    assert len(encoded) == 9 and max(ahead) <= 4
