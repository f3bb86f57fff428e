"""Names of journal streams and positions in them."""

from __future__ import annotations

from orchestrator.model.ids import RolloutId

FLEET_STREAM = "fleet"


def shard_stream(shard: int) -> str:
    """Stream of a shard."""
    return f"shard/{shard}"


def rollout_stream(rollout_id: RolloutId) -> str:
    """Stream of a rollout."""
    return f"rollout/{rollout_id}"


def stream_parts(stream: str) -> tuple[int | None, RolloutId | None]:
    """The shard or the rollout that a stream belongs to; neither for the fleet's.

    Raises:
        ValueError: no stream has that name.
    """
    kind, slash, name = stream.partition("/")
    if kind == "shard" and name.isascii() and name.isdigit():
        return int(name), None
    if kind == "rollout" and name:
        return None, RolloutId(name)
    if stream == FLEET_STREAM and not slash:
        return None, None
    raise ValueError(f"no stream is called {stream!r}")


def position(entry_id: str) -> tuple[int, int]:
    """A position `<ms>-<n>` as numbers, to compare; before everything when empty."""
    milliseconds, _, sequence = (entry_id or "0-0").partition("-")
    return int(milliseconds), int(sequence or 0)


def after_position(entry_id: str) -> str:
    """The first position after one."""
    milliseconds, sequence = position(entry_id)
    return f"{milliseconds}-{sequence + 1}"
