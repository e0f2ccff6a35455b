from pathlib import Path

import pytest
from PIL import Image

from t2v.data.manifest import ClipRow, write_manifest
from t2v.data.stills import find_stills, read_stills
from t2v.errors import InputError


def write_picture(path: Path, level: int, size: tuple[int, int] = (32, 32)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (level, level, level)).save(path)


def test_find_stills_walks_a_tree_with_captions_beside(tmp_path: Path) -> None:
    write_picture(tmp_path / "b" / "2.png", 20)
    write_picture(tmp_path / "a" / "1.jpg", 10)
    (tmp_path / "a" / "1.txt").write_text("a cat\n")
    stills = find_stills(tmp_path)
    assert [(still.path.name, still.caption) for still in stills] == [("1.jpg", "a cat"), ("2.png", None)]
    assert len({still.content for still in stills}) == 2


def test_find_stills_reads_a_manifest_without_its_errors(tmp_path: Path) -> None:
    rows = [ClipRow("x", "images/0.png", caption="a dog"), ClipRow("y", "images/1.png", error="broken")]
    write_manifest(rows, tmp_path / "manifest.parquet")
    (still,) = find_stills(tmp_path)
    assert still.path == tmp_path / "images" / "0.png" and (still.caption, still.content) == ("a dog", "x")


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_find_stills_refuses_a_place_without_pictures(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="data: no"):
        find_stills(tmp_path / name)


def test_read_stills_keeps_the_order_and_fits_the_size(tmp_path: Path) -> None:
    for index in range(9):
        write_picture(tmp_path / f"{index}.png", index * 20, (40 + index, 33))
    done: list[int] = []
    pixels = read_stills(find_stills(tmp_path), 16, on_read=done.append)
    assert pixels.shape == (9, 16, 16, 3)
    assert pixels.float().mean(dim=(1, 2, 3)).tolist() == [index * 20 for index in range(9)]
    assert done == list(range(1, 10))


def test_read_stills_names_a_broken_file(tmp_path: Path) -> None:
    write_picture(tmp_path / "0.png", 5)
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1\.png"):
        read_stills(find_stills(tmp_path), 16)
