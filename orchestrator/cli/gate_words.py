"""The numbers that decided a verdict, under names that people know.

Owns which of a verdict's inputs belong to its rule; the rest is in the JSON. A rule that is not known here is shown
with every input, so that nothing is hidden.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime

from orchestrator.cli.words import moment_of, number, percent

RULE = re.compile(r"(failures|silence|silence_unpaired|losses|losses_silence)_(evalue|posterior)(_(?:[a-z]+_)?\d+)?")
_SILENT = ("silence", "silence_unpaired", "losses_silence")
"""Quantities that are held by another probability than what vehicles say."""

SIGNAL, OVERDUE = "signal_", "overdue_"
"""What rules about signals from outside begin with; the signal's name follows."""


def deciding(rule: str, inputs: Mapping[str, float]) -> str:
    """For example `exposed 20, failed 3, evidence 682, halts from 360`.

    Args:
        rule: of the verdict, for example `silence_posterior_0`.
        inputs: of the verdict.
    """
    # A protobuf map answers nought for what it does not have.
    given = dict(inputs)
    known = RULE.fullmatch(rule)
    try:
        if known is not None:
            return ", ".join(_of_rule(known[1], known[2], known[3] or "", given))
        if rule.startswith(SIGNAL):
            return f"value {number(given[f'found_{rule}'])}"
        if rule.startswith(OVERDUE):
            return f"measured {moment_of(datetime.fromtimestamp(given[f'found_{rule}'] / 1000, UTC))}"
    except KeyError:
        pass
    return ", ".join(f"{name} {number(value)}" for name, value in sorted(given.items()))


def _of_rule(quantity: str, strength: str, suffix: str, inputs: Mapping[str, float]) -> list[str]:
    parts = _counts(quantity, suffix, inputs)
    if strength == "evalue":
        evidence = math.exp(min(700.0, inputs["log_e"]))
        return [*parts, f"evidence {evidence:.3g}", f"halts from {inputs['evidence_min']:.3g}"]
    bound = inputs["silence_hold_above" if quantity in _SILENT else "hold_above"]
    likely = inputs[f"{quantity}_posterior{suffix}"]
    return [*parts, f"probability {percent(likely)}", f"holds above {percent(bound)}"]


def _counts(quantity: str, suffix: str, inputs: Mapping[str, float]) -> list[str]:
    if quantity == "failures":
        return [f"exposed {number(inputs['n'])}", f"failed {number(inputs['k'])}"]
    if quantity == "losses":
        return [f"granted {number(inputs['granted'])}", f"failed {number(inputs['failed_before_permit'])}"]
    number_of = suffix.removeprefix("_")
    group = "losses" if quantity == "losses_silence" else f"a{number_of}" if number_of.isdecimal() else number_of
    if quantity == "silence_unpaired":
        aged, silent = (inputs[f"{name}_{group}"] for name in ("u", "v"))
        limit = inputs[f"{quantity}_limit{suffix}"]
        return [f"not compared {number(aged)}", f"silent {number(silent)}", f"limit {percent(limit)}"]
    aged, silent = (inputs[f"{name}_{group}"] for name in ("n", "k"))
    normal = inputs[f"{quantity}_limit{suffix}"] - inputs["failure_ratio_max"]
    return [f"aged {number(aged)}", f"silent {number(silent)}", f"normal {percent(normal)}"]
