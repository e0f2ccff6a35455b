import pytest
import typer

import t2v
from t2v.cli.main import COMMANDS, app


def test_version_is_the_package_version(t2v_command):
    done = t2v_command("--version")
    assert (done.code, done.out) == (0, f"t2v {t2v.__version__}\n")


def test_help_lists_every_command(t2v_command):
    done = t2v_command("--help")
    assert done.code == 0
    assert all(name in done.out for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_says_how_to_use_it(t2v_command, command):
    done = t2v_command(command, "--help")
    assert done.code == 0
    assert f"Usage: t2v {command}" in done.out


def leaves(command):
    """A command, or all that are below it."""
    context = typer.Context(command)
    found = [command.get_command(context, name) for name in getattr(command, "list_commands", lambda _: [])(context)]
    return [leaf for below in found for leaf in leaves(below)] if found else [command]


def test_whatever_takes_a_model_can_be_kept_offline():
    options = {
        command.name: {option for parameter in command.params for option in parameter.opts}
        for command in leaves(typer.main.get_command(app))
    }
    with_model = {name: found for name, found in options.items() if "--model" in found}
    assert {"generate", "mini-board", "real-interpolation"} <= with_model.keys()
    assert not [name for name, found in with_model.items() if "--offline" not in found]


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [(("genrate",), "genrate"), (("generate", "x", "--steps", "3"), "--steps"), (("generate", "--seed", "x"), "seed")],
)
def test_misspelt_command_lines_exit_2(t2v_command, arguments, wrong):
    done = t2v_command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert wrong in done.err


def test_input_errors_are_one_line_unless_debugging(t2v_command, monkeypatch):
    done = t2v_command("generate", "")
    assert done.code == 2
    assert done.err.startswith("error: the prompt is empty") and done.err.count("\n") == 1
    monkeypatch.setenv("T2V_DEBUG", "1")
    with pytest.raises(t2v.InputError):
        t2v_command("generate", "")
