"""What the places of a rollout amount to, counted from who holds them (`functions/places.lua`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

ALL, AT_RISK, ASIDE = "*", "*b", "-"


def recount_places(
    slots: Mapping[bytes, bytes],
    permits: Mapping[bytes, bytes],
    spent: Mapping[str, int],
    *,
    unsettled: Sequence[bytes],
    outstanding: Sequence[bytes],
) -> tuple[Mapping[str, Mapping[str, int]], Sequence[tuple[str, bytes]]]:
    """What `in_flight`, `admitted` and `spent` should say; members of `unsettled` and `outstanding` that lead nowhere.

    Args:
        slots: place of each live attempt.
        permits: permits of attempts that are not spent yet.
        spent: permits that are, by cell; what each cell counts is a record itself, their sum is not.
        unsettled: its members.
        outstanding: its members.
    """
    in_flight: Counter[str] = Counter()
    admitted = Counter({cell: count for cell, count in spent.items() if cell != ALL})
    held: set[bytes] = set()
    for name, place in slots.items():
        taken, _, cell = place.decode().partition("|")
        admitted[cell] += taken != ASIDE
        if taken.isdigit():
            held.add(name)
            in_flight.update((cell.partition("|")[0], ALL))
            in_flight[AT_RISK] += name not in permits
    for name, permit in permits.items():
        # Who is over and not spent yet stays admitted; who lives was counted above.
        if name not in slots:
            admitted[permit.decode().split("|", 4)[4]] += 1
    wanted = {
        "in_flight": in_flight,
        "admitted": admitted,
        "spent": {**spent, ALL: sum(count for cell, count in spent.items() if cell != ALL)},
    }
    stray = [
        ("unsettled", member) for member in unsettled if member[2:] not in (held if member[:1] == b"s" else permits)
    ]
    stray += [("outstanding", member) for member in outstanding if member not in slots]
    return wanted, stray
