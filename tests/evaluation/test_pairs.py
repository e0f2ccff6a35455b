import tracemalloc

import numpy as np
import pytest
import torch

from t2v.data.manifest import ClipRow, write_manifest
from t2v.data.transforms import to_model_range
from t2v.data.video_io import write_video
from t2v.errors import InputError
from t2v.evaluation.frame_metrics import psnr, ssim
from t2v.evaluation.pairs import PairedMetrics, evaluate_pairs
from t2v.models.lpips import LPIPS, find_lpips
from tests.evaluation.moving_texture import moving_texture, write_videos, write_weights
from tests.evaluation.networks.tiny import alexnet_weights, lpips_weights
from tests.peak_allocation import peak_allocation

NUM_FRAMES, COUNT = 12, 3


def darker(frames, index):
    return (frames * (0.9 - 0.1 * index)).astype(np.uint8)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    write_videos(folder / "truth", 0, COUNT + 1, records=False)
    write_videos(folder / "made", 0, COUNT, darker)
    write_weights(folder / "weights")
    return folder


def test_figures_are_means_over_videos_of_the_metrics(root):
    lpips = find_lpips(root / "weights", True, torch.device("cpu"))
    result = evaluate_pairs(root / "made", root / "truth", PairedMetrics(lpips=lpips))
    truths = [moving_texture(i) for i in range(COUNT)]
    made = [darker(frames, i) for i, frames in enumerate(truths)]
    for name, metric in (("PSNR", psnr), ("SSIM", ssim)):
        expected = np.mean([metric(*pair) for pair in zip(made, truths, strict=True)])
        assert result.figures[name].value == pytest.approx(expected)
    distance = LPIPS(alexnet_weights(), lpips_weights())
    expected = [
        distance(*(to_model_range(torch.from_numpy(frames)) for frames in pair)).mean().item()
        for pair in zip(made, truths, strict=True)
    ]
    assert result.figures["LPIPS (alex)"].value == pytest.approx(np.mean(expected), rel=1e-5)
    assert result.figures["PSNR"].low < result.figures["PSNR"].value < result.figures["PSNR"].high
    protocol = result.protocol
    assert (protocol.num_videos, protocol.num_frames, protocol.size, protocol.fps) == (COUNT, NUM_FRAMES, (32, 32), 8.0)
    assert protocol.metrics["LPIPS (alex)"]["trunk"]["published"] is False
    assert [line["video"] for line in result.details["videos"]] == ["00", "01", "02"]


def test_what_is_in_memory_does_not_grow_with_the_length(root, tmp_path):
    metrics = PairedMetrics(lpips=find_lpips(root / "weights", True, torch.device("cpu")))

    def peaks(num_frames):
        whole = moving_texture(0, num_frames)
        made, truth = (tmp_path / f"{name}{num_frames}" for name in ("made", "truth"))
        for folder, frames in ((made, darker(whole, 0)), (truth, whole)):
            folder.mkdir()
            write_video(folder / "x.mkv", frames, 8)
        tensors = peak_allocation(lambda: evaluate_pairs(made, truth, metrics))
        tracemalloc.start()
        figures = evaluate_pairs(made, truth, metrics).figures
        arrays = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert figures["PSNR"].value == pytest.approx(psnr(darker(whole, 0), whole))
        assert figures["SSIM"].value == pytest.approx(ssim(darker(whole, 0), whole))
        return np.array([tensors, arrays])

    short, long = peaks(21), peaks(210)
    assert (long < 1.2 * short + 20_000).all()  # 189 more frames would be 1.2 MB; times of the frames are kept


def test_known_ends_can_be_left_out(root, tmp_path):
    (tmp_path / "made").mkdir()
    frames = moving_texture(0)
    spoiled = frames.copy()
    spoiled[[0, -1]] = 0
    write_video(tmp_path / "made" / "00.mkv", spoiled, 8)
    figures = evaluate_pairs(tmp_path / "made", root / "truth", PairedMetrics(skip_ends=True)).figures
    assert figures["PSNR"].value == 60 and figures["SSIM"].value == pytest.approx(1)
    assert evaluate_pairs(tmp_path / "made", root / "truth", PairedMetrics()).figures["PSNR"].value < 60


def test_a_folder_of_frames_is_a_video(root, tmp_path):
    (tmp_path / "made").mkdir()
    write_video(tmp_path / "made" / "01", moving_texture(1), 8)
    assert evaluate_pairs(tmp_path / "made", root / "truth", PairedMetrics()).figures["PSNR"].value == 60


def test_pairs_that_do_not_fit_are_told_in_a_line(root, tmp_path):
    def made(name, frames):
        (tmp_path / name).mkdir()
        write_video(tmp_path / name / "00.mkv", frames, 8)
        return tmp_path / name

    whole = moving_texture(0)
    for folder, message in (
        (made("short", whole[:5]), "00 has 5 frames of 32x32, the true one 12 frames of 32x32"),
        (made("narrow", whole[:, :, :16]), "12 frames of 16x32, the true one"),
        (tmp_path / "none", "no folder"),
    ):
        with pytest.raises(InputError, match=message):
            evaluate_pairs(folder, root / "truth", PairedMetrics())
    with pytest.raises(InputError, match="has no video 03, which"):
        evaluate_pairs(root / "truth", root / "made", PairedMetrics())
    small = made("small", whole[:, :8, :8])
    with pytest.raises(InputError, match="8x8, smaller than the 11 pixels"):
        evaluate_pairs(small, small, PairedMetrics())


def test_names_that_come_twice_and_stretches_are_refused(root, tmp_path):
    (tmp_path / "made").mkdir()
    for suffix in (".mkv", ".mp4"):
        write_video(tmp_path / "made" / f"00{suffix}", moving_texture(0), 8)
    with pytest.raises(InputError, match=r"made has 00 twice, .*00\.mkv and .*00\.mp4"):
        evaluate_pairs(tmp_path / "made", root / "truth", PairedMetrics())
    write_manifest([ClipRow("x", str(root / "made" / "00.mkv"), start=0.5)], tmp_path / "list.jsonl")
    with pytest.raises(InputError, match=r"lists a stretch of .*00\.mkv: whole videos are compared"):
        evaluate_pairs(tmp_path / "list.jsonl", root / "truth", PairedMetrics())
