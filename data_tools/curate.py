"""From a folder of videos to clips, by one configuration: every file is decoded once for all that looks at its frames,
and the clips that are kept once more to be written."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from data_tools.analysis import watch
from data_tools.cut import Cut, CutOptions
from data_tools.features import FrameFeatures
from data_tools.filter import filtered
from data_tools.network_scores import NetworkOptions, with_network_scores
from data_tools.probe import bare_rows, described, file_digest
from data_tools.report import ReportOptions, write_report
from data_tools.runner import RunOptions, run_stage
from data_tools.score import scored, with_duplicates
from data_tools.shards import ShardOptions, write_shards
from data_tools.shots import ShotFinder, ShotOptions
from data_tools.split import SplitOptions, clip_rows, listed_cuts, with_cuts
from t2v.data.manifest import MANIFEST_NAME, ClipRow, write_manifest
from t2v.errors import InputError

EXAMINED_NAME, FILTERED_NAME, REPORT_NAME = "examined.parquet", "filtered.parquet", "report.html"


class CurateConfig(BaseModel):
    """What `t2v-data run` reads from YAML; paths are relative to the file."""

    model_config = ConfigDict(extra="forbid")

    source: Path
    output: Path
    shots: ShotOptions = ShotOptions()
    min_seconds: float = 1.0
    max_seconds: float = 60.0
    cuts: Path | None = None
    network: NetworkOptions = NetworkOptions()
    filter: str | None = None
    cut: CutOptions = CutOptions()
    shards: ShardOptions | None = None
    report: ReportOptions = ReportOptions()

    @property
    def split(self) -> SplitOptions:
        return SplitOptions(self.shots, self.min_seconds, self.max_seconds)

    def check(self) -> None:
        """InputError for values that make no sense."""
        self.split.check()
        self.network.check()
        self.cut.check()
        if self.shards is not None:
            self.shards.check()


def read_config(path: Path) -> CurateConfig:
    """The configuration in a YAML file; InputError says which key is wrong."""
    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = CurateConfig.model_validate(values)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {place}: {first['msg']}") from error
    config.source, config.output = path.parent / config.source, path.parent / config.output
    config.cuts = config.cuts and path.parent / config.cuts
    config.network = config.network.below(path.parent)
    config.check()
    return config


@dataclass(frozen=True)
class Examine:
    """The stage: probe, split and score in one pass over the frames of a file."""

    root: Path = field(repr=False)
    split: SplitOptions = field(default_factory=SplitOptions)
    network: NetworkOptions = field(default_factory=NetworkOptions)

    @property
    def preloaded(self) -> Sequence[str]:
        return self.network.preloaded

    def __call__(self, rows: list[ClipRow]) -> list[ClipRow]:
        (row,) = rows
        path = self.root / row.path
        digest = file_digest(path)
        facts = {"sha256": digest, "bytes": path.stat().st_size}
        row = replace(row, clip_id=digest[:16], extra=row.extra | facts)
        finder, features = ShotFinder(self.split.shots), FrameFeatures()
        try:
            watched = watch(path, [finder, features])
        except InputError as error:
            return [replace(row, error=str(error))]
        described(row, watched.info)
        cuts, fps = row.extra.get("cuts"), float(watched.info.fps)
        transitions = listed_cuts(cuts, watched.timestamps) if cuts else finder.transitions(fps)
        clips = clip_rows(row, watched, transitions, self.split)
        clips = [scored(clip, features, watched) if clip.is_usable else clip for clip in clips]
        return with_network_scores(clips, path, self.network)


def curate(config: CurateConfig, options: RunOptions) -> Path | None:
    """Do it all; the folder with the clips and their manifest, or None where other ranks have work left to do."""
    output = config.output
    output.mkdir(parents=True, exist_ok=True)
    rows = bare_rows(config.source, output)
    rows = with_cuts(rows, config.cuts, output) if config.cuts else rows
    examined = run_stage(
        "examine", Examine(output, config.split, config.network), rows, output / EXAMINED_NAME, options, with_duplicates
    )
    if examined is None:
        return None
    judged = filtered(examined, config.filter) if config.filter else examined
    write_manifest(judged, output / FILTERED_NAME)
    clips = run_stage("cut", Cut(output, config.cut), judged, output / MANIFEST_NAME, options)
    if clips is None:
        return None
    if config.shards is not None:
        write_shards(clips, output, output / "shards", config.shards, overwrite=True)
    write_report(clips, output, output / REPORT_NAME, config.report, f"{config.source.name}: clips")
    return output
