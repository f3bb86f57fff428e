"""What a vehicle's Primary holds between verifications, in one file that is either the old or the new one.

One file for both repositories and the time floor: after a power loss nothing of it can disagree. Files that were
signed are kept as the text that was signed, never parsed and written again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from signing.errors import HeldMetadataError
from signing.files import write_atomically
from signing.tuf_client import HeldFile, HeldFiles
from signing.versions import format_time, parse_time

_FILE_NAME = "held.json"
_FORM = 1


@dataclass(frozen=True, slots=True)
class Held:
    """Everything that is kept."""

    director: HeldFiles = field(default_factory=HeldFiles)
    image: HeldFiles = field(default_factory=HeldFiles)
    time_floor: datetime = datetime(1970, 1, 1, tzinfo=UTC)
    """The latest fleet time at which everything was verified; time never goes back behind it."""


def load_held(folder: Path) -> Held:
    """Read what is held in `folder`; nothing when the file does not exist yet.

    Raises:
        HeldMetadataError: The file is damaged or cannot be read.
    """
    path = folder / _FILE_NAME
    try:
        value = json.loads(path.read_bytes())
        if value["form"] != _FORM:
            raise HeldMetadataError(f"{path} has form {value['form']}, this version reads form {_FORM}")
        return Held(
            director=_files(value["director"]),
            image=_files(value["image"]),
            time_floor=parse_time(value["time_floor"]),
        )
    except FileNotFoundError:
        return Held()
    except OSError as exc:
        raise HeldMetadataError(f"cannot read {path}: {exc.strerror}") from exc
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        remedy = "remove it to start again from the provisioned roots, without rollback protection for what it held"
        raise HeldMetadataError(f"{path} is damaged ({exc}); {remedy}") from exc


def save_held(folder: Path, held: Held, *, durable: bool) -> None:
    """Replace what is held in `folder`, atomically.

    Raises:
        HeldMetadataError: It could not be written; the old file stands.
    """
    value = {
        "form": _FORM,
        "director": _value(held.director),
        "image": _value(held.image),
        "time_floor": format_time(held.time_floor),
    }
    try:
        write_atomically(folder / _FILE_NAME, json.dumps(value).encode(), mode=0o600, durable=durable)
    except OSError as exc:
        raise HeldMetadataError(f"cannot keep verified metadata in {folder}: {exc.strerror}") from exc


def _value(files: HeldFiles) -> dict[str, Any]:
    return {
        "roots": {str(version): content.decode() for version, content in files.roots.items()},
        "roles": {role: [file.version, file.content.decode()] for role, file in files.roles.items()},
    }


def _files(value: Mapping[str, Any]) -> HeldFiles:
    return HeldFiles(
        roots={int(version): text.encode() for version, text in value["roots"].items()},
        roles={role: HeldFile(int(version), text.encode()) for role, (version, text) in value["roles"].items()},
    )
