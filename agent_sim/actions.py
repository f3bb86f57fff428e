"""What an agent wants done, and what can happen to it: values that cross its border.

Every action that is answered carries a token; the answer quotes it. An answer with a token that is no longer waited for
(late, repeated, or from before a reboot) is ignored by the agent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from agent_sim.ecu import WantedImage
from agent_sim.messages import Conditions, MetadataFile, MetadataVersions, PermitReply, Poll, PollReply
from agent_sim.persisted import PersistedState


class OwnerAnswer(StrEnum):
    """What an owner says when asked."""

    YES = "yes"
    LATER = "later"
    NO = "no"


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
    conditions: Conditions
    """As they are now."""
    consented: bool
    """Whether the owner agreed to this attempt."""
    offline: bool = False
    """Whether it will install where there is no link."""


@dataclass(frozen=True, slots=True)
class FetchMetadataCall:
    """Get the metadata of both repositories as it is now, whatever a poll brought."""

    token: int
    director: MetadataVersions
    """Versions held."""
    image: MetadataVersions


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
    """Bytes that the agent knows to be here; the file may hold more."""


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


@dataclass(frozen=True, slots=True)
class AskOwner:
    """Ask whether the attempt may be installed; answered by `OwnerAnswered`, perhaps days later."""

    token: int
    attempt_id: str
    notes: str
    postponed: int
    """How often the owner said "later" to this attempt."""


@dataclass(frozen=True, slots=True)
class TellOwner:
    """Say that the attempt will be installed."""

    attempt_id: str
    notes: str


Call = CheckInCall | SubmitManifestCall | AuthorizeCall | FetchMetadataCall
Job = Verify | FetchImage | WriteSlots
Action = Persist | Call | Job | Reboot | DiscardImages | AskOwner | TellOwner
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
class MetadataFetched:
    """The metadata that was asked for."""

    token: int
    files: tuple[MetadataFile, ...]


@dataclass(frozen=True, slots=True)
class OwnerAnswered:
    """The owner's word."""

    token: int
    answer: OwnerAnswer
    ask_again_at: int = 0
    """Fleet time, of LATER."""


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
    slow: bool = False
    """Whether a mirror was given up because it was too slow."""


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
    | MetadataFetched
    | OwnerAnswered
    | CallFailed
    | Verified
    | VerificationFailed
    | ImageFetched
    | FetchBroken
    | ImageRefused
    | SlotsWritten
    | WriteFailed
)
