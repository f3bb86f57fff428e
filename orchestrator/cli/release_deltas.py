"""Deltas of a release that is published: from what the fleet runs, made while a bar shows how far it is, and shown.

Owns from which releases deltas are made, and the words about them. The server is asked only which releases vehicles
prove; what deltas are made of is read from the Image repository. A delta that cannot be made is said and is no reason
not to publish: vehicles fetch the whole image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from outrider.v1.fleet_pb2 import CountVehiclesRequest
from outrider.v1.release_pb2 import Release
from rich.console import RenderableType

from orchestrator.cli.client import OperatorClient
from orchestrator.cli.errors import BadInputError
from orchestrator.cli.screen import Screen, table
from orchestrator.cli.words import count, percent, plain
from signing.delta_offers import Offer, make_offer, offers_from, possible_offers
from signing.errors import DeltaError, ImageRefusedError, SigningError
from signing.image_repo import ImageRepository, NewDelta, NewImage

VERSIONS_MAX = 4
"""Releases that deltas are made from, unless named: each is listed in what every vehicle fetches."""


def new_deltas(
    screen: Screen,
    client: OperatorClient,
    repository: ImageRepository,
    images: Sequence[NewImage],
    *,
    versions: Sequence[str],
    now: datetime,
    folder: Path,
) -> Sequence[NewDelta]:
    """Make the deltas to new images.

    Args:
        screen: Shows how far it is, and what could not be made.
        client: Of the server, for which releases vehicles run.
        repository: The Image repository.
        images: To be published.
        versions: Releases to start from; empty: those that most vehicles run.
        now: Fleet time.
        folder: Where files go.

    Raises:
        BadInputError: No image of a release that was named is signed for a hardware id of this one.
        ImageRefusedError: An image cannot be read.
    """
    try:
        listed, signed = repository.verified_targets(now), repository.verified_deltas(now)
    except SigningError as exc:
        # Metadata that ran out is what a publication mends: it must not wait for deltas.
        screen.note(f"No deltas: the Image repository does not verify as it is: {exc}")
        return ()
    possible = possible_offers(images, listed)
    hardware_ids = {image.hardware_id for image in images}
    for version in versions:
        if not any(target.version == version and target.hardware_id in hardware_ids for target in listed):
            known = sorted({target.version for target in listed if target.hardware_id in hardware_ids})
            raise BadInputError(
                f"--delta-from {version}: no image of that release is signed for {', '.join(sorted(hardware_ids))}",
                remedy=f"signed are: {', '.join(known) or 'none'}",
            )
    if not possible:
        if versions:
            screen.note(f"No deltas from {', '.join(versions)}: images below 64 KiB or above 512 MiB have none.")
        return ()
    offers = offers_from(possible, versions or most_run(client), [delta.path for delta in signed])
    return made(screen, repository, offers, folder)


def most_run(client: OperatorClient) -> Sequence[str]:
    """The releases that vehicles prove by their manifests, those of most vehicles first."""
    counts = client.ask(client.fleet.CountVehicles, CountVehiclesRequest(group_by=["installed"])).counts
    ordered = sorted(counts, key=lambda each: -each.count)
    return [version for each in ordered if (version := each.values["installed"])][:VERSIONS_MAX]


def made(screen: Screen, repository: ImageRepository, offers: Sequence[Offer], folder: Path) -> Sequence[NewDelta]:
    """Make each; one that fails or saves too little is said and left out."""
    deltas = []
    with screen.progress("Making deltas", len(offers)) as progress:
        for offer in offers:
            what = f"delta from {offer.base.version} to {offer.image.path}"
            progress.update(progress.task_ids[0], description=f"Making {what}")
            try:
                delta = make_offer(offer, repository, folder)
            except (DeltaError, ImageRefusedError, OSError, MemoryError) as exc:
                screen.note(f"No {what}: {exc or 'not enough memory'}. Vehicles fetch the whole image.")
            else:
                if delta is None:
                    screen.note(f"No {what}: it would save less than 30 %. Vehicles fetch the whole image.")
                else:
                    deltas.append(delta)
            progress.advance(progress.task_ids[0])
    return deltas


def deltas_view(release: Release) -> list[RenderableType]:
    """The deltas to a release's images, for people."""
    if not release.deltas:
        return []
    shown = table("delta for", "from", "bytes", "of the image's", "saves", numbers=3)
    for delta in release.deltas:
        shown.add_row(
            plain(delta.hardware_id),
            plain(delta.from_release or "an image of no release"),
            count(delta.length_bytes),
            count(delta.image_length_bytes),
            saved(delta.image_length_bytes - delta.length_bytes, delta.image_length_bytes),
        )
    return [shown]


def saving(release: Release) -> str:
    """What a vehicle with all of these images saves at best, from one release; a dash without deltas."""
    if not release.deltas:
        return "-"
    by_origin: Counter[str] = Counter()
    for delta in release.deltas:
        by_origin[delta.from_release] += delta.image_length_bytes - delta.length_bytes
    return saved(max(by_origin.values()), sum(image.length_bytes for image in release.images))


def saved(part: int, whole: int) -> str:
    """A saving for people: never rounded up to all."""
    return percent(min(part / max(whole, 1), 0.999))
