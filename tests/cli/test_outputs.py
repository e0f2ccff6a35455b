import json
import re
from pathlib import Path

import pytest

from t2v.cli.outputs import (
    Job,
    check_file,
    check_folder,
    check_jobs,
    check_new_folder,
    plan_jobs,
    read_prompts,
    read_sidecar,
    repeat_path,
    slug,
    write_sidecar,
)
from t2v.errors import InputError

RECORD = {
    "file": "a.gif",
    "prompt": "a cat",
    "seed": 3,
    "settings": {},
    "model": "mini",
    "device": "cpu",
    "dtype": "fp32",
}


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("robot dancing in Times Square", "robot-dancing-in-times-square"),
        ("  a cat, (happy)/../x  ", "a-cat-happy-x"),
        ("!!!", "video"),
        ("snake_case", "snake-case"),
        ("機器人 跳舞", "機器人-跳舞"),
        ("word " * 40, "-".join(["word"] * 12)),
        ("x" * 100, "x" * 60),
    ],
)
def test_slug_is_a_short_file_name(prompt, name):
    assert slug(prompt) == name


def test_plan_jobs_names_default_output_by_prompt_and_seed():
    jobs = plan_jobs(["a cat"], 5, 2, None)
    assert jobs == [Job("a cat", 5, Path("outputs/a-cat-5.mp4")), Job("a cat", 6, Path("outputs/a-cat-6.mp4"))]


def test_plan_jobs_numbers_prompts_so_that_equal_ones_differ():
    jobs = plan_jobs(["a cat"] * 10, 0, 1, None)
    assert jobs[0].path == Path("outputs/01-a-cat-0.mp4")
    assert len({job.path for job in jobs}) == 10


def test_plan_jobs_keeps_a_single_output_and_numbers_several(tmp_path):
    assert plan_jobs(["a"], 0, 1, tmp_path / "x.gif")[0].path == tmp_path / "x.gif"
    jobs = plan_jobs(["a", "b"], 4, 2, tmp_path / "x.gif")
    assert [job.path.name for job in jobs] == ["x-1.gif", "x-2.gif", "x-3.gif", "x-4.gif"]
    assert [job.seed for job in jobs] == [4, 5, 4, 5]


def test_job_files_lie_beside_the_video():
    job = Job("a", 0, Path("x/v.mp4"))
    assert (job.sidecar, job.preview) == (Path("x/v.json"), Path("x/v.preview.webp"))


@pytest.mark.parametrize("name", ["x.mp4", "x.json"])
def test_check_jobs_refuses_to_replace_video_or_record(tmp_path, name):
    (tmp_path / name).write_text("mine")
    jobs = plan_jobs(["a"], 0, 1, tmp_path / "x.mp4")
    with pytest.raises(InputError, match=rf"{name} exists.*--overwrite"):
        check_jobs(jobs, overwrite=False)
    check_jobs(jobs, overwrite=True)


def test_check_jobs_refuses_to_replace_a_preview_where_one_is_wanted(tmp_path):
    (tmp_path / "x.preview.webp").write_text("mine")
    jobs = plan_jobs(["a"], 0, 1, tmp_path / "x.mp4")
    with pytest.raises(InputError, match=r"x\.preview\.webp exists.*--overwrite"):
        check_jobs(jobs, overwrite=False, preview=True)
    check_jobs(jobs, overwrite=True, preview=True)
    check_jobs(jobs, overwrite=False)


def test_check_jobs_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_jobs(plan_jobs(["a"], 0, 1, None), overwrite=False)
    assert list(tmp_path.iterdir()) == []


def test_check_jobs_refuses_default_folder_where_none_can_be_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.access", lambda path, mode: False)
    with pytest.raises(InputError, match="cannot make the folder outputs"):
        check_jobs(plan_jobs(["a"], 0, 1, None), overwrite=False)


def test_read_prompts_takes_one_a_line(tmp_path):
    file = tmp_path / "prompts.txt"
    file.write_bytes(b"\xef\xbb\xbfa cat\r\n\r\n  a dog \n")
    assert read_prompts(file) == ["a cat", "a dog"]


@pytest.mark.parametrize(("content", "reason"), [(b"\n \n", "holds no prompt"), (b"\xff\xfe\x00", "not UTF-8")])
def test_read_prompts_refuses_empty_and_binary_files(tmp_path, content, reason):
    file = tmp_path / "prompts.txt"
    file.write_bytes(content)
    with pytest.raises(InputError, match=reason):
        read_prompts(file)


def test_read_prompts_refuses_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(InputError, match="cannot read the prompts file"):
            read_prompts(path)


def test_sidecar_survives_writing_and_reading(tmp_path):
    path = tmp_path / "x.json"
    write_sidecar(path, RECORD | {"prompt": "機器人"})
    assert read_sidecar(path) == RECORD | {"prompt": "機器人"}
    assert [file.name for file in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.parametrize(
    ("content", "message"),
    [("{", "is not the .json"), ("[1]", "is not the .json"), (json.dumps({"file": "a"}), "it has no proper 'prompt'")],
)
def test_read_sidecar_refuses_other_files(tmp_path, content, message):
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_sidecar(path)


def test_check_file_refuses_what_cannot_be_written(tmp_path):
    (tmp_path / "folder.json").mkdir()
    for name, message in [
        ("a.txt", r"a\.txt: the output is a \.json file"),
        ("none/a.json", "does not exist"),
        ("folder.json", "exists; choose another --output"),
    ]:
        with pytest.raises(InputError, match=message):
            check_file(tmp_path / name, ".json", overwrite=True)


def test_check_file_replaces_only_when_told_to(tmp_path):
    path = tmp_path / "a.JSON"
    check_file(path, ".json", overwrite=False)
    path.touch()
    check_file(path, ".json", overwrite=True)
    with pytest.raises(InputError, match="exists; choose another --output or add --overwrite"):
        check_file(path, ".json", overwrite=False)


def test_check_new_folder_refuses_what_is_there(tmp_path):
    check_new_folder(tmp_path / "new" / "motion")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("link", ""):
        with pytest.raises(InputError, match=r"exists; choose another name$"):
            check_new_folder(tmp_path / name)
    (tmp_path / "a.mp4").touch()
    for name in ("a.mp4", "link"):
        with pytest.raises(InputError, match=rf"{re.escape(name)} is not a folder"):
            check_new_folder(tmp_path / name / "motion")


def test_check_folder_refuses_a_folder_inside_a_file(tmp_path):
    (tmp_path / "a.mp4").touch()
    with pytest.raises(InputError, match=r"a\.mp4 is not a folder"):
        check_folder(tmp_path / "a.mp4" / "motion", overwrite=False)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "3"}, "no proper 'seed'"),
        ({"settings": []}, "no proper 'settings'"),
        ({"motion": 5}, "no proper 'motion'"),
        ({"threads": "2"}, "no proper 'threads'"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_read_sidecar_refuses_values_of_the_wrong_kind(tmp_path, change, message):
    (tmp_path / "x.json").write_text(json.dumps({**RECORD, "motion": None, "threads": 2, **change}))
    with pytest.raises(InputError, match=message):
        read_sidecar(tmp_path / "x.json")


def test_repeat_path_keeps_the_format():
    assert repeat_path(Path("outputs/a-3.json"), RECORD) == Path("outputs/a-3-repeat.gif")
