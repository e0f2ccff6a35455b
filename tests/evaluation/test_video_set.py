"""Every network's path with small random weights, and that figures worsen as videos do."""

import hashlib
import json

import numpy as np
import pytest
import torch

from t2v.errors import InputError
from t2v.evaluation.clip_set import ClipSet, MeasuredClip, Sampling
from t2v.evaluation.families import FRAME_IS, FrechetVideo, Pictures, Pixels, find_families
from t2v.evaluation.frechet import frechet_distance
from t2v.evaluation.networks.i3d import I3D, to_i3d_input
from t2v.evaluation.result import Result, compare
from t2v.evaluation.video_set import Reference, evaluate_videos
from t2v.models import published_weights
from t2v.models.published_weights import PUBLISHED, TORCHSCRIPT, Published
from tests.evaluation.moving_texture import moving_texture, write_videos, write_weights
from tests.evaluation.networks.tiny import i3d_weights

CPU = torch.device("cpu")
COUNT = 3
NARROW = "Frechet distance (i3d_pretrained_400, other widths)"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("video-sets")
    write_videos(folder / "real", 20, COUNT, records=False)
    write_videos(folder / "made", 0, COUNT)
    write_weights(folder / "weights")
    return folder


def measured(root, name, families, num_frames=9, **sampling):
    chosen = Sampling(num_frames=num_frames, **sampling)
    reference = Reference(ClipSet.find(root / "real", chosen), "test")
    return evaluate_videos(ClipSet.find(root / name, chosen), [Pixels(), *families.chosen], reference)


@pytest.fixture(scope="module")
def result(root):
    """Of all families."""
    families = find_families(root / "weights", True, 9, CPU)
    assert families.left_out == (f"i3d_torchscript: no weights in {root / 'weights'}",)
    return measured(root, "made", families)


def test_all_families_and_the_protocol(root, result, tmp_path):
    assert list(result.figures) == [
        "sharpness", "flicker", "warping error", NARROW, FRAME_IS, "FID", "CLIPSIM", "CLIP score",
    ]  # fmt: skip
    protocol = result.protocol
    assert (protocol.num_videos, protocol.num_frames, protocol.fps, protocol.size) == (COUNT, 9, 8.0, (32, 32))
    assert protocol.codec == {"videos": "ffv1", "reference": "ffv1"}
    assert protocol.reference["split"] == "test" and protocol.reference["num_videos"] == COUNT
    assert result.subject["seeds"] == list(range(COUNT)) and len(protocol.prompts_sha256) == 64
    digest = hashlib.sha256((root / "weights" / "i3d_pretrained_400.safetensors").read_bytes()).hexdigest()
    fvd = protocol.metrics[NARROW]
    assert fvd["weights_sha256"] == digest and fvd["published"] is False
    for figure in result.figures.values():
        assert figure.n == COUNT and figure.low < figure.value < figure.high
    result.save(tmp_path / "a.json")
    read = Result.read(tmp_path / "a.json")
    assert all(line.is_apart is False for line in compare(read, result))
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["reference_metrics"]["flicker"]["n"] == COUNT and len(content["videos"]) == COUNT
    assert content["videos"][0].keys() == {"video", "sharpness", "flicker", "warping error", "clip_cosine"}


def test_videos_of_unknown_seeds_compare_with_those_of_known_ones(tmp_path):
    results = []
    for name, seed in (("known", {"seed": 5}), ("unknown", {})):
        folder = write_videos(tmp_path / name, 0, COUNT)
        for index in range(COUNT):
            (folder / f"{index:02}.json").write_text(json.dumps({"prompt": "a", **seed}))
        results.append(evaluate_videos(ClipSet.find(folder, Sampling(2)), [Pixels()]))
    assert [result.subject["seeds"] for result in results] == [[5] * COUNT, None]
    assert compare(*results)


def test_only_the_distance_of_the_published_network_is_called_fvd():
    """Narrow ones are named by NARROW, throughout this file."""
    full = {"Conv3d_1a_7x7.conv3d.weight": (64, 3, 7, 7, 7), "logits.conv3d.weight": (400, 1024, 1, 1, 1)}
    assert I3D({name: torch.empty(shape, device="meta") for name, shape in full.items()}).is_full_size
    assert not I3D(i3d_weights(num_classes=400)).is_full_size


def test_the_distance_is_the_frechet_distance_of_class_scores(result):
    network = I3D(i3d_weights())
    scores = [
        np.concatenate([network(torch.from_numpy(moving_texture(first + i)[None, :9])).numpy() for i in range(COUNT)])
        for first in (0, 20)
    ]
    assert result.figures[NARROW].value == pytest.approx(frechet_distance(*scores), rel=1e-6)
    cosines = [line["clip_cosine"] for line in result.details["videos"]]
    assert result.figures["CLIPSIM"].value == pytest.approx(np.mean(cosines))
    assert result.figures["CLIP score"].value == pytest.approx(100 * max(0, np.mean(cosines)))


class Scripted(torch.nn.Module):
    """With the call of the published TorchScript I3D."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 5)

    def forward(self, x: torch.Tensor, rescale: bool, resize: bool, return_features: bool) -> torch.Tensor:
        if rescale or resize or not return_features:
            raise RuntimeError("another call than the published figures are made with")
        return self.linear(x.abs().mean(2).mean(2).mean(2))


def test_the_torchscript_family(root, tmp_path, monkeypatch):
    torch.manual_seed(0)
    path = tmp_path / "i3d_torchscript.pt"
    network = Scripted()
    torch.jit.script(network).save(str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    table = {**PUBLISHED, TORCHSCRIPT: Published((path.name,), digest, "here")}
    monkeypatch.setattr(published_weights, "PUBLISHED", table)
    result = measured(root, "made", find_families(tmp_path, False, 9, CPU))
    with torch.no_grad():
        scores = [
            np.stack(
                [
                    network(to_i3d_input(torch.from_numpy(moving_texture(first + i)[None, :9])), False, False, True)[0]
                    for i in range(COUNT)
                ]
            )
            for first in (0, 20)
        ]
    assert result.figures["FVD (i3d_torchscript)"].value == pytest.approx(frechet_distance(*scores), rel=1e-6)
    assert result.protocol.metrics["FVD (i3d_torchscript)"]["published"] is True


def noise(amount):
    return lambda frames, i: (
        (frames + amount * np.random.default_rng(i).normal(size=frames.shape)).clip(0, 255).astype(np.uint8)
    )


def blur(times):
    def blurred(frames, _):
        soft = frames.astype(float)
        for _ in range(times):
            soft = (np.roll(soft, 1, 2) + soft + np.roll(soft, -1, 2)) / 3
            soft = (np.roll(soft, 1, 1) + soft + np.roll(soft, -1, 1)) / 3
        return soft.astype(np.uint8)

    return blurred


def shuffle(frames, i):
    return frames[np.random.default_rng(i).permutation(len(frames))]


def shuffle_half(frames, i):
    return np.concatenate([frames[:5], shuffle(frames[5:], i)])


@pytest.fixture(scope="module")
def distances(root):
    """FVD, and FID of the first two frames, of changed videos from themselves unchanged; random weights see it."""
    families = find_families(root / "weights", True, 9, CPU).chosen
    video, picture = (next(f for f in families if isinstance(f, kind)) for kind in (FrechetVideo, Pictures))

    def features(change):
        found = []
        for index in range(COUNT):
            frames = change(moving_texture(index)[:9], index)
            clips = [MeasuredClip("", some, "", None, None, None) for some in (frames, frames[:2])]
            found.append(video.extract(clips[0]) | picture.extract(clips[1]))
        return {name: np.array([values[name] for values in found]) for name in found[0]}

    reference = features(lambda frames, _: frames)

    def measure(change):
        own = features(change)
        figures = video.figures(own, reference, 0) | picture.figures(own, reference, 0)
        return [figures[name][0].value for name in (NARROW, "FID")]

    return measure


@pytest.mark.parametrize("changes", [(noise(10), noise(60)), (blur(1), blur(4))])
def test_distances_grow_with_noise_and_blur(distances, changes):
    none, little, much = np.array([distances(change) for change in (lambda frames, _: frames, *changes)])
    assert np.abs(none).max() < 1e-3 * much.min() and (little > 1e-2 * much).all() and (much > little).all()


def test_shuffled_frames_raise_the_distance_of_videos(distances):
    half, all_frames = (distances(change)[0] for change in (shuffle_half, shuffle))
    assert 0.01 < half < all_frames


def test_what_needs_no_weights_runs_alone(root):
    families = find_families(None, False, 9, CPU)
    assert not families.chosen and families.left_out == ("FVD, FID, frame IS and CLIPSIM: no --weights FOLDER",)
    result = evaluate_videos(ClipSet.find(root / "made", Sampling(9)), [Pixels()])
    assert list(result.figures) == ["sharpness", "flicker", "warping error"] and result.protocol.reference is None


def test_short_videos_have_no_fvd(root):
    families = find_families(root / "weights", True, 8, CPU)
    assert "FVD (i3d_pretrained_400): needs 9 frames" in families.left_out
    assert not any(isinstance(family, FrechetVideo) for family in families.chosen)


def test_wrong_input_is_told_in_a_line(root, tmp_path):
    clip = next(iter(find_families(root / "weights", True, 2, CPU).chosen[::-1]))
    with pytest.raises(InputError, match=r"20.mkv has no prompt, which CLIPSIM needs: give --prompts FILE"):
        evaluate_videos(ClipSet.find(root / "real", Sampling(2)), [clip])
    with pytest.raises(InputError, match="a distance needs two videos and two of the reference"):
        reference = Reference(ClipSet.find(root / "real", Sampling(2)), None)
        evaluate_videos(ClipSet.find(write_videos(tmp_path / "one", 0, 1), Sampling(2)), [Pixels()], reference)
    write_videos(tmp_path / "mixed", 0, 1)
    write_videos(tmp_path / "mixed" / "more", 1, 1, lambda frames, _: frames[:, :24])
    with pytest.raises(InputError, match=r"32x24, others are not: add --resolution|24x32, others"):
        evaluate_videos(ClipSet.find(tmp_path / "mixed", Sampling(2)), [Pixels()])
    chosen = Sampling(2, resolution=16)
    with pytest.raises(InputError, match="the videos are 16x16, the reference 32x32: add --resolution"):
        reference = Reference(ClipSet.find(root / "real", Sampling(2)), None)
        evaluate_videos(ClipSet.find(root / "made", chosen), [Pixels()], reference)
