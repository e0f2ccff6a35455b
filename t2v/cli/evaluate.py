"""`t2v evaluate`: measure what a model makes."""

import typer

from t2v.cli import (
    evaluate_benchmarks,
    evaluate_board,
    evaluate_interpolation,
    evaluate_motion,
    evaluate_pairs,
    evaluate_results,
    evaluate_samples,
    evaluate_videos,
)

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Measure what a model makes.")
app.command()(evaluate_videos.videos)
app.command()(evaluate_videos.images)
app.command()(evaluate_pairs.pairs)
app.command("zero-shot")(evaluate_benchmarks.zero_shot)
app.command("export-vbench")(evaluate_benchmarks.export_vbench)
app.command()(evaluate_videos.weights)
app.command()(evaluate_results.compare)
app.command()(evaluate_interpolation.interpolation)
app.command("real-interpolation")(evaluate_interpolation.real_interpolation)
app.command("mini-board")(evaluate_board.mini_board)
app.command("train-recogniser")(evaluate_board.train_recogniser)
app.command()(evaluate_motion.motion)
app.command()(evaluate_samples.sheet)
app.command("frame-rates")(evaluate_samples.frame_rates)
