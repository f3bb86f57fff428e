"""The checkout as these tests read it: tracked files, documents, the blocks and names in them."""

from __future__ import annotations

import re
import subprocess
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


@lru_cache
def tracked() -> tuple[str, ...]:
    """Every file that git knows and that is on the disk, by its path from the root, in order."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return tuple(sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file()))


@lru_cache
def text_of(name: str) -> str:
    """The text of a tracked file."""
    return (ROOT / name).read_text(encoding="utf-8")


def documents() -> list[str]:
    """Every document for people."""
    return [name for name in tracked() if name.endswith(".md")]


def sources(*suffixes: str) -> list[str]:
    """Every tracked file that ends in one of these."""
    return [name for name in tracked() if name.endswith(suffixes)]


def console_lines(name: str) -> list[str]:
    """What a document tells people to type, one command a line; continued lines are joined."""
    lines: list[str] = []
    for block in re.findall(r"^```console\n(.*?)^```", text_of(name), flags=re.MULTILINE | re.DOTALL):
        joined = block.replace("\\\n", " ")
        lines += [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
    return lines


def anchors(name: str) -> set[str]:
    """The anchors that a document's headings make."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", text_of(name), flags=re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.strip().lower())
        found.add(plain.replace(" ", "-"))
    return found
