"""What the signing package raises: one base, one leaf for each reaction of a caller, and codes of refused inputs."""

from __future__ import annotations

from enum import StrEnum, unique


class SigningError(Exception):
    """Base of everything this package raises on purpose. The message is one sentence for people."""


class KeyFileError(SigningError):
    """A key file is missing, unreadable or stands where a new one would go; the message says the remedy."""


class ChangeFileError(SigningError):
    """The file of a pending change cannot be read or written, or is none."""


class StaleChangeError(SigningError):
    """A pending change does not fit: the repository or the change itself has moved on since. Make it anew."""


class WrongKeyError(SigningError):
    """A key that has no say here, or a signature that is not its."""


class BelowThresholdError(SigningError):
    """Signatures are missing: nothing was published. Collect them and try again."""


class ChangeRefusedError(SigningError):
    """A change of keys that no vehicle would take, or that would leave a role without enough keys."""


class CertificateRequestError(SigningError):
    """A certificate request that no certificate is issued for."""


class ImageRefusedError(SigningError):
    """An image that the Image repository does not take in."""


class ImageStoreError(SigningError):
    """The store of images cannot be read or written; the message says the remedy. Repeating is harmless."""


class AccessDeniedError(ImageStoreError):
    """The store of images does not let these credentials do it."""


class EvidenceError(SigningError):
    """Evidence for an image that is missing, faulty, or about something else; the message says which and what to do."""


class HeldMetadataError(SigningError):
    """What a vehicle holds cannot be read or written: a disk problem, not an attack."""


class SignerUnavailableError(SigningError):
    """The signer process did not answer, or not in time. Repeat later: the same request gives the same bytes."""


class SignerRefusedError(SigningError):
    """The signer process answered that it will not sign this request. Repeating does not help."""


@unique
class AttackCode(StrEnum):
    """What a failed check looks like. Source: Uptane 2.1.0, Director and Image repository verification errors."""

    ARBITRARY = "arbitrary_software"
    """Not signed by enough of the right keys, or bytes that differ from what was signed."""
    DUPLICATE_KEY = "duplicate_key"
    """One public key under two ids or in two roles: it would count twice towards a threshold."""
    ROLLBACK = "rollback"
    """Older than what is held or installed."""
    FREEZE = "freeze"
    """Expired by fleet time."""
    MIX_AND_MATCH = "mix_and_match"
    """Files that were each signed, but not together."""
    WRONG_VEHICLE = "wrong_vehicle"
    """Bound to another vehicle, or to none."""
    WRONG_ECU = "wrong_ecu"
    """Names a control unit that the vehicle does not have, or one twice."""
    WRONG_HARDWARE = "wrong_hardware"
    """Meant for other hardware than the control unit has."""
    DELEGATION = "delegation"
    """The Director delegated, which Uptane forbids."""
    BAD_NAME = "bad_name"
    """A file name that could leave its folder, or that is odd."""
    IMAGE_MISMATCH = "image_mismatch"
    """The Director and the Image repository do not say the same about an image."""
    ENDLESS_DATA = "endless_data"
    """More bytes or files than the cap."""
    MISSING = "missing"
    """A file that is needed was neither given nor held."""
    MALFORMED = "malformed"
    """Not the form that was agreed."""
    SLOW_RETRIEVAL = "slow_retrieval"
    """A mirror below the floor of the rate; reported, and no reason to reject an image."""
    CLOCK = "clock"
    """Fleet time lies before a time that was already proven."""
    MANIFEST_FORGED = "manifest_forged"
    """The manifest is not signed by the vehicle's Primary."""
    REPORT_FORGED = "report_forged"
    """A version report is not signed by the control unit it is about."""
    ECU_MISSING = "ecu_missing"
    """A control unit of the inventory has no report."""
    ECU_UNKNOWN = "ecu_unknown"
    """A report about a control unit that the inventory does not know."""
    ECU_DUPLICATE = "ecu_duplicate"
    """Two reports about one control unit."""
    REPLAY = "replay"
    """A counter that was used before."""
    STALE = "stale"
    """A time in a report that is too far from now."""


class VerificationError(SigningError):
    """A check of a vehicle or of the server said no.

    Attributes:
        code: What it looks like, for machines and for the report to the Director.
        message: One sentence for people, with the facts.
    """

    def __init__(self, code: AttackCode, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class MissingFileError(VerificationError):
    """A file that verification needs was neither given nor held: whoever can get it may try again with it.

    Attributes:
        repository: `director` or `image`.
        name: As the repository serves it.
    """

    def __init__(self, repository: str, name: str, message: str) -> None:
        super().__init__(AttackCode.MISSING, message)
        self.repository = repository
        self.name = name


class DeltaError(SigningError):
    """A delta cannot be made, or does not lead to the image that was signed: the whole image does it as well."""


class NotEnrolledError(SigningError):
    """A vehicle without a certificate was asked what it shows: it has to enrol first."""


class CallFailedError(SigningError):
    """A vehicle's call was refused, or nobody answered. When the next may be made is known to `calls`.

    Attributes:
        code: Name of the gRPC status, for example `UNAVAILABLE`.
        reason: Of `google.rpc.ErrorInfo`; empty when there is none.
    """

    def __init__(self, method: str, code: str, reason: str, message: str) -> None:
        super().__init__(f"{method}: {code} {reason} {message}")
        self.code = code
        self.reason = reason
