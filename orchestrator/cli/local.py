"""What commands on the data folder share: its settings, and the time by which certificates are judged."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestrator.cli.errors import BadInputError, NotFoundError
from orchestrator.clock import MachineClock
from orchestrator.settings import FILE_NAME, Settings, SettingsError, load
from signing.errors import ImageStoreError
from signing.image_store import ImageStore, open_store


def settings_of(data: Path) -> Settings:
    """The settings of a data folder.

    Raises:
        BadInputError: a setting is wrong; each is named.
    """
    try:
        return load(data)
    except SettingsError as exc:
        raise wrong_settings(data, exc) from exc


def images_of(data: Path) -> ImageStore:
    """Where the images of an installation lie, by its setting `images`.

    Raises:
        BadInputError: a setting is wrong, or names what cannot be used here.
    """
    try:
        return open_store(settings_of(data).images, data / "image-repo" / "targets")
    except ImageStoreError as exc:
        raise BadInputError(str(exc), remedy=f"the setting `images` stands in {data / FILE_NAME}") from exc


def wrong_settings(data: Path, error: SettingsError) -> BadInputError:
    """The error that names every wrong setting."""
    number = len(error.problems)
    return BadInputError(
        f"{number} setting{'s are' if number != 1 else ' is'} wrong; nothing was changed",
        remedy=f"correct what is named above; file settings stand in {data / FILE_NAME}",
        details=error.problems,
    )


def require_folder(data: Path) -> Path:
    """The data folder, if it is there.

    Raises:
        NotFoundError: it is not.
    """
    if not data.is_dir():
        raise NotFoundError(f"there is no data folder {data}", remedy=f"make it: `outrider keys init --data {data}`")
    return data


def certificate_time() -> datetime:
    """Machine time in whole seconds: certificates are judged by it."""
    since_epoch = timedelta(milliseconds=MachineClock().wall_ms())
    return (datetime.fromtimestamp(0, UTC) + since_epoch).replace(microsecond=0)
