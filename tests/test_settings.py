"""Settings: where values come from, how bad ones are refused, and that file and documentation name them all."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Literal, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo

from orchestrator.settings import ENV_PREFIX, FILE_NAME, Settings, SettingsError, default_toml, load

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch):
    for variable in os.environ:
        if variable.startswith(ENV_PREFIX):
            monkeypatch.delenv(variable)


def problems_of(folder: Path, text: str = "", **overrides: object) -> tuple[str, ...]:
    """What `load` says about a file and a command line."""
    (folder / FILE_NAME).write_text(text, "utf-8")
    with pytest.raises(SettingsError) as refused:
        load(folder, overrides=overrides)
    assert str(refused.value) == "\n".join(refused.value.problems)
    return refused.value.problems


def test_without_a_file_the_defaults_hold(tmp_path: Path):
    """Nobody should have to configure anything to try Outrider."""
    settings = load(tmp_path)
    assert settings == Settings()
    assert (settings.host, settings.workers, settings.poll_s, settings.poll_live_s) == ("127.0.0.1", 1, 3600, 300)
    assert settings.fleet_origin_ms is None


def test_command_line_wins_over_environment_wins_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An operator who overrides for one run must not have to edit what holds for all."""
    (tmp_path / FILE_NAME).write_text("workers = 2\npoll_s = 600\ndrain_s = 1.5\n", "utf-8")
    monkeypatch.setenv("OUTRIDER_WORKERS", "3")
    monkeypatch.setenv("OUTRIDER_POLL_S", "700")
    settings = load(tmp_path, overrides={"workers": 4})
    assert (settings.workers, settings.poll_s, settings.drain_s) == (4, 700, 1.5)


def test_a_direct_call_ignores_the_environment(monkeypatch: pytest.MonkeyPatch):
    """Tests and worker processes build settings from values; a stray variable must not slip in."""
    monkeypatch.setenv("OUTRIDER_WORKERS", "3")
    assert Settings().workers == 1


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("poll_s = 59", "poll_s = 59: must be greater than or equal to 60"),
        ("port_web = 65536", "port_web = 65536: must be less than or equal to 65535"),
        ("port_web = true", "port_web = True: true and false are not values of any setting"),
        ('workers = "many"', "workers = 'many': must be a valid integer"),
        ("scale = 0", "scale = 0: must be greater than 0"),
        ("scale = nan", "scale = nan: must be a finite number"),
        ("evaluator_tick_s = 9.5", "evaluator_tick_s = 9.5: must be less than or equal to 3"),
        ('log_format = "xml"', "log_format = 'xml': must be 'auto', 'json' or 'console'"),
        ('trust_domain = "Fleet/1"', "trust_domain = 'Fleet/1': must match pattern"),
        ("fleet_origin = 2030-01-01T00:00:00", "must have timezone info"),
    ],
)
def test_a_bad_value_is_refused_with_its_place_and_the_remedy(tmp_path: Path, line: str, told: str):
    """Whoever reads the refusal knows the file, the value, what is wrong, and what to do."""
    (problem,) = problems_of(tmp_path, line)
    assert problem.startswith(f"{tmp_path / FILE_NAME}: ")
    assert told in problem
    assert "correct it, or remove it for the default" in problem
    assert "\n" not in problem


def test_every_fault_is_told_at_once_with_its_origin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Correcting one fault a start is how an evening is lost."""
    monkeypatch.setenv("OUTRIDER_POLL_S", "5")
    problems = problems_of(tmp_path, "workers = 0\npoll_lives = 3", drain_s=-1)
    assert [problem.split(" = ")[0] for problem in problems[1:]] == [
        f"{tmp_path / FILE_NAME}: workers",
        "OUTRIDER_POLL_S",
        "--drain-s",
    ]
    assert problems[0] == f"{tmp_path / FILE_NAME}: poll_lives: no such setting; did you mean poll_live_s?"


def test_a_misspelt_variable_is_refused_and_a_foreign_one_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A typing error must not silently leave the default in force; the command line has variables of its own."""
    monkeypatch.setenv("OUTRIDER_OPERATOR", "alice")
    assert load(tmp_path) == Settings()
    monkeypatch.setenv("OUTRIDER_STORE_DURABILTY", "provider")
    assert problems_of(tmp_path) == (
        "OUTRIDER_STORE_DURABILTY: no such setting; did you mean OUTRIDER_STORE_DURABILITY?",
    )


def test_a_file_that_is_not_toml_is_refused_with_line_and_column(tmp_path: Path):
    """A missing quote is found by its line."""
    (problem,) = problems_of(tmp_path, 'workers = 1\nhost = "127.0.0.1\n')
    assert "line 2" in problem
    assert FILE_NAME in problem


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"poll_s": 120, "poll_live_s": 300}, "poll_live_s (300) > poll_s (120)"),
        ({"store_durability": "provider"}, "store_durability = provider without store_url"),
        ({"store_replicas_min": 1}, "store_replicas_min (1) without store_url: the private store has no replicas"),
        ({"port_web": 7000, "port_images": 7000}, "port_web, port_images are all 7000"),
    ],
)
def test_values_that_contradict_each_other_are_refused(tmp_path: Path, values: dict[str, object], told: str):
    """Each value alone is fine; together they would fail later and less clearly."""
    (problem,) = problems_of(tmp_path, **values)
    assert problem.startswith(told)


def test_the_stores_password_is_never_shown(tmp_path: Path):
    """Refusals and logs of settings end up in tickets."""
    problems = problems_of(tmp_path, store_url="http://user:hunter2@store")
    assert "hunter2" not in "\n".join(problems)
    assert "hunter2" not in repr(Settings(store_url="redis://user:hunter2@store"))


def test_fleet_origin_is_converted_to_milliseconds(tmp_path: Path):
    """The store keeps fleet time as milliseconds."""
    (tmp_path / FILE_NAME).write_text("fleet_origin = 2030-01-01T01:00:00+01:00\n", "utf-8")
    assert load(tmp_path).fleet_origin_ms == 1_893_456_000_000


def test_the_default_file_changes_nothing_and_names_every_setting(tmp_path: Path):
    """A fresh data folder explains itself; with every line switched on it still says the defaults."""
    text = default_toml()
    (tmp_path / FILE_NAME).write_text(text, "utf-8")
    assert load(tmp_path) == Settings()
    switched_on = "\n".join(line.removeprefix("#") if not line.startswith("# ") else "" for line in text.splitlines())
    values = tomllib.loads(switched_on)
    assert set(values) == set(Settings.model_fields)
    values.pop("fleet_origin")
    assert Settings(**values) == Settings()


def test_the_documentation_lists_every_setting_as_it_is():
    """docs/settings.md must not promise what the code does not do; on failure it shows the rows to paste."""
    rows = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| `")]
    assert rows == [_row(name) for name in Settings.model_fields]


def _row(name: str) -> str:
    """A setting's row in the table: name, variable, default, range, meaning."""
    field = Settings.model_fields[name]
    default = "unset" if field.default in (None, "") else f"`{field.default}`"
    return f"| `{name}` | `{ENV_PREFIX}{name.upper()}` | {default} | {_allowed(field)} | {field.description} |"


def _allowed(field: FieldInfo) -> str:
    """Range, choices or kind of a setting's values."""
    low = next(
        (f"{m.ge}" if isinstance(m, Ge) else f"above {m.gt}" for m in field.metadata if isinstance(m, Ge | Gt)), ""
    )
    high = next((f"{m.le}" for m in field.metadata if isinstance(m, Le)), "")
    if high:
        return f"{low} to {high}"
    if get_origin(field.annotation) is Literal:
        return ", ".join(get_args(field.annotation))
    return "text" if field.annotation is str else "date with zone"
