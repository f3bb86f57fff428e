"""The requirements: what sections 5.1 to 5.4 of Uptane 2.1.0 demand, and what its deployment practices advise.

The words are ours and short; the Standard's own are in the Standard. The keys are ours as well, and for good.
"""

from __future__ import annotations

from tests.uptane.entries import Entry, met, not_met, partly

NO_ENCRYPTION = "encrypted images are out of scope: an image is public to whoever reaches a mirror"

METADATA: tuple[Entry, ...] = (
    met("M1", "5.1", "Each repository has root, targets, snapshot and timestamp, each with its own key and file."),
    met(
        "M2",
        "5.1.2.1",
        "Only the Image repository delegates, in order of priority; nobody is asked after a terminating role.",
    ),
    met("M3", "5.2", "Text in metadata is in Unicode NFC."),
    met("M4", "5.2.1", "A key's id names key, algorithm and scheme; each signature says by which key it is."),
    met("M5", "5.2.1", "Each file says its role, when it expires, and its version as an integer."),
    met("M6", "5.2.2", "Root names for all four roles their keys, under unique ids, and a threshold."),
    met("M7", "5.2.3.1", "A target has a name, a length and at least one hash; what can be installed is listed."),
    met("M8", "5.2.3.1", "The Director's targets name the vehicle when they list no image; ours always do."),
    met("M9", "5.2.3.1.1", "A target of the Director names its control units; counter and hardware have to match."),
    not_met(
        "M10",
        "5.2.3.1.1",
        "An encrypted image has its own hashes and its method in the Director's entry.",
        NO_ENCRYPTION,
    ),
    met(
        "M11",
        "5.2.3.2",
        "A delegation has keys, threshold, paths, hardware ids and priority; chains may have any length.",
    ),
    met("M12", "5.2.4", "Snapshot lists name and version of every targets file."),
    met("M13", "5.2.5", "Timestamp has version and at least one hash of the snapshot; one without is refused."),
    met("M14", "5.2.6", "Every Primary knows which repositories have to agree on an image: here always both."),
    met("M15", "5.2.7", "Files are named by version, images by hash; a name cannot lead out of its folder."),
)
"""Of roles and metadata."""

REPOSITORIES: tuple[Entry, ...] = (
    met("I1", "5.3.1", "Metadata and images can be downloaded."),
    met("I2", "5.3.1", "Who writes an image has to be allowed that image, along the chain of delegations."),
    met("I3", "5.3.1", "What was written under a name stays, and is read back the same."),
    met("D1", "5.3.2", "A Primary can hand in manifests and get metadata; the storage is written by a service."),
    met("D2", "5.3.2.1", "The vehicle is identified and looked up in the inventory."),
    met(
        "D3",
        "5.3.2.1",
        "A manifest is checked against the inventory: all units, every signature under its own key, the time.",
    ),
    met("D4", "5.3.2.1", "A counter that was used before is not taken again."),
    met(
        "D5",
        "5.3.2.1",
        "Dependencies and conflicts are heeded; nothing is issued that may conflict with what was installed since.",
    ),
    met("D6", "5.3.2.1", "Targets, snapshot and timestamp are made for each vehicle."),
    met(
        "D7",
        "5.3.2.2",
        "A private inventory holds vehicles and control units with their public keys and which is Primary.",
    ),
)
"""Of the Image repository (I) and the Director (D)."""

VEHICLE: tuple[Entry, ...] = (
    partly(
        "V1",
        "5.4",
        "Nothing is installed or passed on before it is verified, by secure time.",
        "time comes from one source, see T1",
    ),
    met("V2", "5.4", "Download speed is watched, and slow retrieval reported in the next manifest."),
    met("V3", "5.4.1", "A vehicle leaves the factory with metadata of both repositories, keys and mapping."),
    met(
        "V4", "5.4.2.1.1", "A manifest is signed over the hash of its payload: vehicle, Primary, a report of each unit."
    ),
    met("V5", "5.4.2.1.2", "A report says what is installed, an attack if one was seen, the time, and a new counter."),
    not_met(
        "V6",
        "5.4.2.1.1",
        "A manifest may leave out what did not change.",
        "not used: a manifest is always whole, and a poll names it by its digest",
    ),
    met(
        "V7",
        "5.4.2",
        "A Primary builds the manifest, verifies in full, and serves time, metadata and images to its Secondaries.",
    ),
    met("V8", "5.4.3", "A failed step ends in a report of what runs, and earlier metadata stays."),
    partly(
        "V9",
        "5.4.3.4",
        "Before an image is installed: own unit, hardware, name, counter, all hashes, length.",
        NO_ENCRYPTION,
    ),
)
"""Of control units in general."""

VERIFICATION: tuple[Entry, ...] = (
    met("P1", "5.4.4.1", "Partial verification: time, then the Director's targets; ours follows its roots as well."),
    met("F1", "5.4.4.2", "Full verification begins with the time."),
    met("F2", "5.4.4.2", "Then the Director's root."),
    met("F3", "5.4.4.2", "Then the Director's timestamp."),
    met("F4", "5.4.4.2", "Then its snapshot; an unchanged one ends the work."),
    met("F5", "5.4.4.2", "Then its targets."),
    met("F6", "5.4.4.2", "Where nothing new is assigned, verification may stop."),
    met("F7", "5.4.4.2", "Then the Image repository's root."),
    met("F8", "5.4.4.2", "Then its timestamp."),
    met("F9", "5.4.4.2", "Then its snapshot."),
    met("F10", "5.4.4.2", "Then its top-level targets."),
    met("F11", "5.4.4.2", "At last both repositories are compared."),
    met(
        "F12", "5.4.4.2", "Same name, length, hashes and section that shall match; a counter not below the one before."
    ),
    met("F13", "5.4.4.2", "A failure has a code, and names the attack."),
    met(
        "C-root",
        "5.4.4.3",
        "Roots one by one, each signed by the thresholds of both; rotated keys discard what they signed.",
    ),
    met("C-timestamp", "5.4.4.4", "A cap, the threshold, not older than the one held, not expired."),
    met("C-snapshot", "5.4.4.5", "As the timestamp says; nothing listed is older or missing; not expired."),
    met(
        "C-targets",
        "5.4.4.6",
        "As the snapshot says; of the Director: no delegation, no unit twice, no unit that is not here.",
    ),
    partly(
        "C-deleg",
        "5.4.4.7",
        "Delegations are searched in order; path and hardware id have to fit; terminating ends the search.",
        "several roles that have to agree on one image (TAP 3, optional) are not offered",
    ),
)
"""Of verification."""

PRACTICES: tuple[Entry, ...] = (
    met("K1", "practices", "The Director's root is offline under a threshold, its other keys online and single."),
    met(
        "K2", "practices", "The Image repository's root and targets are offline; snapshot and timestamp may be online."
    ),
    met("K3", "practices", "No key serves two roles."),
    met("K4", "practices", "A rotation of the Image repository's root reaches vehicles without waiting for an image."),
    met(
        "K5",
        "practices",
        "A supplier that is removed stays listed in the snapshot unless keys are rotated.",
    ),
    met(
        "K6",
        "practices",
        "Units that verify in part cannot be given new keys over the air: ours can, by the root's chain.",
    ),
    partly(
        "T1",
        "practices",
        "Time comes from a secured source.",
        "fleet time comes from the orchestrator over TLS and never goes back; no second, signed source",
    ),
)
"""Of keys and time: advice of the deployment practices, not demands of the Standard."""

GROUPS: tuple[tuple[str, tuple[Entry, ...]], ...] = (
    ("Roles and metadata", METADATA),
    ("Repositories", REPOSITORIES),
    ("Vehicles", VEHICLE),
    ("Verification", VERIFICATION),
    ("Keys and time", PRACTICES),
)
