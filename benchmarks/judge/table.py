"""The table of a study, as Markdown and as JSON.

Owns the words and the form; every number comes from `figures`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from benchmarks.judge.cells import COHORT_SHARES, OTHERS_MOST, OTHERS_SHARE, REFERENCE, UNCLAIMED_MOST, Case
from benchmarks.judge.claims import Claim, claims, release_words
from benchmarks.judge.figures import Figures, Paired, Study, ended, figures_of, grouped, paired
from benchmarks.judge.plans import COHORTS, PACED, PLAN, SLOTS
from benchmarks.judge.study import RULES, Result

_HEADINGS = ("rule", "runs", "failed (95 %)", "halted", "held", "days to 95 %")


def as_json(results: Iterable[Result]) -> str:
    """`build/judgement.json`: one object a rule and cell."""
    study = grouped(results)
    rows = [asdict(figures_of(rule, case, runs)) for (rule, case), runs in study.items()]
    return json.dumps(rows, indent=2, allow_nan=False) + "\n"


def as_markdown(results: Sequence[Result], command: str) -> str:
    """`benchmarks/judgement.md`.

    Args:
        results: Of a whole study.
        command: How to repeat it.
    """
    study = grouped(results)
    seeds = sorted({one.seed for one in results})
    parts = [
        "# The judgement\n",
        f"Written by `{command}`: do not edit. Seeds {seeds[0]} to {seeds[-1]}; on one seed every rule meets the same\n"
        "vehicles. What the fleets are: [docs/rehearsal-model.md](../docs/rehearsal-model.md). What was tried:\n"
        "[docs/decisions](../docs/decisions/README.md).\n",
        "*Failed* are vehicles that the release broke or will, those in flight included, in the mean of runs, with\n"
        "the 95 % interval of that mean. *Held* are holds that end up needing a person. *Days* are until 95 % of the\n"
        "fleet have succeeded, in the mean of the runs that get there.\n",
        "The engine judges by its default plan, with limits of its own that do not bind:\n",
        f"```yaml\n{PLAN}```\n",
        "On the fleets `*-paced` and `*-slots`, which are `1.3` and `habits` once more, a limit of the plan binds:\n"
        f"`{_changed(PACED)}`, or `{_changed(SLOTS)}`. On `*-cohorts`, the same fleets in cohorts ({_cohorts()}),\n"
        "the waves take whole cohorts; the reference has its own stages there:\n",
        f"```yaml\n{COHORTS.removeprefix(PLAN)}```\n",
        f"On these, and on the fleets that nothing is tuned on, one seed in {OTHERS_SHARE} is run, at most\n"
        f"{OTHERS_MOST}; on `1.3` and `habits`, of perfect releases and of good ones on `habits`, {UNCLAIMED_MOST} at\n"
        "most, and as many of everything on `1.3-variant`.\n",
        "## Claims\n",
        *_claims(claims(study)),
        "## Against the reference, on the same seeds\n",
        *_pairs(study),
    ]
    for case in _cases(study):
        release = release_words(case.failure_rate, case.silent_share)
        parts.append(f"## Fleet {case.fleet}, limit {case.limit:.0%}, {release}\n")
        rows = [figures_of(rule, case, study[rule, case]) for rule in RULES if (rule, case) in study]
        parts.append(_table(_HEADINGS, [_row(row) for row in rows]))
    return "\n".join(parts)


def as_text(results: Sequence[Result]) -> str:
    """A short table for whoever tunes: one line a cell and rule, with what stopped the runs."""
    study = grouped(results)
    headings = ("fleet", "fail", "silent", "rule", *_HEADINGS[1:], "stalled", "variant", "stopped by")
    rows = []
    for case in _cases(study):
        for rule in (rule for rule in RULES if (rule, case) in study):
            runs = study[rule, case]
            reasons = Counter(one.stopped_by for one in runs if one.stopped_by).most_common()
            rows.append(
                (
                    case.fleet,
                    f"{case.failure_rate:.1%}",
                    f"{case.silent_share:.0%}",
                    rule,
                    *_row(figures_of(rule, case, runs))[1:],
                    str(ended(runs, "stalled")),
                    f"{sum(one.failed_variant for one in runs) / len(runs):.1f}",
                    ", ".join(f"{reason} {count}" for reason, count in reasons),
                )
            )
    return _table(headings, rows)


def _cases(study: Study) -> list[Case]:
    """What was met, in the order of the table."""
    return sorted({case for _, case in study}, key=lambda one: (one.fleet, one.failure_rate, one.silent_share))


def _changed(plan: str) -> str:
    """The line of a plan that the default one has otherwise."""
    (line,) = set(plan.splitlines()) - set(PLAN.splitlines())
    return line.strip()


def _cohorts() -> str:
    """The cohorts of the fleets that have any, with their shares."""
    return ", ".join(f"{name} {share:.1%}" for name, share in COHORT_SHARES.items())


def _claims(found: Sequence[Claim]) -> list[str]:
    rows = [(claim.text, claim.measured, "reached" if claim.reached else "**not reached**") for claim in found]
    return [_table(("asked", "measured", ""), rows)]


def _pairs(study: Study) -> list[str]:
    cases = [case for rule, case in study if rule == REFERENCE]
    pairs = [pair for pair in (paired(study, case) for case in cases) if pair is not None]
    headings = ("fleet", "fail", "silent", "runs", "reference", "outrider", "difference", "upper 95 %")
    return [_table(headings, [_paired(pair) for pair in pairs])]


def _paired(pair: Paired) -> tuple[str, ...]:
    case = pair.case
    return (
        case.fleet,
        f"{case.failure_rate:.1%}",
        f"{case.silent_share:.0%}",
        str(pair.runs),
        f"{pair.reference_mean:.1f}",
        f"{pair.outrider_mean:.1f}",
        f"{pair.difference:+.1f}",
        f"{pair.upper95:+.1f}",
    )


def _row(row: Figures) -> tuple[str, ...]:
    interval = f" ({row.failed_ci95[0]:.1f} to {row.failed_ci95[1]:.1f})" if row.failed_ci95 else ""
    return (
        row.rule,
        str(row.runs),
        f"{row.failed_mean:.1f}{interval}",
        f"{row.halted_share:.1%}",
        f"{row.held_share:.1%}",
        "never" if row.days_to_95 is None else f"{row.days_to_95:.1f}",
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (headings, *rows)) for column in range(len(headings))]
    lines = [_line(headings, widths), "|" + "|".join("-" * (width + 2) for width in widths) + "|"]
    return "\n".join([*lines, *(_line(row, widths) for row in rows)]) + "\n"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"
