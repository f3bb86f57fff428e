"""Writes the boards' JSON, or with `--check` says whether the committed files are what would be written."""

from __future__ import annotations

import sys
from pathlib import Path

from dashboards.fleet import FLEET
from dashboards.rollout import ROLLOUT
from dashboards.service import SERVICE

FOLDER = Path(__file__).parent / "grafana"
BOARDS = {"fleet.json": FLEET, "rollout.json": ROLLOUT, "service.json": SERVICE}


def main(arguments: list[str]) -> int:
    """Write or check every board.

    Returns:
        0; 1 when `--check` found a file that differs; 2 for arguments that mean nothing.
    """
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m dashboards [--check]\n")
        return 2
    differing = [name for name, board in BOARDS.items() if _committed(name) != board.text()]
    for name in differing:
        if arguments:
            sys.stderr.write(f"{FOLDER / name} is not what the code says; run: .venv/bin/python -m dashboards\n")
        else:
            FOLDER.mkdir(exist_ok=True)
            (FOLDER / name).write_text(BOARDS[name].text(), "utf-8")
    return 1 if arguments and differing else 0


def _committed(name: str) -> str:
    path = FOLDER / name
    return path.read_text("utf-8") if path.exists() else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
