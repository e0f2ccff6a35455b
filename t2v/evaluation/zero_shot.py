"""Zero-shot figures on UCF-101 and MSR-VTT by a protocol file, beside the published ones with what differs in words."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from t2v.data.sources import Source, find_sources
from t2v.errors import InputError
from t2v.evaluation.benchmark_data import READERS, BenchmarkVideo, class_words
from t2v.evaluation.clip_set import Sampling, generation_record
from t2v.evaluation.families import I3D_NETWORKS

_NETWORKS = {"FVD": I3D_NETWORKS, "FID": ("inception",), "CLIPSIM": ("clip",)}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ReferenceSection(_Section):
    """The real videos that distances are measured to."""

    split: str
    num_videos: int | None = Field(None, ge=2)  # a random choice; None: all
    frame_stride: int = Field(1, ge=1)
    random_start: bool = True


class PromptSection(_Section):
    """What videos are generated for."""

    per: Literal["class", "caption", "video"]  # classes as often as in the split; every caption; one caption a video
    template: str = Field("{}", pattern=r"^[^{}]*\{\}[^{}]*$")  # "{}" is the class in words, or the caption
    sentences: dict[str, str] = {}  # class -> its own sentence instead of the template


class PublishedFigure(_Section):
    """What a paper reports, and whether one of our metrics is the same quantity."""

    value: float
    metric: str | None  # the metric of ours to be read beside it, by the beginning of its name; None: there is none
    source: str


class ZeroShotProtocol(_Section):
    """A protocol file."""

    name: str
    dataset: Literal["ucf101", "msrvtt"]
    metrics: list[Literal["FVD", "FID", "CLIPSIM"]]
    num_videos: int | None = Field(None, ge=2)  # None: one for every prompt
    num_frames: int = Field(16, ge=1)
    frame_stride: int = Field(1, ge=1)
    resolution: int = Field(256, ge=16)
    seed: int = Field(0, ge=0)
    prompts: PromptSection
    reference: ReferenceSection
    published: dict[str, PublishedFigure] = {}
    differs: list[str]  # what cannot be the same as in the paper

    @classmethod
    def read(cls, path: Path) -> "ZeroShotProtocol":
        """From YAML; InputError in one line for what is wrong with it."""
        try:
            return cls.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror}") from None
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is no YAML ({' '.join(str(error).split())})") from None
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise InputError(f"{path}: {key or 'the file'}: {first['msg'].lower()}, got {first['input']!r}") from None

    @property
    def networks(self) -> tuple[str, ...]:
        """Whose weights the metrics need."""
        return tuple(network for metric in self.metrics for network in _NETWORKS[metric])

    def sampling(self) -> Sampling:
        """Of the generated videos, which are chosen by their prompts."""
        return Sampling(self.num_frames, self.frame_stride, self.resolution, False, None, self.seed)

    def reference_sampling(self) -> Sampling:
        """Of the real ones."""
        real = self.reference
        return Sampling(
            self.num_frames, real.frame_stride, self.resolution, real.random_start, real.num_videos, self.seed
        )

    def videos(self, root: Path) -> list[BenchmarkVideo]:
        """The real videos of the reference's split in the user's folder."""
        return READERS[self.dataset](root, self.reference.split)

    def plan(self, videos: Sequence[BenchmarkVideo], num_videos: int | None = None) -> Counter[str]:
        """How many videos are generated for each prompt, `num_videos` in all (None: as the file says).

        Raises:
            InputError: more are asked for than there are captions.
        """
        total = num_videos or self.num_videos
        if self.prompts.per == "class":
            counts = Counter(video.captions[0] for video in videos)
            shares = _shared_out(counts, total or sum(counts.values()))
            return Counter(self._sentence(name) for name, count in shares.items() for _ in range(count))
        rng = np.random.default_rng(self.seed)
        captions = [
            caption
            for video in videos
            if video.captions
            for caption in (video.captions if self.prompts.per == "caption" else rng.choice(video.captions, 1).tolist())
        ]
        if total is not None:
            if total > len(captions):
                raise InputError(f"{total} videos are wanted, the data set has {len(captions)} captions for them")
            captions = [captions[index] for index in sorted(rng.permutation(len(captions))[:total].tolist())]
        return Counter(self.prompts.template.format(caption) for caption in captions)

    def _sentence(self, name: str) -> str:
        own = self.prompts.sentences.get(name)
        return self.prompts.template.format(class_words(name)) if own is None else own


def choose_generated(folder: Path, plan: Mapping[str, int]) -> list[Source]:
    """The videos of the plan's prompts that `t2v generate` made, lowest seeds first.

    Raises:
        InputError: a prompt has fewer videos than the plan wants.
    """
    made: dict[str, list[tuple[int, Source]]] = {}
    for source in find_sources(folder):
        record = generation_record(source) if isinstance(source, Source) else {}
        if {"prompt", "seed"} <= record.keys():
            assert isinstance(source, Source)
            made.setdefault(record["prompt"], []).append((record["seed"], source))
    chosen: list[Source] = []
    for prompt, count in plan.items():
        ready = sorted(made.get(prompt, []), key=lambda pair: pair[0])
        if len(ready) < count:
            raise InputError(
                f"{folder} has {len(ready)} videos of {prompt!r}, {count} are wanted: generate them with "
                "--write-prompts and its command, or measure fewer with --num-videos"
            )
        chosen += [source for _, source in ready[:count]]
    return chosen


def _shared_out(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """`total` in proportion to `counts`, in whole numbers: the largest remainders are rounded up."""
    exact = {name: total * count / sum(counts.values()) for name, count in counts.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return shares
