"""What the Image repository's offline keys say of a release decides who gets it, whatever the store says."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Snapshot, Targets, Timestamp

from orchestrator.model.ids import ReleaseVersion
from orchestrator.model.release import Release
from orchestrator.service.errors import StateError
from orchestrator.service.vehicles import Install, Withdraw
from signing.attestation import with_attesters
from signing.image_repo import NewImage
from signing.release_facts import ReleaseFacts, notes_file
from tests.builders import PRIMARY_HARDWARE
from tests.evidence import vouched_for
from tests.service.test_explain import known, why
from tests.service.world import Car, World, image_of


def revoke_attest(world: World) -> CryptoSigner:
    """Put another key in the place of the one that vouched for everything."""
    fresh, metadata = CryptoSigner.generate_ecdsa(), world.repository.metadata
    targets = metadata.load("targets", Targets)
    with_attesters(targets, [fresh.public_key])
    snapshot, timestamp = metadata.load("snapshot", Snapshot), metadata.load("timestamp", Timestamp)
    metadata.release(targets, snapshot, timestamp, world.data.image_keys, world.signed_now())
    world.vouching.refresh()  # as it does within a second
    return fresh


def a_release(world: World, version: str, *, vouched: bool = True, counter: int = 3, **fields: object) -> Release:
    """A release of one image that is signed, not yet registered."""
    file = world.data.path / f"{version}.img"
    file.write_bytes(version.encode())
    image = replace(NewImage(file.name, file, PRIMARY_HARDWARE, counter, version), **fields)  # type: ignore[arg-type]
    if vouched:
        image = vouched_for(image, world.data.image_keys)
    targets = world.repository.publish([image], world.data.image_keys, world.signed_now())
    return Release(ReleaseVersion(version), (image_of(targets[0]),), "", world.now, 0)


async def registered(world: World, release: Release) -> Release:
    """Register a release, and let everybody know."""
    world.hand.advance(1000)
    found = await world.releases.create(release, actor="alice", reason="test")
    world.images.refresh()
    await world.snapshots.refresh()
    return found


async def test_release_that_nobody_vouches_for_is_not_registered(world: World):
    """The signer would refuse it to every vehicle: whoever publishes hears of it now."""
    with pytest.raises(StateError, match="no verification summary") as refused:
        await registered(world, a_release(world, "1.2.0", vouched=False))
    assert refused.value.reason == "RELEASE_UNATTESTED"
    assert "outrider release attest" in refused.value.remedy


async def test_rollout_of_a_release_whose_word_was_revoked_is_not_started(world: World):
    """Nor previewed: nothing of it could reach a vehicle."""
    await world.add(Car("v-1"))
    revoke_attest(world)
    with pytest.raises(StateError, match="must sign") as refused:
        await world.start()
    assert refused.value.reason == "RELEASE_UNATTESTED"


async def test_nobody_is_granted_a_release_whose_word_was_revoked(world: World):
    """The rollout runs on, and admits nobody until somebody vouches again."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    fresh = revoke_attest(world)
    assert (await world.check_in(car)).directive is None
    images = [
        NewImage(
            target.path,
            world.repository.image_file(target.path, target.sha256),
            target.hardware_id,
            target.release_counter,
            target.version,
        )
        for target in world.repository.listed()
    ]
    again = [vouched_for(image, [fresh]) for image in images]
    world.repository.publish(again, world.data.image_keys, world.signed_now())
    world.vouching.refresh()
    assert isinstance((await world.check_in(car)).directive, Install)


async def test_vehicle_is_told_why_a_release_does_not_come(world: World):
    """`vehicle explain` names the cause and not the queue, at 3 a.m. above all."""
    car = Car("v-1")
    await known(world, car)
    await world.start()
    revoke_attest(world)
    said = await why(world, car)
    assert said.reason == "unattested"
    assert "must sign" in said.message


async def test_attempt_before_its_permit_is_withdrawn_when_the_word_is_revoked(world: World):
    """What is not yet installed is not installed; the Director takes its assignment back."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    assert isinstance((await world.check_in(car)).directive, Install)
    revoke_attest(world)
    reply = await world.check_in(car)
    assert isinstance(reply.directive, Withdraw)
    assert reply.directive.reason == "nobody vouches for the release any more"
    files = [content for name, content in reply.director_files.items() if name.endswith("targets.json")]
    assert files
    assert b'"targets":{}' in files[0]


async def test_vehicle_that_runs_the_release_goes_on_calling_when_its_word_is_revoked(world: World):
    """The signer would refuse its files: it is assigned nothing, keeps what it runs, and gets an answer to its poll."""
    car = Car("v-1")
    await world.add(car)
    await world.start()
    await world.permitted(car)
    release = await world.releases.get("1.1.0")
    await world.manifests.submit(car.vehicle_id, car.manifest(world.now, release))
    assert (await world.record(car)).director.release == "1.1.0"
    revoke_attest(world)
    reply = await world.check_in(car)
    assert reply.directive is None
    assert (await world.record(car)).director.release == ""
    assert (await world.record(car)).installed == "1.1.0"


@pytest.mark.uptane("D5")
async def test_plan_is_for_those_whom_the_release_may_follow(world: World):
    """What was signed narrows every plan: counted by the preview, and judged at each grant."""
    facts = ReleaseFacts(requires=">=1.1.0", conflicts=("1.1.3",))
    await registered(world, a_release(world, "1.2.0", facts=facts))
    behind, ahead = Car("v-1"), Car("v-2")
    await world.add(behind, ahead)
    plan = 'release: 1.2.0\ntarget: {installed: "<1.2.0"}\nwaves: [{name: all, soak: 1h}]\nregions: {eu: {}}\n'
    read, _, effective = await world.rollouts.preview(plan)
    assert read.target.installed == "<1.2.0,>=1.1.0,!=1.1.3"
    assert "!=1.1.3" in effective


@pytest.mark.uptane("D5")
async def test_vehicle_is_granted_only_what_may_follow_what_it_runs(world: World):
    """At each grant, by what the last manifest proves: nothing proven is not enough, and what it must not follow is."""
    proven = await world.releases.get("1.1.0")
    await registered(world, a_release(world, "1.2.0", facts=ReleaseFacts(requires=">=1.1.0")))
    behind, ready = Car("v-1"), Car("v-2")
    await world.add(behind, ready)
    await world.manifests.submit(ready.vehicle_id, ready.manifest(world.now, proven))
    await world.start("release: 1.2.0\nholdout: 0%\nwaves: [{name: all}]\nregions: {eu: {}}\n")
    assert (await world.check_in(behind)).directive is None
    assert isinstance((await world.check_in(ready)).directive, Install)
    said = await world.explain.explain(behind.vehicle_id, None)
    assert ">=1.1.0" in said.explanations[0].message


async def test_facts_and_notes_are_read_from_what_was_signed(world: World):
    """Not from the store, which a thief could write."""
    notes = notes_file({"en": "Better", "de": "Besser"})
    facts = ReleaseFacts(rxswin=("R79 SWIN 1",), safety_relevant=True, notes_sha256=sha256(notes).hexdigest())
    release = await registered(world, a_release(world, "1.2.0", facts=facts, notes=notes))
    said = world.releases.said(release)
    assert said.facts == facts
    assert said.notes == {"de": "Besser", "en": "Better"}
    [found] = await world.releases.evidence(release)
    assert (found.fault, found.level, found.waived) == ("", "SLSA_BUILD_LEVEL_1", "")
    assert found.found is not None
    assert (found.found.components, found.found.tests_passed) == (1, 1)


async def test_parts_list_that_was_changed_later_is_told(world: World):
    """Its digest is signed with the image: the release says so, and goes on, as the summary vouches for it still."""
    release = await registered(world, a_release(world, "1.2.0"))
    [before] = await world.releases.evidence(release)
    (world.data.image_repo / "evidence" / f"{before.digests['sbom']}.json").write_bytes(b"{}")
    [after] = await world.releases.evidence(release)
    assert (after.missing, after.fault, after.found) == (("sbom",), "", None)
    assert world.vouching.fault(release) == ""
