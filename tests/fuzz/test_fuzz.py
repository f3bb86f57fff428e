"""The short form of `make fuzz`: the same cases each time."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.__main__ import main
from tests.fuzz.mutations import bytes_of, value_of
from tests.fuzz.subjects import subjects

CASES = {"plan": 300, "json": 1_000, "manifest": 1_000, "metadata": 300}


@pytest.mark.parametrize("name", CASES)
def test_hostile_bytes_are_refused_by_errors_of_their_own(name: str) -> None:
    """An error that nobody expected ends a connection, a worker or a rollout."""
    with subjects() as every:
        assert set(every) == set(CASES)
        for number in range(CASES[name]):
            every[name](Random(f"{name} {number}"))


def test_case_is_made_again_from_its_number() -> None:
    """A find that cannot be repeated is none."""
    assert bytes_of(Random(7), (b"abc" * 9,)) == bytes_of(Random(7), (b"abc" * 9,)) != b"abc" * 9
    value = {"a": [1, 2], "b": {"c": "d"}}
    assert value_of(Random(3), value) == value_of(Random(3), value) != value
    assert value == {"a": [1, 2], "b": {"c": "d"}}


def test_find_is_told_with_the_command_that_repeats_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it looks like has to be known before it is needed."""
    monkeypatch.setattr("tests.fuzz.subjects.read_plan", lambda text: 1 // 0)
    assert main(["--subject", "plan", "--minutes", "1"]) == 1
    found = capsys.readouterr().out.split("--case ")[1].strip()
    monkeypatch.undo()
    assert main(["--subject", "plan", "--case", found]) == 0
