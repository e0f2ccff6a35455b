"""`t2v evaluate pairs`: made videos against the true ones, frame by frame."""

from pathlib import Path
from typing import Annotated

import typer

from t2v.cli import options
from t2v.cli.evaluate_results import print_result
from t2v.cli.evaluate_videos import Report, Unpublished, Weights

Made = Annotated[Path, typer.Argument(help="Folder of made videos.")]
Truth = Annotated[Path, typer.Argument(help="Folder of true ones, of the same names and numbers of frames.")]
SkipEnds = Annotated[
    bool, typer.Option("--skip-ends", help="Leave out first and last frames, which interpolation was given.")
]


def pairs(
    made: Made,
    truth: Truth,
    output: Report,
    skip_ends: SkipEnds = False,
    weights: Weights = None,
    unpublished_weights: Unpublished = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the intervals.")] = 0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure PSNR, SSIM, tOF, warping error and sharpness of made videos against true ones; LPIPS with weights."""
    from t2v.cli.outputs import check_file
    from t2v.cli.progress import Reporter

    check_file(output, ".json", overwrite)
    reporter = Reporter(quiet)
    with reporter.stage("measuring"):
        import torch

        from t2v.evaluation.pairs import PairedMetrics, evaluate_pairs
        from t2v.models.lpips import NETWORKS, find_lpips
        from t2v.models.published_weights import missing_weights

        lpips = None if weights is None else find_lpips(weights, unpublished_weights, torch.device("cpu"))
        if weights is not None and lpips is None:
            reporter.note(f"left out: LPIPS: {weights} lacks {' and '.join(missing_weights(weights, NETWORKS))}")
        elif lpips is None:
            reporter.note("left out: LPIPS, whose two files `t2v evaluate weights` names: give --weights FOLDER")
        result = evaluate_pairs(made, truth, PairedMetrics(skip_ends, lpips), seed, reporter.step)
    if "tOF" not in result.figures:
        reporter.note('left out: tOF and warping error, which need OpenCV: pip install "t2v[flow]"')
    result.save(output)
    print_result(result)
    print(output)
