"""The board of one rollout: does it move, whom did it hurt, what does the gate weigh, what limits it?"""

from __future__ import annotations

from dashboards.model import Board, Limit, Panel, Query, Section
from dashboards.variables import INSTALLATION
from dashboards.variables import ROLLOUT as ROLLOUT_CHOICE

OF = 'job="$job", rollout="$rollout"'
HURT = f'{OF}, state=~"failed|rolled_back"'

NOW = Section(
    "Now",
    (
        Panel(
            title="Status",
            description="A draft until somebody starts it; running, paused by a person, held or halted by the gate; "
            "completed, aborted or superseded.",
            kind="stat",
            unit="none",
            queries=(Query(f"max by (status) (outrider_rollout_status{{{OF}}}) == 1", "{{status}}"),),
            width=4,
            height=4,
            by_name=True,
        ),
        Panel(
            title="Gate",
            description="proceed admits; hold admits nobody new and clears by itself; halt needs a person.",
            kind="stat",
            unit="none",
            queries=(Query(f"max by (verdict) (outrider_gate_verdict{{{OF}}}) == 1", "{{verdict}}"),),
            width=4,
            height=4,
            by_name=True,
        ),
        Panel(
            title="Exposed",
            description="Vehicles with a permit: the only denominator of the gate.",
            kind="stat",
            unit="short",
            queries=(Query(f"sum(outrider_exposures{{{OF}}})", "exposed"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Failed",
            description="Attempts that failed or went back to the earlier software by the vehicle's own word.",
            kind="stat",
            unit="short",
            queries=(Query(f"sum(outrider_attempts{{{HURT}}})", "failed"),),
            width=4,
            height=4,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="Open cases",
            description="Vehicles that this rollout hurt, or may have, and that have not settled. "
            "`outrider case list` names them.",
            kind="stat",
            unit="short",
            queries=(Query(f"max(outrider_cases_open{{{OF}}})", "cases"),),
            width=4,
            height=4,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="Since the last transition",
            description="Fleet time. A status, a wave or a person's decision changes a rollout; nothing else does.",
            kind="stat",
            unit="s",
            queries=(
                Query(
                    'max(outrider_fleet_time_timestamp_seconds{job="$job"})'
                    f" - max(outrider_rollout_changed_timestamp_seconds{{{OF}}})",
                    "unchanged",
                ),
            ),
            width=4,
            height=4,
        ),
    ),
)

GATE = Section(
    "Gate: what it weighs",
    (
        Panel(
            title="Evidence, as a share of what halts",
            description="Logarithm of the evidence that a limit is broken, over the logarithm from which the gate "
            "halts; the worst of region x hardware and all vehicles. What halts is the evidence of all quantities "
            "together: at 1, and only a person can go on.",
            kind="timeseries",
            unit="percentunit",
            queries=(Query(f"max by (quantity) (outrider_gate_evidence_ratio{{{OF}}})", "{{quantity}}"),),
            limits=(Limit(1, "red"),),
        ),
        Panel(
            title="Probability that a limit is broken",
            description="The worst of region x hardware and all together. Above its line, of what words or silence "
            "tell, the gate holds; it goes on when the probability has fallen clearly below.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(f"max by (quantity) (outrider_gate_probability_ratio{{{OF}}})", "{{quantity}}"),
                Query(f"max by (told_by) (outrider_gate_hold_above_ratio{{{OF}}})", "holds above, by {{told_by}}"),
            ),
            maximum=1,
        ),
        Panel(
            title="Failed share by stratum",
            description="Failed or rolled back, of the exposed, and the plan's failure_ratio. Failures before a "
            "permit are in here too, the gate judges those apart.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    f"sum by (region, hardware) (outrider_attempts{{{HURT}}})"
                    f" / (sum by (region, hardware) (outrider_exposures{{{OF}}}) > 0)",
                    "{{region}} / {{hardware}}",
                ),
                Query(f"max(outrider_failure_limit_ratio{{{OF}}})", "limit"),
            ),
        ),
        Panel(
            title="Silent share, exposures and controls",
            description="Of the exposures that reached a checkpoint, those without word; beside them the same share of "
            "controls, vehicles that wait for their permit by a coin, at the same ages. A gap between the two is harm.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    f"sum by (checkpoint) (outrider_silent{{{OF}}})"
                    f" / (sum by (checkpoint) (outrider_aged{{{OF}}}) > 0)",
                    "exposed, {{checkpoint}}",
                ),
                Query(
                    f"sum by (checkpoint) (outrider_controls_silent{{{OF}}})"
                    f" / (sum by (checkpoint) (outrider_controls{{{OF}}}) > 0)",
                    "controls, {{checkpoint}}",
                ),
            ),
        ),
        Panel(
            title="Silence of frequent callers",
            description="The same hours after the installation, of vehicles that usually call many times a day: "
            "what breaks a vehicle shows here first.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(
                    f"sum by (habit, checkpoint, group) (outrider_habit_silence{{{OF}}})",
                    "{{habit}} {{checkpoint}} {{group}}",
                ),
            ),
        ),
        Panel(
            title="Silent and expected to be silent",
            description="Exposures without word at a checkpoint, and how many would be as usual by plan and controls. "
            "A vehicle that cannot call any more shows here and nowhere else.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(
                    f"sum by (hardware, checkpoint) (outrider_silent{{{OF}}})", "{{hardware}} silent at {{checkpoint}}"
                ),
                Query(
                    f"sum by (hardware, checkpoint) (outrider_silence_expected{{{OF}}})",
                    "{{hardware}} expected at {{checkpoint}}",
                ),
            ),
        ),
    ),
)

PARTS = Section(
    "Parts: what stands still while the rest goes on",
    (
        Panel(
            title="Parts that stand still",
            description="paused by a person or because a region's network is down; held by the gate, clears by itself; "
            "halted by the gate, needs a person, and a second one halts everything. `outrider rollout status` names "
            "them.",
            kind="timeseries",
            unit="none",
            queries=(Query(f"max by (kind) (outrider_brakes{{{OF}}})", "{{kind}}"),),
            width=6,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="Signals beyond their limit",
            description="Posted from outside: trouble codes, tows, calls. A warning holds while it stands; of safety "
            "one holds and two halt.",
            kind="timeseries",
            unit="none",
            queries=(
                Query(f"max by (kind) (outrider_signals{{{OF}}})", "{{kind}}"),
                Query(f"max(outrider_hold_final{{{OF}}})", "holds that are final"),
            ),
            width=6,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="Age of signals",
            description="Of how long the last measurement is good. At 100 % it is overdue: whoever measures may be "
            "dead, and the rollout, or the part that it is about, is held until somebody posts again.",
            kind="timeseries",
            unit="percentunit",
            queries=(Query(f"max by (signal, scope) (outrider_signal_age_ratio{{{OF}}})", "{{signal}} in {{scope}}"),),
            width=6,
            limits=(Limit(1, "orange"),),
        ),
        Panel(
            title="Dark regions",
            description="1 while so few vehicles call that the region's network seems to be down: it stands still, and "
            "its silence is not judged.",
            kind="timeseries",
            unit="none",
            queries=(Query(f"max by (region) (outrider_region_dark{{{OF}}})", "{{region}}"),),
            width=6,
            limits=(Limit(1, "orange"),),
        ),
    ),
)

PROGRESS = Section(
    "Progress",
    (
        Panel(
            title="Waves by region",
            description="The wave that each region is in, of the plan's. Each region walks by itself.",
            kind="bargauge",
            unit="percentunit",
            queries=(
                Query(
                    f"max by (region) (outrider_region_wave{{{OF}}})"
                    f" / on () group_left () max(outrider_rollout_waves{{{OF}}})",
                    "{{region}}",
                ),
            ),
            width=8,
            maximum=1,
        ),
        Panel(
            title="Phase by region",
            description="pending waits for an approval or for another region; rolling admits; aging waits for the last "
            "checkpoint; holdout admits the last; done is through.",
            kind="table",
            unit="none",
            queries=(Query(f"max by (region, phase) (outrider_region_phase{{{OF}}}) == 1", "{{region}} {{phase}}"),),
            width=8,
        ),
        Panel(
            title="Age of the wave, over the least it takes",
            description="Fleet time, of regions that are rolling while the rollout runs. Beyond 2 and a day it "
            "counts as stalled: `outrider rollout status` says what the region waits for.",
            kind="timeseries",
            unit="none",
            queries=(Query(f"outrider:wave_age:ratio{{{OF}}}", "{{region}}"),),
            width=8,
            limits=(Limit(2, "orange"),),
        ),
        Panel(
            title="Attempts by state",
            description="Where the vehicles stand that it has reached. A live state that only grows is where to look.",
            kind="timeseries",
            unit="short",
            queries=(Query(f"sum by (state) (outrider_attempts{{{OF}}}) > 0", "{{state}}"),),
        ),
        Panel(
            title="Exposures by stratum",
            description="Region and hardware are judged apart: one with few exposures says little yet.",
            kind="timeseries",
            unit="short",
            queries=(Query(f"sum by (region, hardware) (outrider_exposures{{{OF}}})", "{{region}} / {{hardware}}"),),
        ),
        Panel(
            title="Vehicles still to be reached",
            description="That the plan is for and that do not run the release, by region.",
            kind="timeseries",
            unit="short",
            queries=(Query(f"max by (region) (outrider_vehicles_waiting{{{OF}}})", "{{region}}"),),
            stacked=True,
        ),
        Panel(
            title="Epoch",
            description="Every transition raises it: a step is a wave, a verdict or a person.",
            kind="timeseries",
            unit="none",
            queries=(Query(f"max(outrider_rollout_epoch{{{OF}}})", "epoch"),),
        ),
    ),
)

LIMITS = Section(
    "Limits: what keeps vehicles out",
    (
        Panel(
            title="Young exposures and the blast budget",
            description="Exposures younger than the first checkpoint, the permits that may still be given now, and the "
            "budget. No permit left for long means that vehicles do not report back.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(f"max(outrider_young_exposures{{{OF}}})", "young"),
                Query(f"max(outrider_permit_allowance{{{OF}}})", "permits left"),
                Query(f"max(outrider_blast_budget{{{OF}}})", "budget"),
            ),
        ),
        Panel(
            title="Slots without a permit, and their ceiling",
            description="Vehicles that a payload could hurt before it installs, and how many may be so at once. The "
            "ceiling falls when grants fail or fall silent without a permit.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(f"max(outrider_slots_at_risk{{{OF}}})", "without a permit"),
                Query(f"max(outrider_grant_ceiling{{{OF}}})", "ceiling"),
            ),
        ),
        Panel(
            title="Losses before the permit",
            description="Attempts that failed or were rejected without a permit, and grants that fell silent so. The "
            "gate judges them apart: no installation had begun.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(f"sum by (hardware) (outrider_failed_before_permit{{{OF}}})", "{{hardware}} failed"),
                Query(f"max(outrider_grants_silent{{{OF}}})", "silent"),
                Query(f"max(outrider_grants_aged{{{OF}}})", "old enough to say"),
            ),
        ),
        Panel(
            title="Slots taken, by region",
            description="Attempts in flight over in_flight of the plan. At 1 vehicles wait for others to end.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    f"max by (region) (outrider_in_flight{{{OF}}})"
                    f" / max by (region) (outrider_in_flight_limit{{{OF}}})",
                    "{{region}}",
                ),
            ),
            maximum=1,
        ),
        Panel(
            title="Answers to vehicles that ask to install",
            description="Of every rollout, by outcome: issued, or why not.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (outcome) (rate(outrider_permits_total{job="$job"}[$__rate_interval]))', "{{outcome}}"),
            ),
        ),
        Panel(
            title="Vehicles that may not begin",
            description="Of every rollout, by reason. not_targeted and not_drawn are as planned; "
            "evaluator_silent is ours.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query('sum by (reason) (rate(outrider_refusals_total{job="$job"}[$__rate_interval]))', "{{reason}}"),
            ),
        ),
    ),
)

ROLLOUT = Board(
    uid="outrider-rollout",
    title="Outrider / Rollout",
    description="One rollout: status, what the gate weighs, progress, and what limits it.",
    variables=(INSTALLATION, ROLLOUT_CHOICE),
    sections=(NOW, GATE, PARTS, PROGRESS, LIMITS),
)
