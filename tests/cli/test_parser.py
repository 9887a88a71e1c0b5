"""Command lines are read as Docker reads them."""

from __future__ import annotations

import pytest

from cutaway.cli.parser import HelpWanted, UsageError, parse
from cutaway.engine.options import RUN
from cutaway.engine.options.option import BOOL, LIST, STRING, Option

TABLE = [
    Option("all", BOOL, "", short="a"),
    Option("filter", LIST, "", short="f"),
    Option("format", STRING, ""),
    Option("timeout", STRING, "", short="t", alias="time"),
]


@pytest.mark.parametrize(
    ("words", "options", "arguments"),
    [
        (["-a", "x"], {"all": True}, ["x"]),
        (["--all=false", "x"], {"all": False}, ["x"]),
        (["-af", "k=v", "x"], {"all": True, "filter": ["k=v"]}, ["x"]),
        (["-fk=v", "-f=k2=v2"], {"filter": ["k=v", "k2=v2"]}, []),
        (["--format", "json"], {"format": "json"}, []),
        (["--format=a=b", "--format="], {"format": ""}, []),
        (["--format", "--all"], {"format": "--all"}, []),
        (["--time", "5"], {"timeout": "5"}, []),
        (["x", "-a", "y"], {"all": True}, ["x", "y"]),
        (["x", "--", "-a"], {}, ["x", "-a"]),
        (["-"], {}, ["-"]),
    ],
)
def test_options_are_told_from_arguments(words: list[str], options: dict[str, object], arguments: list[str]) -> None:
    assert parse(words, TABLE) == (options, arguments)


def test_the_options_of_run_end_at_the_image() -> None:
    words = [
        "-it",
        "--rm=false",
        "-p80:80",
        "-p",
        "81:81",
        "--memory=64m",
        "-e",
        "A=1",
        "busybox",
        "ls",
        "-a",
        "--",
        "x",
    ]
    options, arguments = parse(words, RUN, interspersed=False)
    assert arguments == ["busybox", "ls", "-a", "--", "x"]
    assert options == {
        "interactive": True,
        "tty": True,
        "rm": False,
        "publish": ["80:80", "81:81"],
        "memory": 64 << 20,
        "env": ["A=1"],
    }


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--fromat", "x"], "unknown flag: --fromat; did you mean --format?"),
        (["-ax"], "unknown shorthand flag: 'x' in -ax"),
        (["--format"], "flag needs an argument: --format"),
        (["-af"], "flag needs an argument: 'f' in -af"),
        (["--all=perhaps"], 'invalid argument "perhaps" for "-a, --all" flag: \'perhaps\' is neither true nor false'),
    ],
)
def test_what_is_wrong_is_said(words: list[str], complaint: str) -> None:
    with pytest.raises(UsageError) as refusal:
        parse(words, TABLE)
    assert str(refusal.value) == complaint


def test_help_wins_over_what_comes_after_it() -> None:
    with pytest.raises(HelpWanted):
        parse(["--help", "--unknown"], TABLE)


def test_no_two_options_of_run_share_a_name_or_letter() -> None:
    letters = [option.short for option in RUN if option.short]
    names = [option.name for option in RUN] + [option.alias for option in RUN if option.alias]
    assert len(set(letters)) == len(letters)
    assert len(set(names)) == len(names)
