"""What an agent wants done, and what can happen to it: values that cross its border.

Every action that is answered carries a token; the answer quotes it. An answer with a token that is no longer waited for
(late, repeated, or from before a reboot) is ignored by the agent.
"""

from __future__ import annotations

from dataclasses import dataclass

from agent_sim.ecu import WantedImage
from agent_sim.messages import MetadataFile, MetadataVersions, PermitReply, Poll, PollReply
from agent_sim.persisted import PersistedState


@dataclass(frozen=True, slots=True)
class Persist:
    """Make the state durable before doing any action after this one."""

    state: PersistedState


@dataclass(frozen=True, slots=True)
class CheckInCall:
    """Poll."""

    token: int
    poll: Poll


@dataclass(frozen=True, slots=True)
class SubmitManifestCall:
    """Hand in the signed manifest."""

    token: int
    content: bytes


@dataclass(frozen=True, slots=True)
class AuthorizeCall:
    """Ask for leave to install."""

    token: int
    attempt_id: str


@dataclass(frozen=True, slots=True)
class Verify:
    """Verify metadata of both repositories, with what is held already."""

    token: int
    files: tuple[MetadataFile, ...]


@dataclass(frozen=True, slots=True)
class FetchImage:
    """Download an image and check it when it is complete."""

    token: int
    base_urls: tuple[str, ...]
    """In order of preference."""
    image: WantedImage
    from_offset: int
    """Bytes that are here already; whatever lies beyond is thrown away."""


@dataclass(frozen=True, slots=True)
class WriteSlots:
    """Write the images into the inactive slots."""

    token: int
    images: tuple[WantedImage, ...]


@dataclass(frozen=True, slots=True)
class Reboot:
    """Restart from the slots that the persisted state names."""


@dataclass(frozen=True, slots=True)
class DiscardImages:
    """Forget what was downloaded."""


Call = CheckInCall | SubmitManifestCall | AuthorizeCall
Job = Verify | FetchImage | WriteSlots
Action = Persist | Call | Job | Reboot | DiscardImages
Actions = tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class PollReplied:
    """A check-in was answered."""

    token: int
    reply: PollReply


@dataclass(frozen=True, slots=True)
class ManifestReplied:
    """The manifest is on record."""

    token: int


@dataclass(frozen=True, slots=True)
class PermitReplied:
    """The question for a permit was answered."""

    token: int
    reply: PermitReply


@dataclass(frozen=True, slots=True)
class CallFailed:
    """A call has no answer; what became of it is unknown."""

    token: int
    refused: bool = False
    """The orchestrator says that the same call will never succeed."""
    retry_after_ms: int | None = None
    """As the orchestrator asked; None: it did not."""
    no_link_until: int | None = None
    """Fleet time at which there is a link again, when there is none now."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Metadata of both repositories is good."""

    token: int
    images: tuple[WantedImage, ...]
    director: MetadataVersions
    image: MetadataVersions


@dataclass(frozen=True, slots=True)
class VerificationFailed:
    """Metadata is not good."""

    token: int
    attack: str
    """Code of the check that said no."""


@dataclass(frozen=True, slots=True)
class ImageFetched:
    """An image is complete and matches its verified metadata."""

    token: int


@dataclass(frozen=True, slots=True)
class FetchBroken:
    """A download stopped early."""

    token: int
    received: int
    """Bytes that are here now, from the start of the image."""
    no_link_until: int | None = None
    """Fleet time at which there is a link again, when there is none now."""


@dataclass(frozen=True, slots=True)
class ImageRefused:
    """An image is complete but does not match its verified metadata."""

    token: int
    attack: str


@dataclass(frozen=True, slots=True)
class SlotsWritten:
    """Every inactive slot is written."""

    token: int


@dataclass(frozen=True, slots=True)
class WriteFailed:
    """A slot could not be written."""

    token: int
    failure_code: str


Input = (
    PollReplied
    | ManifestReplied
    | PermitReplied
    | CallFailed
    | Verified
    | VerificationFailed
    | ImageFetched
    | FetchBroken
    | ImageRefused
    | SlotsWritten
    | WriteFailed
)
