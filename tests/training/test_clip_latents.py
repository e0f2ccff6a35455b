"""From a folder of videos to latents of a batch, as `t2v train temporal` does it."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from t2v.data.clips import Clip
from t2v.data.video_io import EncodeOptions, write_video
from t2v.errors import InputError
from t2v.models.autoencoder import AutoencoderKL
from t2v.training.config import TrainConfig
from t2v.training.config_sections import ClipsConfig
from t2v.training.objectives.base import Context
from t2v.training.objectives.clip_latents import ClipLatents
from t2v.training.randomness import sample_keys
from t2v.training.sampler import Position
from t2v.training.trainer import Trainer

Configure = Callable[..., TrainConfig]
Build = Callable[..., ClipLatents]

DATA = Path(os.environ.get("T2V_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
NEVER_OPEN = (
    "audio_only_opus.mp4 chunk_out_of_range.mp4 crash_4163.gif encrypted_clearkey.mp4 header_only_5544frames.mp4 "
    "invalid_vp9_bitstream.webm subtitle_only.mkv tiny_1x1_noframes.avi tiny_no_streams.mp4 tiny_noframes.gif "
    "tiny_unopenable.flv ts_0x0.ts zero_bytes.webm"
)
BREAK_LATER = "corrupted_packets.mp4 no_timescale.mp4"


def skipped(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "skipped.jsonl").read_text().splitlines()]


def draw(clips: ClipLatents, epoch: int = 0, samples: tuple[int, ...] = (0, 1, 2)) -> torch.Tensor:
    batch = clips.training.__getitems__([Position(epoch, sample, 1.0) for sample in samples])
    return clips.latents(batch, sample_keys(0, batch["epochs"], batch["indices"], "latents"))


@pytest.fixture
def build(clips: Path, tiny_image_model: Path, tmp_path: Path) -> Build:
    """`build(key=value, ...)`: the latents of the shared clips, or those in `path`, in the run folder tmp_path."""
    autoencoder = AutoencoderKL.from_pretrained(tiny_image_model / "vae").requires_grad_(False)

    def make(**options: Any) -> ClipLatents:
        defaults = {"path": str(clips), "num_frames": 4, "fps_range": (4, 24), "resolution": 32, "num_validation": 2}
        config = ClipsConfig(**{**defaults, **options})
        context = Context(torch.device("cpu"), tmp_path, False, lambda text: None)
        return ClipLatents(tiny_image_model, autoencoder, config, 0, None, context)

    return make


@pytest.fixture
def half_broken(clips: Path, tmp_path: Path) -> Path:
    """Eight clips; the packets of one are damaged in its second half."""
    folder = tmp_path / "data"
    folder.mkdir()
    for index in range(7):
        shutil.copy(clips / f"{index % 6}.mp4", folder / f"{index}.mp4")
    frames = np.random.default_rng(0).integers(0, 256, (48, 32, 32, 3), dtype=np.uint8)
    path = write_video(folder / "damaged.mp4", frames, 24, options=EncodeOptions(gop=12))
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat")
    middle = start + (len(content) - start) // 2
    content[middle:] = bytes(len(content) - middle)
    path.write_bytes(content)
    return folder


def test_latents_are_the_same_from_pixels_and_from_the_cache(build: Build) -> None:
    for mode in ("mode", "sample"):
        direct, cached = (draw(build(cache_latents=cache, latents=mode)) for cache in (False, True))
        assert direct.shape == cached.shape == (3, 4, 4, 8, 8) and direct.dtype == cached.dtype == torch.float32
        assert torch.allclose(direct, cached, atol=2e-3) and direct.std() > 0.02


def test_latents_do_not_depend_on_how_many_frames_are_encoded_at_once(build: Build) -> None:
    one, many = (draw(build(encode_batch_size=size)) for size in (1, 64))
    assert torch.allclose(one, many, atol=1e-5)


def test_cache_is_reused_and_follows_the_settings(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    first = draw(build(cache_latents=True))
    monkeypatch.setattr(Clip, "read", lambda *arguments: pytest.fail("read again"))
    assert torch.equal(draw(build(cache_latents=True)), first)
    with pytest.raises(pytest.fail.Exception, match="read again"):
        build(cache_latents=True, resolution=24)


@pytest.mark.parametrize("cache_latents", [False, True])
def test_a_video_that_breaks_in_mid_read_is_logged_once_and_the_run_goes_on(
    build: Build, half_broken: Path, tmp_path: Path, cache_latents: bool
) -> None:
    options = {"path": str(half_broken), "cache_latents": cache_latents, "num_validation": 1}
    for _ in range(2):  # a run, and its resume
        clips = build(**options)
        for epoch in range(8):
            assert draw(clips, epoch, tuple(range(len(clips.training)))).isfinite().all()
        lines = skipped(tmp_path)
        assert [Path(line["path"]).name for line in lines] == ["damaged.mp4"]
        assert "cannot be decoded" in lines[0]["reason"] and lines[0]["frame"] >= 12
    assert len(clips.training) + len(clips.validation) == (7 if cache_latents else 8)


def test_too_many_bad_files_stop_the_run_with_a_report(build: Build, half_broken: Path) -> None:
    for index in range(3):
        (half_broken / f"unreadable{index}.mp4").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"3 of 11 files cannot be read, more than data\.max_bad_share=0\.2.*skipped"):
        build(path=str(half_broken), max_bad_share=0.2)
    clips = build(path=str(half_broken), max_bad_share=0.3, num_validation=1)
    with pytest.raises(InputError, match=r"4 of 11 files cannot be read"):
        for epoch in range(8):
            draw(clips, epoch, tuple(range(len(clips.training))))


def test_the_run_goes_on_without_a_file_at_which_the_decoder_hangs(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = build(read_timeout=0.3)
    original = Clip.read
    stuck = str(clips.training.clips.clips[1].path)

    def read(self: Clip, *arguments: Any) -> np.ndarray:
        if str(self.path) == stuck:
            time.sleep(2)
        return original(self, *arguments)

    monkeypatch.setattr(Clip, "read", read)
    assert draw(clips).isfinite().all()
    assert [line["path"] for line in skipped(tmp_path)] == [stuck]
    assert "no answer of the decoder in 0.3 s" in skipped(tmp_path)[0]["reason"]
    assert draw(build(read_timeout=0.3)).isfinite().all()


def test_clips_that_do_not_fit_are_listed_and_not_counted_as_broken(build: Build, clips: Path, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    shutil.copytree(clips, folder)
    for index in range(4):
        write_video(folder / f"short{index}.mp4", np.zeros((3, 32, 32, 3), np.uint8), 24)
    assert len(build(path=str(folder), max_bad_share=0.0).training) == 4
    assert {line["is_broken"] for line in skipped(tmp_path)} == {False} and len(skipped(tmp_path)) == 4


def test_a_cache_folder_that_cannot_be_made_is_refused(build: Build, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "cache"):
        with pytest.raises(InputError, match=r"data\.cache_dir .*file.* cannot be made"):
            build(cache_dir=str(folder))


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """Three wide, three high and three square clips."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 64, 64, 3), dtype=np.uint8)
    for index in range(9):
        height, width = ((36, 64), (64, 36), (48, 48))[index % 3]
        path = tmp_path / "shapes" / f"{index}.mp4"
        path.parent.mkdir(exist_ok=True)
        write_video(path, noise[:, :height, :width], 24)
    return tmp_path / "shapes"


@pytest.mark.parametrize("cache_latents", [False, True])
def test_buckets_give_each_clip_its_size(build: Build, shapes: Path, cache_latents: bool) -> None:
    options = {"path": str(shapes), "cache_latents": cache_latents, "num_validation": 2}
    clips = build(aspect_buckets=True, **options)
    sizes = [clips.training.clips.sizes[group] for group in clips.training.groups]
    for sample, (clip, size) in enumerate(zip(clips.training.clips.clips, sizes, strict=True)):
        assert abs(clip.aspect / (size[1] / size[0]) - 1) < 0.25
        assert draw(clips, 0, (sample,)).shape == (1, 4, 4, size[0] // 4, size[1] // 4)
    assert len(set(clips.training.groups)) == 3 and set(clips.validation.groups) == {0}
    assert set(build(**options).training.groups) == {0}
    chosen = build(aspect_buckets=[[48, 24], [32, 32]], **options)
    assert chosen.training.clips.sizes == [(24, 48), (32, 32)]
    with pytest.raises(InputError, match="36x20 is no multiple of 8"):
        build(aspect_buckets=[[36, 20]], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cache_latents": True, "flip": True}, "one crop"),
        ({"cache_fps": 8.0}, "needs cache_latents"),
        ({"aspect_buckets": []}, "is empty"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    configure: Configure, options: dict[str, Any], message: str
) -> None:
    overrides = [f"data.{name}={json.dumps(value)}" for name, value in options.items()]
    with pytest.raises(InputError, match=f"config: data: .*{message}") as caught:
        configure("temporal", *overrides)
    assert "got" not in str(caught.value)


@pytest.mark.parametrize("options", [("data.aspect_buckets=true",), ("data.cache_latents=true",)], ids=str)
def test_training_runs_and_resumes_to_the_bit(
    configure: Configure, shapes: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    weights = []
    for steps in ((4,), (2, 4)):
        run = tmp_path / f"run{len(steps)}"
        for max_steps in steps:
            overrides = (f"data.path={shapes}", "batch_size=2", f"max_steps={max_steps}", f"output_dir={run}", *options)
            fixed = ("data.curriculum_fraction=0", "optim.schedule=constant", "validate_every=100")
            trainer = Trainer(configure("temporal", *overrides, *fixed), resume="auto")
            trainer.run()
        weights.append({name: tensor.detach().clone() for name, tensor in trainer.parameters.items()})
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_training_gives_the_same_weights_with_worker_processes(
    configure: Configure, half_broken: Path, tmp_path: Path
) -> None:
    weights = []
    for workers in (0, 2):
        run = tmp_path / f"run{workers}"
        overrides = (f"data.path={half_broken}", f"data.num_workers={workers}", f"output_dir={run}", "max_steps=8")
        varied = ("data.random_crop=true", "data.flip=true", "data.num_validation=1", "validate_every=100")
        trainer = Trainer(configure("temporal", *overrides, *varied))
        trainer.run()
        assert [Path(line["path"]).name for line in skipped(run)] == ["damaged.mp4"]
        weights.append({name: tensor.detach().clone() for name, tensor in trainer.parameters.items()})
    assert all(torch.equal(tensor, weights[1][name]) for name, tensor in weights[0].items())


@pytest.mark.skipif(not (DATA / "MANIFEST.csv").is_file(), reason=f"no test media in {DATA}")
def test_real_videos_are_read_with_broken_ones_among_them(build: Build, tmp_path: Path) -> None:
    """Mixed codecs, sizes, rates and rotations; the larger files are left out to save time."""
    for file in [*(DATA / "videos").iterdir(), *(DATA / "broken").iterdir()]:
        if file.stat().st_size < 300_000:
            target = tmp_path / "real" / file.parent.name / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(file)
    clips = build(path=str(tmp_path / "real"), max_bad_share=0.3, num_validation=1)
    assert len(clips.training) > 40
    for epoch in range(2):
        for sample in range(len(clips.training)):
            assert draw(clips, epoch, (sample,)).isfinite().all()
    names = [Path(line["path"]).name for line in skipped(tmp_path) if line["is_broken"]]
    assert sorted(names) == sorted([*NEVER_OPEN.split(), *BREAK_LATER.split()])
    short = [Path(line["path"]).name for line in skipped(tmp_path) if not line["is_broken"]]
    assert {"rot_0.mov", "tiny_8x8_1frame.webm"} <= set(short) and len(short) == len(set(short))


@pytest.mark.filterwarnings("ignore:This DataLoader")
def test_a_decoder_that_hangs_in_a_worker_process_ends_the_run(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = Trainer(configure("temporal", "data.num_workers=1", "data.read_timeout=0.3"))
    monkeypatch.setattr(Clip, "read", lambda *arguments: time.sleep(60))
    started = time.monotonic()
    with pytest.raises(InputError, match=r"no answer of the decoder in 0\.3 s"):
        trainer.run()
    assert time.monotonic() - started < 30
