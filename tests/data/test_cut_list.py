import os
from fractions import Fraction

import pytest

from t2v.data.cut_list import read_cuts
from t2v.errors import InputError


def test_cuts_of_each_video_ascend_and_paths_are_relative_to_the_list(tmp_path):
    file = tmp_path / "cuts.csv"
    file.write_text('\ufeffpath,seconds,by\n"a, b.mp4",2.5,me\nsub/../c.mp4,1\n\n"a, b.mp4",0.1\n', encoding="utf-8")
    expected = {tmp_path / "a, b.mp4": (Fraction(1, 10), Fraction(5, 2)), tmp_path / "c.mp4": (Fraction(1),)}
    assert read_cuts(file) == {path.resolve(): cuts for path, cuts in expected.items()}


def test_a_list_without_paths_is_of_one_video_and_one_without_lines_of_none(tmp_path):
    (tmp_path / "one.csv").write_text("seconds\n2\n1\n")
    (tmp_path / "none.csv").write_text("path,seconds\n")
    assert read_cuts(tmp_path / "one.csv") == {None: (1, 2)}
    assert read_cuts(tmp_path / "none.csv") == {}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"", 1),
        (b"path\na.mp4\n", 1),
        (b"seconds,path\n1,a.mp4\n2\n", 3),  # without a value for path
        (b"path,seconds\n,1\n", 2),
        (b"path,seconds\na.mp4\n", 2),
        (b"path,seconds\na.mp4,-1\n", 2),
        (b"path,seconds\na.mp4,nan\n", 2),
        (b"path,seconds\na.mp4,1e999\n", 2),
        (b"seconds\n1\n1/0\n", 3),
        (b"seconds\n\xff\n", 1),
    ],
)
def test_lists_that_cannot_be_used_are_refused(tmp_path, text, line):
    (tmp_path / "cuts.csv").write_bytes(text)
    with pytest.raises(InputError, match=f"cuts.csv: a list of cuts has the columns path,seconds; check line {line}$"):
        read_cuts(tmp_path / "cuts.csv")


def test_a_list_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match=rf"cannot read .*none.csv: {os.strerror(2)}"):
        read_cuts(tmp_path / "none.csv")
