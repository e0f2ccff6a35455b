import json

from tests.evaluation.test_result import result


def test_compare_prints_both_and_refuses_other_protocols(t2v_command, tmp_path):
    result(10.0).save(tmp_path / "a.json")
    result(13.0).save(tmp_path / "b.json")
    done = t2v_command("evaluate", "compare", "a.json", "b.json")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[0] == "fvd        10 [9, 11] (n 8)  13 [12, 14] (n 8)  apart"
    done = t2v_command("evaluate", "compare", "a.json", "b.json", "--json")
    assert json.loads(done.out)["fvd"]["is_apart"] is True
    result(num_videos=4).save(tmp_path / "c.json")
    done = t2v_command("evaluate", "compare", "a.json", "c.json")
    assert done.code == 2 and done.err.count("\n") == 1
    assert "the protocols differ: num_videos is 8 in the first and 4 in the second" in done.err
