"""What people call a key: a name that is signed into root metadata beside it, or the start of its id.

Vehicles ignore names. Two keys of one root never share one, so that a name is enough to say which key is meant.
"""

from __future__ import annotations

from collections.abc import Iterable

from securesystemslib.signer import Key
from tuf.api.metadata import Delegations, Root

from signing.errors import SigningError
from signing.names import NAME_PATTERN

_FIELD = "x-outrider-name"
_ID_MIN = 6
"""Fewest characters of an id that say which key is meant."""


def name_of(key: Key) -> str:
    """The name of a key; empty when it has none."""
    name = key.unrecognized_fields.get(_FIELD, "")
    return name if isinstance(name, str) and NAME_PATTERN.fullmatch(name) else ""


def label(key: Key) -> str:
    """How a key is shown: its name and the start of its id, or the start of its id alone."""
    name = name_of(key)
    return f"{name} ({key.keyid[:8]})" if name else key.keyid[:8]


def named(key: Key, name: str) -> Key:
    """Give a key a name.

    Raises:
        SigningError: The name is malformed.
    """
    if not NAME_PATTERN.fullmatch(name):
        raise SigningError(f"{name[:80]!r} is no name of a key: letters, digits, `.`, `_` and `-`, 64 at most")
    key.unrecognized_fields[_FIELD] = name
    return key


def find_key(holder: Root | Delegations, text: str) -> Key:
    """The key of a root, or of a role that trusts suppliers, that a person means.

    Args:
        holder: Where it stands.
        text: Its name, or at least six characters from the start of its id.

    Raises:
        SigningError: No key or more than one is called so.
    """
    keys = holder.keys.values()
    exact = [key for key in keys if text in (name_of(key), key.keyid)]
    found = exact or [key for key in keys if len(text) >= _ID_MIN and key.keyid.startswith(text.lower())]
    if len(found) == 1:
        return found[0]
    what = "no key" if not found else "more than one key"
    where = "of this root" if isinstance(holder, Root) else "of a supplier"
    raise SigningError(f"{what} {where} is called {text[:80]!r}; it has {labels(keys)}")


def labels(keys: Iterable[Key]) -> str:
    """Several keys in one line."""
    return ", ".join(sorted(label(key) for key in keys)) or "none"
