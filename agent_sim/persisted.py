"""What survives a loss of power: the agent's state as one value, and its JSON form.

Owns the format on disk. Everything else that an agent knows is gone after a reboot, on purpose.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from agent_sim.ecu import Ecu, InstalledImage, WantedImage
from agent_sim.errors import StateError
from agent_sim.messages import NO_PRECONDITIONS, Consent, Event, EventKind, MetadataVersions, Preconditions
from agent_sim.outbox import Outbox
from signing.deltas import Delta

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FORMAT = 2
FINISHED_KEPT = 8
"""How many ended attempts an agent remembers: a directive for one of these is old news."""


class Phase(StrEnum):
    """How far an attempt has come on this vehicle."""

    CHECKING = "checking"
    """Metadata is being verified; nothing was told yet."""
    DOWNLOADING = "downloading"
    DOWNLOADED = "downloaded"
    """Waiting for a permit."""
    INSTALLING = "installing"
    """A permit was used; inactive slots are being written."""
    REBOOTING = "rebooting"
    """The next boot is from the new slots."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The attempt at hand."""

    attempt_id: str
    rollout_id: str
    release: str
    phase: Phase
    image_base_urls: tuple[str, ...]
    images: tuple[WantedImage, ...] = ()
    """Verified; empty while CHECKING."""
    fetched: int = 0
    """How many of `images`, in order, are complete on this vehicle."""
    received: int = 0
    """Bytes of the next one that are here."""
    consent: Consent = Consent.NONE
    preconditions: Preconditions = NO_PRECONDITIONS
    notes: str = ""
    """For the owner."""
    offline_permit_ms: int = 0
    """Longest permit to install out of reach; 0: none is given."""
    owner_told: bool = False
    consented: bool = False
    """The owner said yes to this attempt, and to no other."""
    postponed: int = 0
    """How often the owner said "later"."""
    ask_owner_at: int = 0
    """Fleet time before which the owner is not asked again."""
    waiting_for: str = ""
    """What is missing, as the last DEFERRED said; empty while nothing is."""
    permitted: bool = False
    """A permit came, used or not: nothing takes that exposure back."""


@dataclass(frozen=True, slots=True)
class SignedManifest:
    """The last vehicle version manifest."""

    content: bytes
    sha256: str
    counter: int
    submitted: bool


@dataclass(frozen=True, slots=True)
class PersistedState:
    """All that an agent finds again after a reboot."""

    outbox: Outbox
    ecus: tuple[Ecu, ...]
    director: MetadataVersions
    """Versions that the verifier holds."""
    image: MetadataVersions
    progress: Progress | None = None
    finished: tuple[str, ...] = ()
    """Ids of ended attempts, newest last."""
    manifest: SignedManifest | None = None
    manifest_counter: int = 0
    """The highest counter ever signed with."""

    def to_json(self) -> dict[str, Any]:
        """The state as JSON values."""
        return {
            "format": FORMAT,
            "outbox": fields_of(self.outbox) | {"events": [fields_of(event) for event in self.outbox.events]},
            "ecus": [
                fields_of(ecu) | {"slots": [fields_of(slot) if slot else None for slot in ecu.slots]}
                for ecu in self.ecus
            ],
            "director": fields_of(self.director),
            "image": fields_of(self.image),
            "progress": self.progress
            and fields_of(self.progress)
            | {
                "images": [
                    fields_of(image) | {"deltas": [fields_of(delta) for delta in image.deltas]}
                    for image in self.progress.images
                ],
                "preconditions": fields_of(self.progress.preconditions),
            },
            "finished": self.finished,
            "manifest": self.manifest
            and fields_of(self.manifest) | {"content": base64.b64encode(self.manifest.content).decode()},
            "manifest_counter": self.manifest_counter,
        }


def fields_of(value: DataclassInstance) -> dict[str, Any]:
    """The fields of a dataclass, one level deep: `dataclasses.asdict` copies, which costs more than the writing."""
    return {field.name: getattr(value, field.name) for field in fields(value)}


def fresh_state(
    *, outbox_id: str, ecus: tuple[Ecu, ...], director: MetadataVersions, image: MetadataVersions
) -> PersistedState:
    """The state of an agent that remembers nothing; `outbox_id` must never have been used before."""
    return PersistedState(outbox=Outbox(outbox_id), ecus=ecus, director=director, image=image)


def state_from_json(data: Any) -> PersistedState:
    """Read back what `to_json` wrote.

    Raises:
        StateError: it is something else.
    """
    try:
        if data["format"] != FORMAT:
            raise StateError(f"persisted state has format {data['format']}, this simulator reads {FORMAT}")
        return PersistedState(
            outbox=_outbox(data["outbox"]),
            ecus=tuple(_ecu(ecu) for ecu in data["ecus"]),
            director=MetadataVersions(**data["director"]),
            image=MetadataVersions(**data["image"]),
            progress=_progress(data["progress"]),
            finished=tuple(data["finished"]),
            manifest=_manifest(data["manifest"]),
            manifest_counter=data["manifest_counter"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise StateError(f"persisted state cannot be read: {error!r}") from error


def _outbox(data: Any) -> Outbox:
    events = tuple(Event(**{**event, "kind": EventKind(event["kind"])}) for event in data["events"])
    return Outbox(outbox_id=data["outbox_id"], next_number=data["next_number"], events=events)


def _ecu(data: Any) -> Ecu:
    first, second = (None if slot is None else InstalledImage(**slot) for slot in data["slots"])
    return Ecu(**{**data, "slots": (first, second)})


def _progress(data: Any) -> Progress | None:
    if data is None:
        return None
    images = tuple(_image(image) for image in data["images"])
    return Progress(
        **{
            **data,
            "phase": Phase(data["phase"]),
            "image_base_urls": tuple(data["image_base_urls"]),
            "images": images,
            "consent": Consent(data["consent"]),
            "preconditions": Preconditions(
                **{**data["preconditions"], "links": tuple(data["preconditions"].get("links", ()))}
            ),
        }
    )


def _image(data: Any) -> WantedImage:
    deltas = tuple(Delta(**delta) for delta in data.get("deltas", ()))
    return WantedImage(**{**data, "ecu_serials": tuple(data["ecu_serials"]), "deltas": deltas})


def _manifest(data: Any) -> SignedManifest | None:
    if data is None:
        return None
    return SignedManifest(**{**data, "content": base64.b64decode(data["content"])})
