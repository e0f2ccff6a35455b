import pytest
import torch

from t2v.errors import InputError
from t2v.ops import backend, current_backend, use_backend


def test_use_backend_lasts_for_its_block() -> None:
    before = current_backend()
    with pytest.raises(ZeroDivisionError), use_backend("torch"):
        assert current_backend() == "torch"
        _ = 1 / 0
    assert current_backend() == before


def test_unknown_backend_is_refused() -> None:
    with pytest.raises(InputError, match="T2V_BACKEND is 'cuda'"), use_backend("cuda"):
        pass


def test_auto_runs_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with use_backend("auto"):
        assert not backend.runs_triton(torch.zeros(1))


def test_triton_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with use_backend("triton"):
        with pytest.raises(InputError, match=r"torch\.float32 on cpu"):
            backend.runs_triton(torch.zeros(1))
        with pytest.raises(InputError, match=r"torch\.float64"):
            backend.runs_triton(torch.zeros(1, dtype=torch.float64))
