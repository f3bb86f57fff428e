"""The attacks, A1 to A30: who does what, and what must come of it."""

from __future__ import annotations

from tests.uptane.entries import Entry, met, partly

ATTACKS: tuple[Entry, ...] = (
    met("A1", "network", "Other images, or metadata under unknown keys: refused as arbitrary software, and reported."),
    met("A2", "Director's online keys", "Assigns what was never released, or other bytes: refused at the match."),
    met("A3", "one supplier key", "Below its threshold, or outside its paths or hardware: refused."),
    met("A4", "careless delegator", "One key under two ids, or one signature twice: never counts twice."),
    met("A5", "network, one key", "Thresholds unmet or zero, another role's key or file, an unknown scheme: refused."),
    met("A6", "stale mirror, online keys", "Older metadata of any role of either repository: refused as a rollback."),
    met("A7", "Director's online keys", "An older image, by its release counter: refused as a rollback."),
    met("A8", "restored backup", "The server's versions go back: they jump ahead of what was lost."),
    met("A9", "network", "A replayed timestamp is good for its day and a freeze after it."),
    met("A10", "network", "Another vehicle's fresh timestamp: refused, where it would freeze in silence."),
    met("A11", "network", "Another vehicle's targets, full or empty: refused."),
    met(
        "A12",
        "clock",
        "Set back, or a Primary that lies: refused below a proven floor. Far ahead: no harm once it ends.",
    ),
    met("A13", "endless data", "Files, images, roots, delegations and messages are capped: work is bounded."),
    met("A14", "slow mirror", "A byte now and then: a floor of the rate ends each try, and it is reported."),
    met(
        "A15", "drop", "Calls or acknowledgements that vanish: tried again with jitter; silence is noticed by the gate."
    ),
    met("A16", "mix and match", "Files of two times together: refused."),
    met(
        "A17",
        "mixed bundles",
        "Different bundles to two Secondaries: refused by version and vehicle, seen in the manifest.",
    ),
    met(
        "A18", "partial bundle", "One unit's image is blocked: no further update until a manifest settles the vehicle."
    ),
    met("A19", "two rollouts", "Both assign to one vehicle at once: one wins."),
    partly(
        "A20",
        "eavesdropper",
        "Sees nothing: TLS everywhere, images encrypted for their unit.",
        "TLS only: encrypted images are out of scope, and mirrors may be public",
    ),
    met("A21", "forged manifest", "By the Primary for a Secondary, incomplete, foreign: dropped and recorded."),
    met("A22", "replayed manifest", "An old counter, an old time: dropped and recorded."),
    met("A23", "unsigned success", "An event claims success: the signed report alone decides."),
    met("A24", "fast-forward", "Stolen online keys use up the versions: new keys from the root start anew."),
    met("A25", "stolen keys", "Each gives its thief what its role allows and no more; recovery bricks nobody."),
    met("A26", "long sleep", "Several roots later, some expired: the vehicle walks the chain."),
    met("A27", "odd names", "Paths that lead elsewhere, odd role names: refused at both ends."),
    met("A28", "flood", "Of calls, of huge or costly manifests: cheap checks first, caps, a rate for each vehicle."),
    met("A29", "diamond", "A role reached over two delegations with different keys: refused."),
    met("A30", "parsers", "Doubled names, control characters, NFD, floats, huge integers: one reading or none."),
)
