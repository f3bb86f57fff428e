"""The board of one rollout: does it move, whom did it reach, whom did it hurt, and is the service itself well?"""

from __future__ import annotations

from dashboards.model import Board, Panel, Query, Variable

HURT = 'state=~"failed|rolled_back"'

ROLLOUT = Board(
    uid="outrider-rollout",
    title="Outrider / Rollout",
    description="One rollout: status, gate, progress, failures and silence, and the service that carries it.",
    variables=(Variable("rollout", "Rollout", "label_values(outrider_rollout_epoch, rollout)"),),
    panels=(
        Panel(
            title="Status",
            description="running, paused by a person, held or halted by the gate, completed or aborted.",
            kind="stat",
            unit="none",
            queries=(Query('outrider_rollout_status{rollout="$rollout"} == 1', "{{status}}"),),
            width=4,
            height=4,
            by_name=True,
        ),
        Panel(
            title="Gate",
            description="proceed admits; hold admits nobody new and clears by itself; halt needs a person.",
            kind="stat",
            unit="none",
            queries=(Query('outrider_gate_verdict{rollout="$rollout"} == 1', "{{verdict}}"),),
            width=4,
            height=4,
            by_name=True,
        ),
        Panel(
            title="Exposed",
            description="Vehicles with a permit: the only denominator of the gate.",
            kind="stat",
            unit="short",
            queries=(Query('sum(outrider_exposures{rollout="$rollout"})', "exposed"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Failed",
            description="Attempts that failed or went back to the earlier software by the vehicle's own word.",
            kind="stat",
            unit="short",
            queries=(Query(f'sum(outrider_attempts{{rollout="$rollout", {HURT}}})', "failed"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Open cases",
            description="Vehicles that this rollout hurt, or may have, and that have not settled. "
            "`outrider case list` names them.",
            kind="stat",
            unit="short",
            queries=(Query('outrider_cases_open{rollout="$rollout"}', "cases"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Permits left now",
            description="What the blast budget allows before earlier exposures have proven themselves. "
            "0 for long means that vehicles do not report back.",
            kind="stat",
            unit="short",
            queries=(Query('outrider_permit_allowance{rollout="$rollout"}', "permits"),),
            width=4,
            height=4,
        ),
        Panel(
            title="Attempts by state",
            description="Where the vehicles stand that it has reached. A live state that only grows is where to look.",
            kind="timeseries",
            unit="short",
            queries=(Query('sum by (state) (outrider_attempts{rollout="$rollout"})', "{{state}}"),),
        ),
        Panel(
            title="Exposures by stratum",
            description="Region and hardware are judged apart: one with few exposures says little yet.",
            kind="timeseries",
            unit="short",
            queries=(
                Query(
                    'sum by (region, hardware) (outrider_exposures{rollout="$rollout"})', "{{region}} / {{hardware}}"
                ),
            ),
        ),
        Panel(
            title="Failed share by stratum",
            description="Failed or rolled back, of the exposed; the plan limits it by failure_ratio. Failures before a "
            "permit are in here too, the gate judges those apart.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    f'sum by (region, hardware) (outrider_attempts{{rollout="$rollout", {HURT}}})'
                    ' / (sum by (region, hardware) (outrider_exposures{rollout="$rollout"}) > 0)',
                    "{{region}} / {{hardware}}",
                ),
            ),
        ),
        Panel(
            title="Silent share by age",
            description="Exposures without word at a checkpoint, of those that reached it. Some silence is normal: "
            "compare with the plan's silence_reference. A brick that cannot call shows here and nowhere else.",
            kind="timeseries",
            unit="percentunit",
            queries=(
                Query(
                    'sum by (hardware, checkpoint) (outrider_silent{rollout="$rollout"})'
                    ' / (sum by (hardware, checkpoint) (outrider_aged{rollout="$rollout"}) > 0)',
                    "{{hardware}} at {{checkpoint}}",
                ),
            ),
        ),
        Panel(
            title="Permits and refusals",
            description="Answers to vehicles that ask to install, of every rollout, by outcome.",
            kind="timeseries",
            unit="reqps",
            queries=(Query("sum by (outcome) (rate(outrider_permits_total[$__rate_interval]))", "{{outcome}}"),),
        ),
        Panel(
            title="Check-ins",
            description="Polls of the whole fleet by directive. A fall means that vehicles cannot reach the service.",
            kind="timeseries",
            unit="reqps",
            queries=(Query("sum by (outcome) (rate(outrider_checkins_total[$__rate_interval]))", "{{outcome}}"),),
        ),
        Panel(
            title="gRPC answers that are not OK",
            description="By code. UNAVAILABLE and INTERNAL are ours, the others mostly the caller's.",
            kind="timeseries",
            unit="reqps",
            queries=(
                Query(
                    'sum by (service, code) (rate(outrider_grpc_server_handled_total{code!="OK"}[$__rate_interval]))',
                    "{{service}} {{code}}",
                ),
            ),
        ),
        Panel(
            title="gRPC latency, 99th percentile",
            description="Time to answer, by method. An acknowledgement waits for the disk.",
            kind="timeseries",
            unit="s",
            queries=(
                Query(
                    "histogram_quantile(0.99, sum by (le, method)"
                    " (rate(outrider_grpc_server_handling_seconds_bucket[$__rate_interval])))",
                    "{{method}}",
                ),
            ),
        ),
        Panel(
            title="Age of the last evaluator tick",
            description="Grants and permits stop by themselves when this exceeds 10 s.",
            kind="timeseries",
            unit="s",
            queries=(Query("time() - outrider_evaluator_last_tick_timestamp_seconds", "age"),),
        ),
        Panel(
            title="Journal entries not yet in the ledger",
            description="A line that only rises: the ledger does not take entries, its disk may be full.",
            kind="timeseries",
            unit="short",
            queries=(Query("outrider_journal_lag_entries", "entries"),),
        ),
    ),
)
