import pytest

from data_tools.ledger import Ledger, ledger_folder, read_ledgers
from t2v.data.manifest import ClipRow
from t2v.errors import InputError

ROWS = [ClipRow("a", "naïve 喵.mp4", end=1 / 3), ClipRow("b", "b.mp4", error="x", extra={"score_motion": 0.1})]


def test_ledgers_of_all_ranks_are_read_together(tmp_path):
    output = tmp_path / "m.parquet"
    for rank in (1, 0):
        with Ledger(output, rank) as ledger:
            ledger.append(f"key-{rank}", ROWS)
    assert list(read_ledgers(output)) == [("key-0", ROWS), ("key-1", ROWS)]


def test_a_torn_line_is_cut_before_going_on(tmp_path):
    output = tmp_path / "m.parquet"
    with Ledger(output) as ledger:
        ledger.append("one", ROWS)
        ledger.append("two", ROWS)
    (path,) = ledger_folder(output).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    assert [key for key, _ in read_ledgers(output)] == ["one"]
    with Ledger(output) as ledger:
        ledger.append("two", ROWS)
    assert path.read_bytes() == whole


def test_two_processes_cannot_write_one_ledger(tmp_path):
    with Ledger(tmp_path / "m.parquet"), pytest.raises(InputError, match="another process is making"):
        Ledger(tmp_path / "m.parquet")
    with Ledger(tmp_path / "m.parquet", 0), Ledger(tmp_path / "m.parquet", 1):
        pass


def test_a_damaged_line_is_refused(tmp_path):
    output = tmp_path / "m.parquet"
    with Ledger(output) as ledger:
        ledger.append("one", ROWS)
    (path,) = ledger_folder(output).iterdir()
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(InputError, match="line 1 is damaged"):
        list(read_ledgers(output))
