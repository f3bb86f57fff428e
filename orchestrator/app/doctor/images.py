"""Checks of where the bytes of images lie: whether the place can be used, and whether what is listed lies there."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from orchestrator.app.doctor.findings import Finding, error, ok, skipped, warning
from orchestrator.app.doctor.patient import Patient
from orchestrator.app.installation import InstallationError
from signing.bucket_store import INCOMING, BucketStore
from signing.errors import AccessDeniedError, ImageStoreError, SigningError
from signing.image_repo import ImageRepository
from signing.image_store import ImageStore
from signing.names import image_file_name

CHECK = "images"
ASKED_AT_ONCE = 16
"""Images of which a bucket is asked at the same time: each answer takes tens of milliseconds."""
NAMED_MAX = 3
"""Missing images that are told by name."""


def check_images(patient: Patient) -> Iterator[Finding]:
    """Whether vehicles will find the bytes of what is listed."""
    settings = patient.settings
    if settings is None:
        yield skipped(CHECK, "the settings, which say where images lie, cannot be used")
        return
    try:
        store = patient.installation.images(settings.images)
        yield _listed(store, ImageRepository(patient.installation.image_repository, store))
        if isinstance(store, BucketStore):
            yield from _bucket(store)
    except (InstallationError, ImageStoreError) as fault:
        cause, _, remedy = str(fault).rpartition("; ")
        yield error(CHECK, cause or str(fault), remedy if cause else "correct the setting `images`")
    except (SigningError, OSError) as fault:
        yield skipped(CHECK, f"nobody can tell what is listed: {fault}")


def _listed(store: ImageStore, repository: ImageRepository) -> Finding:
    listed = [target for file in repository.metadata.listings().values() for target in file.signed.targets.values()]
    names = [image_file_name(target.path, target.hashes["sha256"]) for target in listed]
    with ThreadPoolExecutor(ASKED_AT_ONCE) as pool:
        sizes = list(pool.map(store.size, names))
    missing = [target.path for target, size in zip(listed, sizes, strict=True) if size != target.length]
    if not missing:
        where = f" in {store.url}" if isinstance(store, BucketStore) else ""
        return ok(CHECK, f"each of {len(listed)} images and deltas that are listed is there{where}")
    more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
    return error(
        CHECK,
        f"{len(missing)} of {len(listed)} images and deltas that are listed are not there, or have another length: "
        f"{', '.join(missing[:NAMED_MAX])}{more}",
        "restore them from the backup, or publish their releases again with the same files: `outrider release publish`",
    )


def _bucket(store: BucketStore) -> Iterator[Finding]:
    check = "images bucket"
    try:
        store.prove_conditional_writes()
    except AccessDeniedError:
        yield skipped(
            check,
            f"these credentials may read {store.url}, not write there: enough to serve",
            "look again from where releases are published",
        )
        return
    yield ok(check, f"{store.url} can be read and written, and a name that is taken is not written again")
    if left := store.left_behind():
        yield warning(
            check,
            f"{left} objects under {INCOMING} are of publications that were cut short, or under way",
            f"remove those of yesterday, or let a rule of the bucket remove what is older than a day under {INCOMING}",
        )
