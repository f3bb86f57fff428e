"""`outrider release`: sign a release with the Image repository's keys, register it, show what is registered."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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

from orchestrator.cli import release_supply
from orchestrator.cli.client import fleet_time
from orchestrator.cli.errors import BadInputError, CliError, NotFoundError, RefusedError
from orchestrator.cli.image_repo import time_of_signing
from orchestrator.cli.local import images_of
from orchestrator.cli.release_deltas import deltas_view, new_deltas, saving
from orchestrator.cli.release_evidence import (
    attested_anew,
    evidence_view,
    ingest_of,
    said_of,
    taken_in,
    way_back_taken_in,
    written_evidence,
)
from orchestrator.cli.release_file import ImageFile, ReleaseFile, read_release
from orchestrator.cli.screen import fields, table
from orchestrator.cli.session import Session, local_command, operator_command
from orchestrator.cli.way_back import way_back
from orchestrator.cli.words import count, moment, plain
from signing.errors import ImageRefusedError, KeyFileError, SigningError
from signing.image_repo import ImageRepository, NewDelta, NewImage, TargetInfo
from signing.release_facts import ReleaseFacts, notes_file
from signing.reverts import revert_version

app = typer.Typer(no_args_is_help=True, add_completion=False)

PAGE_SIZE = 1000
WithoutEvidence = Annotated[
    str,
    typer.Option(
        "--without-evidence", metavar="WHY", help="Vouch for images that have no evidence; the reason is signed."
    ),
]


@app.callback()
def group() -> None:
    """Sign, register and show releases."""


@operator_command(app, "publish")
def publish(
    session: Session,
    file: Annotated[Path, typer.Argument(help="Release file (YAML); see docs/cli.md.")],
    reason: Annotated[str, typer.Option("--reason", help="Why; lands in the ledger.")] = "",
    revert_to: Annotated[
        str, typer.Option("--revert-to", metavar="VERSION", help="What undoes it. Default: the release before.")
    ] = "",
    no_revert: Annotated[bool, typer.Option("--no-revert", help="Sign no release that undoes this one.")] = False,
    delta_from: Annotated[
        list[str] | None,
        typer.Option("--delta-from", metavar="VERSION", help="Make deltas from it. Default: what most vehicles run."),
    ] = None,
    no_deltas: Annotated[bool, typer.Option("--no-deltas", help="Make no deltas.")] = False,
    without_evidence: WithoutEvidence = "",
) -> None:
    """Sign the images of a release into the Image repository, then register the release.

    The way back is signed with it: a release VERSION-revert with the images of the release before. So are deltas from
    the releases that vehicles run.
    """
    for both, names in (
        (revert_to and no_revert, "--revert-to and --no-revert"),
        (delta_from and no_deltas, "--delta-from and --no-deltas"),
    ):
        if both:
            raise BadInputError(f"{names} contradict each other", remedy="give one of them")
    description = read_release(file)
    with session.client() as client:
        now = fleet_time(client)
        repository = repository_of(session.data)
        with refusals():
            images = new_images(description, repository, now)
        with refusals(), tempfile.TemporaryDirectory(prefix="outrider-deltas-") as folder:
            ingest, listed = ingest_of(session.data, repository, now), repository.listed()
            images = taken_in(session.screen, ingest, description, images, listed, waiver=without_evidence)
            wanted = revert_to or description.revert_to
            to, back = ("", ()) if no_revert else way_back(client, repository, images, to=wanted, now=now)
            back = way_back_taken_in(ingest, back, listed, waiver=without_evidence)
            deltas: Sequence[NewDelta] = ()
            if not no_deltas:
                deltas = new_deltas(
                    session.screen,
                    client,
                    repository,
                    images,
                    versions=delta_from or (),
                    now=now,
                    folder=Path(folder),
                )
            with session.screen.progress(f"Signing {len(images)} images", None):
                keys = session.data / "keys" / "image"
                targets = repository.publish([*images, *back], keys, now, deltas=deltas)
        messages = [
            Release(version=description.version, notes=description.notes),
            Release(version=revert_version(description.version), reverts=description.version),
        ]
        messages[1].notes = f"Undoes {description.version}: what {to} was."
        for target in targets:
            messages[bool(target.reverts)].images.append(image_message(target))
        answers = [
            client.ask(
                client.releases.CreateRelease,
                CreateReleaseRequest(release=message, reason=reason or f"published from {file.name}"),
                file_name=str(file),
            )
            for message in messages
            if message.images
        ]
    session.screen.answer(
        answers[0],
        f"Release {description.version} is signed and registered.",
        *release_view(answers[0]),
        *way_back_view(answers, to, declined=no_revert),
        "Next: write a plan (docs/plan-file.md) and look at it with `outrider rollout preview PLAN.yaml`.",
    )


def new_images(description: ReleaseFile, repository: ImageRepository, now: datetime) -> Sequence[NewImage]:
    """The images of a release file: to be signed, or signed by a supplier and published already.

    Raises:
        ImageRefusedError: A supplier has not signed such an image.
        SigningError: The Image repository does not verify.
    """
    notes = notes_file(description.notes_by_language) if description.notes_by_language else b""
    facts = ReleaseFacts(
        requires=description.requires,
        conflicts=description.conflicts,
        rxswin=description.rxswin,
        safety_relevant=description.safety_relevant,
        notes_sha256=hashlib.sha256(notes).hexdigest() if notes else "",
    )
    return [
        supplied_image(image, description.version, repository, now)
        if image.supplier
        else NewImage(
            path=image.path,
            file=image.file,
            hardware_id=image.hardware_id,
            release_counter=image.release_counter,
            version=description.version,
            facts=facts,
            notes=notes,
        )
        for image in description.images
    ]


def supplied_image(image: ImageFile, version: str, repository: ImageRepository, now: datetime) -> NewImage:
    """An image as a supplier has signed and published it.

    Raises:
        ImageRefusedError: It has not, or for something else.
        SigningError: The Image repository does not verify.
    """
    found = repository.verified_target(image.path, now, [image.hardware_id])
    listing = repository.metadata.listings().get(image.supplier)
    if found is None or listing is None or image.path not in listing.signed.targets:
        raise ImageRefusedError(
            f"{image.supplier} has published no image {image.path!r} for {image.hardware_id}: the supplier signs its "
            "list (`outrider release supply`), `outrider keys publish` takes it in"
        )
    if (found.version, found.hardware_id) != (version, image.hardware_id):
        raise ImageRefusedError(
            f"{image.supplier} has signed {image.path!r} for {found.hardware_id} of release {found.version}, not for "
            f"{image.hardware_id} of {version}"
        )
    return found.again(repository.image_file(found.path, found.sha256))


def repository_of(data: Path) -> ImageRepository:
    """The Image repository of a data folder.

    Raises:
        NotFoundError: There is none.
    """
    folder = data / "image-repo"
    if not folder.is_dir():
        raise NotFoundError(
            f"there is no Image repository in {folder}", remedy=f"make one: `outrider keys init --data {data}`"
        )
    return ImageRepository(folder, images_of(data))


@contextmanager
def refusals() -> Iterator[None]:
    """What signing refuses, as errors of the command line."""
    try:
        yield
    except KeyFileError as exc:
        raise CliError(
            str(exc), remedy="publish where the Image repository's targets, snapshot and timestamp keys are"
        ) from exc
    except SigningError as exc:
        raise RefusedError(str(exc), remedy="correct the release file; nothing was registered") from exc
    except OSError as exc:
        raise BadInputError(f"cannot read or write an image: {exc}", remedy="see to it that this user may") from exc


def way_back_view(answers: Sequence[Release], to: str, *, declined: bool) -> Sequence[str]:
    """What undoes a release, for people."""
    version = answers[0].version
    if declined:
        return [f"No way back was signed: if {version} is bad, vehicles need a newer release."]
    if len(answers) == 1:
        return [f"No way back: no release before {version} is signed for all of its hardware ids."]
    taken = max(image.release_counter for image in answers[1].images)
    return [
        f"The way back is {answers[1].version}: the images of {to} under higher release counters. "
        "`outrider rollout revert` needs no offline key.",
        f"Release counters up to {taken} are taken: give the next release higher ones.",
    ]


def image_message(target: TargetInfo) -> Image:
    """A signed image as the server wants to hear of it."""
    return Image(
        path=target.path,
        hardware_id=target.hardware_id,
        length_bytes=target.length,
        sha256=target.sha256,
        release_counter=target.release_counter,
    )


@operator_command(app, "attest")
def attest(
    session: Session,
    versions: Annotated[
        list[str] | None, typer.Argument(metavar="[VERSION]...", help="Releases. Default: all that nobody vouches for.")
    ] = None,
    without_evidence: WithoutEvidence = "",
) -> None:
    """Vouch anew for releases that are published: after a key of attest was revoked, or from before it was asked for.

    Their evidence is judged again, by the policy of today, and signed together with the list of images.
    """
    now = time_of_signing(session)
    repository = repository_of(session.data)
    with refusals():
        ingest = ingest_of(session.data, repository, now)
        if ingest is None:
            raise RefusedError(
                "this Image repository names nobody who has to vouch for images",
                remedy="docs/keys.md says how a key of attest is added",
            )
        listed = repository.listed()
        if unknown := set(versions or ()) - {target.version for target in listed}:
            raise NotFoundError(
                f"release {', '.join(sorted(unknown))} is not signed here", remedy="`outrider release show` lists all"
            )
        chosen = [target for target in listed if not versions or target.version in versions]
        lacking = [
            target
            for target in chosen
            if not ingest.kept(target.evidence, sha256=target.sha256, hardware_id=target.hardware_id)
        ]
        images = attested_anew(ingest, repository, lacking, waiver=without_evidence)
        if images:
            repository.publish(images, session.data / "keys" / "image", now)
    document = {"attested": [image.path for image in images], "fleet_time": now.isoformat()}
    done = ", ".join(sorted({image.version for image in images}))
    session.screen.answer(
        document,
        f"Vouched for {len(images)} images of {done}." if images else "Nothing to do: all are vouched for.",
    )


@local_command(app, "evidence")
def evidence(
    session: Session,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Release.")],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the documents go; made if need be.")],
) -> None:
    """Write what stands behind a release into a folder, for whoever audits it: no server is asked."""
    repository = repository_of(session.data)
    with refusals():
        targets = [target for target in repository.listed() if target.version == version]
        if not targets:
            raise NotFoundError(f"release {version} is not signed here", remedy="`outrider release show` lists all")
        files, missing = written_evidence(repository, targets, out)
    document = {"release": version, "files": [str(file) for file in files], "missing": list(missing)}
    session.screen.answer(document, f"{len(files)} documents of {version} are in {out}.")
    if missing:
        raise RefusedError(
            f"gone or changed since they were signed: {', '.join(missing)}",
            remedy="restore image-repo/evidence from the backup",
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
    listed = table("version", "registered", "notes", "images", "bytes", "deltas save", numbers=3)
    for release in result.releases:
        listed.add_row(
            plain(release.version),
            moment(release.create_time),
            plain(release.notes),
            count(len(release.images)),
            count(sum(image.length_bytes for image in release.images)),
            plain(saving(release)),
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
            *([("undoes", plain(release.reverts))] if release.reverts else []),
            *said_of(release),
        ),
        images,
        *evidence_view(release),
        *deltas_view(release),
    ]


app.add_typer(release_supply.app)
