"""Configurations from YAML files that overlay each other, then `key=value` overrides, checked key by key."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from t2v.errors import InputError
from t2v.training.config import STAGES, TrainConfig


def load_config(
    stage: str,
    files: Iterable[str | Path] = (),
    overrides: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """The configuration of a stage: its defaults, then each file, then `options`, then the overrides.

    Args:
        stage: one of `STAGES`.
        files: YAML files; a later one overlays an earlier one.
        overrides: `key=value` with dotted keys and YAML values, as in "data.resolution=64".
        options: dotted key -> value, from the command's own options; None values are left out.

    Raises:
        InputError: an unknown stage or key, a wrong type, a file that is missing or no YAML mapping.
    """
    if stage not in STAGES:
        raise InputError(f"unknown training stage {stage!r}; known are {', '.join(STAGES)}")
    tree: dict[str, Any] = {}
    origins: dict[tuple[str, ...], str] = {}
    for file in files:
        content = _read_yaml(Path(file))
        origins.update(dict.fromkeys(_leaves(content), str(file)))
        _overlay(tree, content)
    for key, value in (options or {}).items():
        if value is not None:
            origins[*key.split(".")] = "command line"
            _overlay(tree, _nested(key, deepcopy(value)))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise InputError(f"config: {override!r} is no key=value; write for example data.resolution=64")
        try:
            _overlay(tree, _nested(key, yaml.safe_load(text)))
        except yaml.YAMLError as error:
            raise InputError(f"config: the value of {key} is no YAML: {text!r}") from error
        origins[*key.split(".")] = "command line"
    try:
        return STAGES[stage].model_validate(tree)
    except ValidationError as error:
        raise InputError(_explain(stage, error, origins)) from error


def dump_config(config: TrainConfig) -> str:
    """The configuration as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"config: {path} cannot be read ({error.strerror}); check --config") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"config: {path} is no UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"config: {path} is no YAML ({' '.join(str(error).split())})") from error
    if not isinstance(tree, dict):
        raise InputError(f"config: {path} holds no mapping of keys to values")
    return tree


def _nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def _overlay(tree: dict[str, Any], above: dict[str, Any]) -> None:
    for key, value in above.items():
        if isinstance(value, dict) and isinstance(tree.get(key), dict):
            _overlay(tree[key], value)
        else:
            tree[key] = value


def _leaves(tree: dict[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        path = (*above, str(key))
        if isinstance(value, dict) and value:
            yield from _leaves(value, path)
        else:
            yield path


def _explain(stage: str, error: ValidationError, origins: dict[tuple[str, ...], str]) -> str:
    """One line about the first thing that is wrong, and the file it came from."""
    first = error.errors()[0]
    path = tuple(str(part) for part in first["loc"])
    key = ".".join(path)
    # a section given as one value is the origin of what is wrong inside it, and the other way round
    sources = {where for leaf, where in origins.items() if leaf[: len(path)] == path[: len(leaf)]} - {"command line"}
    prefix = f"config {', '.join(sorted(sources))}:" if sources else "config:"
    if first["type"] == "value_error" and isinstance(first["input"], dict):  # keys that do not go together
        return f"{prefix} {key}: {first['msg'].removeprefix('Value error, ')}"
    if first["type"] != "extra_forbidden":
        message = "should hold keys and values" if first["type"] == "model_type" else first["msg"].lower()
        return f"{prefix} {key}: {message.removeprefix('value error, ')}, got {first['input']!r}"
    section: Any = STAGES[stage]
    for part in first["loc"][:-1]:
        section = section.model_fields[str(part)].annotation
    return f"{prefix} unknown key {key} for stage {stage}; known there are {', '.join(section.model_fields)}"
