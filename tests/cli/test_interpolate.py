"""`t2v interpolate`, `extend` and `animate` from the command line."""

import json
import sys
import zlib
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2v.data.video_io import probe, read_frames, write_video
from t2v.models.folder import load_components
from t2v.models.interpolation import save_interpolation, widen


def picture(path: Path, seed: int, size: tuple[int, int] = (40, 32), mode: str = "RGB") -> Path:
    channels = len(mode)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], channels), np.uint8), mode).save(
        path
    )
    return path


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return picture(tmp_path / "a.png", 0), picture(tmp_path / "b.png", 1)


@pytest.fixture(scope="session")
def interpolation_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of an interpolation network for the tiny model."""
    folder = tmp_path_factory.mktemp("interpolation") / "interpolation"
    unet = widen(load_components(str(tiny_model)).unet)
    unet.conv_in.known.weight.data += 0.1
    save_interpolation(unet, folder, {"min_frames": 4, "fps_range": [4.0, 24.0]})
    return folder


def report_of(path: Path) -> dict:
    return json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("method", ["crossfade", "hold", "flow"])
def test_pair_of_pictures_keeps_its_ends_bit_for_bit(t2v_command, pair, tmp_path, method):
    pytest.importorskip("cv2") if method == "flow" else None
    done = t2v_command("interpolate", *pair, "-o", "out", "--method", method, "--frames", 9)
    assert (done.code, done.out) == (0, "out\n")
    frames = sorted((tmp_path / "out").iterdir())
    assert len(frames) == 9
    assert np.array_equal(pixels(frames[0]), pixels(pair[0])) and np.array_equal(pixels(frames[-1]), pixels(pair[1]))
    report = report_of(tmp_path / "out")
    assert report["sources"] == [0, *[None] * 7, 1] and report["num_made"] == 7 and report["method"] == method
    assert [Fraction(time) for time in report["times"]] == [Fraction(k, 8) for k in range(9)]


def test_diffusion_keeps_ends_and_repeats_by_seed(t2v_command, pair, tmp_path, tiny_model, interpolation_model):
    common = ("--model", tiny_model, "--interpolation", interpolation_model, "--device", "cpu", "--dtype", "fp32")
    for name, seed in (("x", 1), ("y", 1), ("z", 2)):
        done = t2v_command("interpolate", *pair, "-o", name, "--frames", 11, "--seed", seed, *common)
        assert done.code == 0, done.err
    x, y, z = (np.stack([pixels(f) for f in sorted((tmp_path / name).iterdir())]) for name in "xyz")
    assert x.shape == (11, 32, 40, 3)  # more frames than the network takes at once
    assert np.array_equal(x[0], pixels(pair[0])) and np.array_equal(x[-1], pixels(pair[1]))
    assert np.array_equal(x, y) and not np.array_equal(x[5], z[5])
    assert report_of(tmp_path / "x")["seed"] == 1
    done = t2v_command("interpolate", *pair, "-o", "w", "--frames", 11, "--seed", 1, "--offload", "sequential", *common)
    assert done.code == 0 and report_of(tmp_path / "w")["offload"] == "sequential"
    assert all(np.array_equal(pixels(f), pixels(tmp_path / "x" / f.name)) for f in (tmp_path / "w").iterdir())
    prompt = ("--prompt", "a robot", "--guidance-scale", 3, "--frame-guidance", 1.5)
    assert t2v_command("interpolate", *pair, "-o", "p.mp4", "--between", 1, *prompt, *common).code == 0
    assert probe("p.mp4").num_frames == 3


def test_a_hint_by_flow_makes_other_frames_and_is_recorded(
    t2v_command, pair, tmp_path, tiny_model, interpolation_model, monkeypatch
):
    common = ("--model", tiny_model, "--interpolation", interpolation_model, "--device", "cpu", "--dtype", "fp32")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "cv2", None)
        done = t2v_command("interpolate", *pair, "-o", "none", "--frames", 5, "--hint", "flow", *common)
        assert done.code == 2 and 'optical flow needs OpenCV: pip install "t2v[flow]"' in done.err
        assert not (tmp_path / "none").exists() and not (tmp_path / "none.json").exists()
    pytest.importorskip("cv2")
    for hint in ("crossfade", "flow"):
        done = t2v_command("interpolate", *pair, "-o", hint, "--frames", 5, "--hint", hint, *common)
        assert done.code == 0 and report_of(tmp_path / hint)["hint"] == hint, done.err
    made = [np.stack([pixels(f) for f in sorted((tmp_path / hint).iterdir())]) for hint in ("crossfade", "flow")]
    assert np.array_equal(made[0][[0, -1]], made[1][[0, -1]]) and not np.array_equal(*made)


@pytest.mark.parametrize(
    ("options", "sources"),
    [
        (("--between", 2), [0, None, None, 1, None, None, 2]),
        (("--between", 1, "--loop"), [0, None, 1, None, 2, None]),
        (("--frames", 6), [0, None, 1, None, None, 2]),
        (("--seconds", 0.5, "--fps", 12), [0, None, 1, None, None, 2]),
        (("--times", "0.1,0.75"), [0, None, 1, None, 2]),
        (("--frames", 3), [0, 1, 2]),
    ],
)
def test_pictures_lie_where_they_are_asked_for(t2v_command, pair, tmp_path, options, sources):
    third = picture(tmp_path / "c.png", 2)
    done = t2v_command("interpolate", *pair, third, "-o", "out", "--method", "crossfade", *options)
    assert done.code == 0, done.err
    assert report_of(tmp_path / "out")["sources"] == sources
    frames = sorted((tmp_path / "out").iterdir())
    for frame, source in zip(frames, sources, strict=True):
        if source is not None:
            assert np.array_equal(pixels(frame), pixels([*pair, third][source]))


def test_folder_is_in_natural_order_and_says_so(t2v_command, tmp_path):
    (tmp_path / "in").mkdir()
    for number in (10, 9, 1):
        picture(tmp_path / "in" / f"f{number}.png", number)
    for name in ("in", "in/*.png"):
        done = t2v_command("interpolate", name, "-o", "out", "--method", "hold", "--frames", 3, "--overwrite")
        assert "f1.png, f9.png, f10.png" in done.err and done.code == 0
        assert np.array_equal(pixels(tmp_path / "out" / "frame_00002.png"), pixels(tmp_path / "in" / "f10.png"))


def test_alpha_is_kept_in_pngs(t2v_command, tmp_path):
    a, b = (picture(tmp_path / f"{n}.png", n, mode="RGBA") for n in (1, 2))
    done = t2v_command("interpolate", a, b, "-o", "x.mp4", "--method", "crossfade")
    refused(done, "transparent, which .mp4 cannot", tmp_path)
    assert t2v_command("interpolate", a, b, "-o", "out", "--method", "crossfade", "--frames", 3).code == 0
    middle = pixels(tmp_path / "out" / "frame_00001.png")
    expected = ((pixels(a).astype(float) + pixels(b)) / 2).round()
    assert np.array_equal(middle, expected)


@pytest.mark.parametrize("fit", ["pad", "crop", "stretch"])
def test_other_sizes_are_fitted_as_asked(t2v_command, pair, tmp_path, fit):
    other = picture(tmp_path / "o.png", 3, (20, 50))
    done = t2v_command("interpolate", pair[0], other, "-o", "out", "--method", "hold", "--frames", 4, "--fit", fit)
    assert done.code == 0
    assert all(pixels(frame).shape == (32, 40, 3) for frame in (tmp_path / "out").iterdir())


# ---------------------------------------------------------------- what is refused


def refused(done, message: str, folder: Path) -> None:
    assert done.code == 2 and message in done.err, done.err
    assert done.err.startswith("error: ") and done.err.count("\n") == 1 and done.out == ""
    assert not [
        path for path in folder.rglob("*") if path.suffix in (".mp4", ".json") or path.name.startswith((".", "out"))
    ]


def png_with(path: Path, *chunks: tuple[bytes, bytes], size: tuple[int, int] = (4, 4)) -> Path:
    """A small PNG with more chunks, or with another size in its header."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = size[0].to_bytes(4) + size[1].to_bytes(4) + bytes((8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(13 * 4)))
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunk(*c) for c in chunks) + body + chunk(b"IEND", b"")
    )
    return path


def test_text_bomb_in_a_png_is_left_unread(t2v_command, tmp_path):
    bomb = b"k\0\0" + zlib.compress(bytes(50_000_000))
    a = png_with(tmp_path / "a.png", (b"zTXt", bomb))
    with pytest.raises(ValueError, match="too large"):
        Image.open(a).load()
    b = png_with(tmp_path / "b.png")
    assert t2v_command("interpolate", a, b, "-o", "out", "--method", "hold", "--frames", 3).code == 0


def test_bad_pictures_are_refused_with_one_line(t2v_command, pair, tmp_path):
    hold = ("-o", "out.mp4", "--method", "hold")
    huge = png_with(tmp_path / "huge.png", size=(60_000, 60_000))
    large = png_with(tmp_path / "large.png", size=(10_000, 10_001))
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(pair[0].read_bytes()[:500])
    other = picture(tmp_path / "other.png", 3, (20, 50))
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.txt").write_text("x")
    cases = [
        ((pair[0],), "one picture is no pair"),
        ((pair[0], huge), "is far too large"),
        ((pair[0], large), "is 10000x10001, at most 100,000,000 pixels"),
        ((pair[0], "text.png"), "cannot be read as a picture"),
        ((pair[0], "cut.png"), "cannot be read as a picture"),
        ((pair[0], other), "is 20x50, " + str(pair[0]) + " is 40x32: say how to fit it with --fit pad|crop|stretch"),
        ((pair[0], "missing.png"), "no picture at missing.png"),
        (("empty",), "holds no pictures"),
        (("nothing*.png",), "holds no pictures"),
        ((pair[0], "note.txt"), "is no picture file"),
        ((*pair, "--frames", 1), "1 frames do not hold 2 pictures"),
        ((*pair, "--frames", 5, "--between", 2), "--frames and --between both say"),
        ((*pair, "--times", "0.5,x"), "--times are numbers"),
        ((*pair, "--times", "1.5"), "above 0 and below 1, got 1.5"),
        ((*pair, "--seconds", -1), "--seconds must be above 0"),
        ((*pair, "--fps", "1/0"), "--fps is a number above 0"),
        ((*pair, "--input-fps", 5), "--input-fps is for a new frame rate"),
        ((*pair, "--factor", 2), "is for one video"),
        ((pair[0], "--factor", 2), "is one picture"),
        (("empty", "--factor", 2), "give --input-fps"),
        ((*pair, "--factor", 2, "--frames", 4), "--frames does not go with --factor"),
        ((*pair, "--factor", 2, "--to-fps", 4), "--to-fps does not go with --factor"),
        (("a.png", "--factor", 0), "--factor must be a whole number"),
    ]
    for arguments, message in cases:
        refused(t2v_command("interpolate", *arguments, *hold), message, tmp_path)


def test_without_weights_the_default_method_says_what_to_do(t2v_command, pair, tmp_path, tiny_model):
    done = t2v_command("interpolate", *pair, "-o", "out.mp4", "--model", tiny_model)
    refused(done, "has no interpolation weights: use --method crossfade", tmp_path)
    assert "t2v train interpolation --model" in done.err
    done = t2v_command("animate", pair[0], "-o", "out.mp4", "--model", tiny_model)
    refused(done, "has no interpolation weights", tmp_path)


def test_existing_output_is_not_replaced_unless_asked(t2v_command, pair, tmp_path):
    arguments = ("interpolate", *pair, "-o", "x.mp4", "--method", "hold", "--frames", 3)
    assert t2v_command(*arguments).code == 0
    done = t2v_command(*arguments)
    assert done.code == 2 and "x.mp4 exists" in done.err
    assert t2v_command(*arguments, "--overwrite").code == 0


# ---------------------------------------------------------------- extend, animate


def test_extend_adds_frames_on_both_sides(t2v_command, tmp_path):
    frames = np.stack([np.full((32, 32, 3), 20 * k, np.uint8) for k in range(6)])
    write_video(tmp_path / "in.mp4", frames, 8)
    source = read_frames(tmp_path / "in.mp4")
    done = t2v_command("extend", "in.mp4", "--forward", 0.5, "--backward", 0.25, "-o", "out", "--method", "hold")
    assert done.code == 0, done.err
    out = np.stack([pixels(frame) for frame in sorted((tmp_path / "out").iterdir())])
    assert report_of(tmp_path / "out")["sources"] == [None, None, 0, 1, 2, 3, 4, 5, *[None] * 4]
    assert np.array_equal(out[2:8], source)
    assert np.array_equal(out[:2], source[[0, 0]]) and np.array_equal(out[8:], source[[5] * 4])
    refused(t2v_command("extend", "in.mp4", "-o", "outs.webm"), "nothing to add", tmp_path / "out")


def test_animate_starts_with_the_picture(t2v_command, pair, tmp_path, tiny_model, interpolation_model):
    common = ("--model", tiny_model, "--interpolation", interpolation_model, "--device", "cpu", "--dtype", "fp32")
    done = t2v_command("animate", pair[0], "a cat", "-o", "out", "--num-frames", 6, *common)
    assert done.code == 0, done.err
    out = sorted((tmp_path / "out").iterdir())
    assert len(out) == 6 and np.array_equal(pixels(out[0]), pixels(pair[0]))
    assert report_of(tmp_path / "out")["prompt"] == "a cat"
