import sys
from importlib.machinery import ModuleSpec

import pytest

from data_tools import extras
from data_tools.executors.ray_cluster import RayExecutor
from t2v.errors import InputError


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 't2v\[curate\]'"):
        extras.need_curate()
    monkeypatch.setattr(extras, "find_spec", lambda name: ModuleSpec(name, None))
    extras.need_curate()


def test_missing_ray_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 't2v\[ray\]'"):
        next(RayExecutor()(None, [], None))
