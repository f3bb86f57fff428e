"""`outrider release`: sign a release with the Image repository's keys, register it, show what is registered."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from outrider.v1.release_pb2 import (
    CreateReleaseRequest,
    GetReleaseRequest,
    Image,
    ListReleasesRequest,
    ListReleasesResponse,
    Release,
)
from rich.console import RenderableType

from orchestrator.cli.client import fleet_time
from orchestrator.cli.errors import BadInputError, CliError, NotFoundError, RefusedError
from orchestrator.cli.release_file import ReleaseFile, read_release
from orchestrator.cli.screen import fields, table
from orchestrator.cli.session import Session, operator_command
from orchestrator.cli.words import count, moment, plain
from signing.errors import KeyFileError, SigningError
from signing.image_repo import ImageRepository, NewImage, TargetInfo

app = typer.Typer(no_args_is_help=True, add_completion=False)

PAGE_SIZE = 1000


@app.callback()
def group() -> None:
    """Sign, register and show releases."""


@operator_command(app, "publish")
def publish(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Release file (YAML); see docs/cli.md.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; lands in the ledger.")] = "",
) -> None:
    """Sign the images of a release into the Image repository, then register the release."""
    description = read_release(file)
    with session.client() as client:
        now = fleet_time(client)
        with session.screen.progress(f"Signing {len(description.images)} images", None):
            targets = sign(description, session.data, now)
        release = Release(
            version=description.version, notes=description.notes, images=[image_message(item) for item in targets]
        )
        request = CreateReleaseRequest(release=release, reason=reason or f"published from {file.name}")
        answer = client.ask(client.releases.CreateRelease, request, file_name=str(file))
    session.screen.answer(
        answer,
        f"Release {answer.version} is signed and registered.",
        *release_view(answer),
        "Next: write a plan (docs/plan-file.md) and look at it with `outrider rollout preview PLAN.yaml`.",
    )


def sign(description: ReleaseFile, data: Path, now: datetime) -> Sequence[TargetInfo]:
    """Put the images into the Image repository of a data folder and sign its metadata.

    Args:
        description: what to sign; equal content a second time changes nothing.
        data: holds `image-repo` and `keys/image`.
        now: fleet time of the signatures, whole seconds.

    Raises:
        CliError: keys are missing, or the repository refuses an image.
    """
    folder = data / "image-repo"
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no Image repository in {folder}", remedy=f"make one: `outrider keys init --data {data}`"
        )
    images = [
        NewImage(
            path=image.path,
            file=image.file,
            hardware_id=image.hardware_id,
            release_counter=image.release_counter,
            version=description.version,
        )
        for image in description.images
    ]
    try:
        return ImageRepository(folder).publish(images, keys_folder=data / "keys" / "image", now=now)
    except KeyFileError as exc:
        raise CliError(
            str(exc), remedy="publish where the Image repository's targets, snapshot and timestamp keys are"
        ) from exc
    except SigningError as exc:
        raise RefusedError(str(exc), remedy="correct the release file; nothing was registered") from exc
    except OSError as exc:
        raise BadInputError(f"cannot read or write an image: {exc}", remedy="see to it that this user may") from exc


def image_message(target: TargetInfo) -> Image:
    """A signed image as the server wants to hear of it."""
    return Image(
        path=target.path,
        hardware_id=target.hardware_id,
        length_bytes=target.length,
        sha256=target.sha256,
        release_counter=target.release_counter,
    )


@operator_command(app, "show")
def show(
    session: Session,
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Release to show. Default: list all.")] = "",
) -> None:
    """Show one release with its images, or list all."""
    with session.client() as client:
        if version:
            release = client.ask(client.releases.GetRelease, GetReleaseRequest(name=f"releases/{version}"))
            session.screen.answer(release, *release_view(release))
            return
        result = ListReleasesResponse()
        while True:
            request = ListReleasesRequest(page_size=PAGE_SIZE, page_token=result.next_page_token)
            page = client.ask(client.releases.ListReleases, request)
            result.releases.extend(page.releases)
            result.next_page_token = page.next_page_token
            if not page.next_page_token:
                break
    if not result.releases:
        session.screen.answer(result, "No release yet. Publish one: `outrider release publish FILE.yaml`.")
        return
    listed = table("version", "registered", "notes", "images", numbers=1)
    for release in result.releases:
        listed.add_row(
            plain(release.version), moment(release.create_time), plain(release.notes), count(len(release.images))
        )
    session.screen.answer(result, listed)


def release_view(release: Release) -> list[RenderableType]:
    """A release for people."""
    images = table("image", "hardware id", "sha256", "counter", "bytes", numbers=2)
    for image in release.images:
        images.add_row(
            plain(image.path),
            plain(image.hardware_id),
            plain(image.sha256),
            str(image.release_counter),
            count(image.length_bytes),
        )
    return [
        fields(
            ("version", plain(release.version, "bold")),
            ("registered", moment(release.create_time)),
            ("targets", f"version {release.targets_version} of the Image repository"),
            ("notes", plain(release.notes)),
        ),
        images,
    ]
