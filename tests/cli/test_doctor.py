"""`outrider doctor` as people and programs meet it."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Outrider


def test_doctor_says_cause_and_remedy_and_ends_with_one_where_something_is_wrong(
    tmp_path: Path, outrider: Outrider
) -> None:
    """A script can tell, a person can act."""
    data = tmp_path / "data"
    outrider("keys", "init", "--data", data)
    well = outrider("doctor", "--data", data)
    assert well.exit_code == 0, well.stderr
    assert "take them offline" in well.stdout
    (data / "authorities" / "server.key").chmod(0o644)
    ill = outrider("doctor", "--data", data)
    assert ill.exit_code == 1
    assert f"chmod 600 {data}" in ill.stdout
    assert ill.stderr.startswith("error: 1 thing is wrong -> ")


def test_doctor_tells_programs_every_finding(tmp_path: Path, outrider: Outrider) -> None:
    """Fleet tools collect it from many installations."""
    document = outrider("doctor", "--data", tmp_path / "gone", "-o", "json").json
    assert document["ok"] is False
    assert document["errors"] == 1
    assert document["findings"][0] == {
        "check": "folder",
        "level": "error",
        "cause": f"there is no data folder {tmp_path / 'gone'}",
        "remedy": f"make it: `outrider keys init --data {tmp_path / 'gone'}`",
    }
