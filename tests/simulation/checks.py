"""What is judged: during a run, at its end, and when all is quiet again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import msgspec
from tests.simulation.kernel import Actor, Kernel
from tests.simulation.worlds import FIRST, World, version_of

from emdstore.emds import RECORD_NAME, RETRACTION_NAME
from emdstore.errors import ClaimLostError, EmdstoreError
from emdstore.executions.transitions import TRANSITIONS
from emdstore.sets.record import ExecutionRecord, decode_record
from emdstore.sets.release import RELEASES, Release
from emdstore.sets.retraction import Retraction, decode_retraction
from emdstore.sets.state import look_at_set
from emdstore.stores.identity import is_own

_SHIPPED = ("uploaded", "failed")
_COPIERS = ("bring", "send", "mend")  # their records are those of another place, and say what was replaced there


@attrs.frozen
class Violation:
    """What is wrong: which check says so, and what a person needs to see why."""

    check: int
    message: str

    def __str__(self) -> str:
        return f"check {self.check}: {self.message}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Watch:
    """Looks on during a run, and takes notes of what a verdict needs.

    Attributes
    ----------
    wrote_last
        What a program wrote last in scratch, by set and file.
    aborted, lost, spoiled, strange, damaged
        Sets that were given up, that somebody removed from the results, removed a file of from scratch, copied into the
        results without a record, or damaged there.
    meddled
        Those of the lost, strange and damaged with which it was done while somebody was at work: what a stranger writes
        between an artifact and its record is older than the record, and believed; see R2.
    overrun
        Sets whose bytes somebody wrote who was not the last to open them: one who was halted, or has no claim.
    unopened
        Those of them that were published for the first time, which opens nothing: of two who do that at once each may
        write between the other's bytes and its record. These are older than the record then, and believed, see R2; who
        reads every byte finds out.
    opened_over_a_run
        Sets that stand open, and were opened while scratch had the run and nobody else was at work.
    lost_for_good
        Those of the lost that scratch may lack by right.
    unknown
        Sets that the catalog did not know when the run began.
    pruned
        Whether rows of what is not in results were asked to go.
    words
        What was said last of a set by who retracted it, or took that back, and was told that it is written.
    released
        The digests of records that releases name, by set.
    """

    def __init__(self, world: World, kernel: Kernel) -> None:
        self._world, self._kernel = world, kernel
        self.violations: list[Violation] = []
        self.aborted: set[str] = set()
        self.lost: set[str] = set()
        self.lost_for_good: set[str] = set()
        self.strange: set[str] = set()
        self.damaged: set[str] = set()
        self.meddled: set[str] = set()
        self.overrun: set[str] = set()
        self.unopened: set[str] = set()
        self._writers: dict[str, set[Actor]] = {}
        self._opened_by: dict[str, Actor] = {}
        self.opened_over_a_run: set[str] = set()
        self.spoiled: set[str] = set()
        self.pruned = False
        self.unknown: set[str] = set()
        self._behind: set[str] = set()
        self.records: dict[str, ExecutionRecord] = {}
        self.words: dict[str, Retraction] = {}
        self.released: dict[str, str] = {}
        self._claimed_from: dict[str, str] = {}
        self._moves: list[tuple[str, str, str, str | None, str | None]] = []
        self._standing: dict[str, bytes] = {}
        self.wrote_last: dict[str, dict[str, bytes]] = {}
        for fragment, state in zip(world.scene.fragments, world.scene.sets, strict=True):
            self.wrote_last[fragment] = dict(version_of(FIRST.get(state, 1)))
            if state == "lost":
                self.lost.add(fragment)
            if state == "unknown":
                self.unknown.add(fragment)
            if state == "behind":
                self._behind.add(fragment)
        self._standing = self._records_now()
        for fragment in world.scene.fragments:
            held = world.mirror._objects.get(f"{fragment}/{RECORD_NAME}")
            if held is not None:
                self._decoded(held.data)

    # -- what actors tell ----------------------------------------------------------------------------------------

    def writes(self, fragment: str, key: str, data: bytes) -> None:
        self.wrote_last[fragment][key] = data

    def removes(self, fragment: str, key: str) -> None:
        self.spoiled.add(fragment)  # until the program has come to its end
        self.wrote_last[fragment].pop(key, None)

    def wrote_all(self, fragment: str, files: Mapping[str, bytes]) -> None:
        """Take note that a program has come to its end: all is there, if nobody has removed anything meanwhile."""
        if self.wrote_last[fragment] == files:
            self.spoiled.discard(fragment)

    def damages(self, fragment: str, key: str) -> None:
        self.damaged.add(fragment)
        if self._are_others():
            self.meddled.add(fragment)
        path = self._world.scratch / fragment / key
        if self._are_others() or not path.exists():
            self.wrote_last[fragment].pop(key, None)  # scratch may be removed by right, or was

    def _are_others(self) -> bool:
        current = self._kernel.current or self._kernel.apart
        return any(each is not current and each.steps and not each.is_over for each in self._kernel.actors)

    @contextmanager
    def alone(self) -> Iterator[Callable[[], bool]]:
        """Give a function that tells whether nobody else took a step inside the block."""
        began = sum(each.steps for each in self._kernel.actors if each is not self._kernel.current)
        ended = -1

        def was_alone() -> bool:
            return ended == began

        yield was_alone
        ended = sum(each.steps for each in self._kernel.actors if each is not self._kernel.current)

    def mended(self, fragment: str) -> None:
        """Judge a set that was repaired, with nobody beside."""
        with self._kernel.at_once():
            wrong = _wrong_of(self._world, self, fragment)
        if wrong:
            self._blame(2, f"{fragment} was repaired, and {wrong[0]}")

    def believed(self, fragment: str) -> None:
        """Judge a set that a reader took for complete, with nobody beside."""
        with self._kernel.at_once():
            wrong = _wrong_of(self._world, self, fragment)
        if missing := [each for each in wrong if each.endswith("is not there")]:
            self._blame(9, f"a reader took {fragment} for complete, and {missing[0]}")

    def spoils(self, fragment: str, key: str) -> None:
        self.spoiled.add(fragment)
        self.wrote_last[fragment].pop(key, None)  # it may have been dropped before

    def strays(self, fragment: str) -> None:
        self.strange.add(fragment)
        if self._are_others():
            self.meddled.add(fragment)

    def said(self, fragment: str, word: Retraction | None) -> None:
        """Take note of what was said of a set, and that it was written; its later words count."""
        if fragment in self.lost & self.meddled:
            return  # it may have gone with the set, right after it was written
        if word is not None and (fragment not in self.words or self.words[fragment].at < word.at):
            self.words[fragment] = word

    def releases(self, release: Release) -> None:
        """Take note of a release, and judge whether it names what is there; not while somebody else is at work.

        Whoever has asked for releases already, and is halted before the write, does not know of one that is made then.
        """
        if self._are_others():
            return
        for each in release.sets:
            standing = self._standing.get(each.fragment)
            if standing is not None and sha256(standing) == each.record:
                self.released[each.fragment] = each.record
            elif each.fragment not in self.lost:  # an operator may remove it while the release is told of
                self._blame(4, f"the release {release.name} names a record of {each.fragment} that is not there")

    def loses(self, fragment: str) -> None:
        self.lost.add(fragment)
        self.words.pop(fragment, None)
        self.released.pop(fragment, None)
        if self._are_others():
            self.meddled.add(fragment)
        if self._are_others() or not (self._world.scratch / fragment / RECORD_NAME).exists():
            self.lost_for_good.add(fragment)  # scratch may be removed by right, or was

    def took(self, fragment: str, look: Any, values: list[float | None]) -> None:
        """Judge what a reader took for complete."""
        record = look.record
        if record is None or look.state != "published":
            return
        if record.state != "published":
            self._blame(9, f"a reader took {fragment} for complete, and its record says {record.state}")
        named = {each.key: each.sha256 for each in record.artifacts}
        wanted = _value_by_digest(named.get("diagnostic.json"))
        if values != [wanted]:
            self._blame(9, f"a reader took values {values} of {fragment} for complete; its record names {wanted}")

    # -- what seams tell -----------------------------------------------------------------------------------------

    def begun(self) -> None:
        """Forget changes of whoever was in a transaction and did not come to its end."""
        self._moves.clear()

    def moved(self, fragment: str, before: str, after: str, owner: str | None, next_owner: str | None) -> None:
        """Take note of a change of status or owner that is not committed yet."""
        self._moves.append((fragment, before, after, owner, next_owner))

    def committed(self) -> None:
        """Judge changes of status and owner that now are for all to see."""
        moves, self._moves = self._moves, []
        who, actor = self._who(), self._kernel.running()
        for fragment, before, after, owner, next_owner in moves:
            if owner is not None and next_owner is None and actor is not None and f":{actor.process}:" not in owner:
                self._blame(6, f"{who} gave back the claim of {fragment} that {owner} had")
            if after == "aborted":
                self.aborted.add(fragment)
            # Rows follow the record there; and a claim under which nothing was changed gives back what was.
            follows_record = who.startswith(("play-again", "prune", "healing replay"))
            follows_record |= before == "pending_upload" and "pending_upload" in TRANSITIONS[after]
            if before != after and after not in TRANSITIONS.get(before, ()) and not follows_record:
                self._blame(4, f"{who} moved {fragment} from {before} to {after}, which no table allows")
            if before != after == "pending_upload":
                self._claimed_from[fragment] = before
            if before != after and after in _SHIPPED and fragment not in self.lost:
                record = self._standing.get(fragment) or self._world.held().get(f"{fragment}/{RECORD_NAME}")
                gives_back = after == self._claimed_from.get(fragment) and is_bare(self._world, fragment)
                if record is None and not gives_back:
                    self._blame(3, f"{who} called {fragment} {after}, and there is no record of it")

    def wrote(self, verb: str = "", key: str = "", actor: Actor | None = None) -> None:
        """Judge the records that are in results now, if one may have changed."""
        actor = actor or self._kernel.running()
        if key and not key.endswith(RECORD_NAME):
            if verb == "delete":
                self._removed_artifact(actor, key)
            elif not key.endswith(RETRACTION_NAME):
                self._wrote_artifact(actor, key)
            return
        now = self._records_now()
        for fragment, data in now.items():
            before = self._standing.get(fragment)
            if data != before:
                self._judge_record(fragment, before, data)
                self._wrote_record(actor, fragment, data)
        self._standing = now

    def _wrote_artifact(self, actor: Actor | None, key: str) -> None:
        """Take note if two write a set at once, which nobody may do who has a claim and was not halted."""
        fragment = next((each for each in self._world.scene.fragments if key.startswith(each + "/")), None)
        if actor is None or fragment is None:
            return
        writers = self._writers.setdefault(fragment, set())
        others = {each for each in writers if each is not actor and not each.is_over}
        opened_by = self._opened_by.get(fragment) if fragment in self._standing else None
        if opened_by not in (None, actor) and not self._is_as_recorded(fragment, key):
            others.add(opened_by)
        writers.add(actor)
        if not others:
            return
        self.overrun.add(fragment)
        if fragment not in self._standing:
            self.unopened.add(fragment)
        if not any(each.may_overrun for each in (actor, *others)):
            names = " and ".join(sorted(each.name for each in (actor, *others)))
            self._blame(6, f"{names} write {fragment} at once, though each has a claim")

    def _removed_artifact(self, actor: Actor | None, key: str) -> None:
        """Judge that a file was removed from results: no published record may name it.

        Whoever looks at its claim and is halted between that and the removal does not know of a later publication, nor
        of one without a claim.
        """
        fragment = next((each for each in self._world.scene.fragments if key.startswith(each + "/")), None)
        record = None if fragment is None else self._decoded(self._standing.get(fragment, b""))
        if actor is None or fragment is None or record is None or record.state != "published":
            return
        if all(f"{fragment}/{each.key}" != key for each in record.artifacts):
            return
        writer = self._opened_by.get(fragment)
        if actor.stopped_at == actor.steps or actor.was_disturbed or (writer is not None and not writer.has_claims):
            self.overrun.add(fragment)
        else:
            self._blame(2, f"{self._who()} removed {key}, which the published record names")

    def _wrote_record(self, actor: Actor | None, fragment: str, data: bytes) -> None:
        record = self._decoded(data)
        if actor is None or record is None:
            return
        self._opened_by[fragment] = actor
        self.opened_over_a_run.discard(fragment)
        if record.state != "publishing":
            self._writers.get(fragment, set()).discard(actor)
        elif not self._are_others() and (self._world.scratch / fragment / RECORD_NAME).exists():
            self.opened_over_a_run.add(fragment)
        # A later publication takes the place of what was; what is in scratch stays, unless somebody may have proved
        # already that it was published.
        if actor.name == "bring" and fragment in self._behind and record.state == "publishing":
            scratch = {} if self._are_others() else self._world.in_scratch()
            for key, last in list(self.wrote_last[fragment].items()):
                if scratch.get(f"{fragment}/{key}") != last:
                    self.wrote_last[fragment].pop(key, None)  # it may have been dropped before

    def cut_power(self, cut: Callable[[], object]) -> None:
        """Cut the power, and judge what is left; what a program wrote and the disk forgot is nobody's fault."""
        scratch, was_standing = self._world.in_scratch(), self._records_now()
        cut()
        left, self._standing = self._world.in_scratch(), self._records_now()
        for fragment, files in self.wrote_last.items():
            for key, data in list(files.items()):
                name = f"{fragment}/{key}"
                if left.get(name) not in (data, scratch.get(name)):  # gone, or older bytes are back
                    self.spoiled.add(fragment)
                    del files[key]
        for fragment, digest in list(self.released.items()):
            if sha256(self._standing.get(fragment, b"")) != digest:
                del self.released[fragment]  # whether its record should be there is judged below
        for fragment, row in rows_of(self._world).items():
            data, writer = was_standing.get(fragment), self._opened_by.get(fragment)
            if writer is not None and writer.name == "bring":
                continue  # a transfer that is not asked to flush leaves that to the system
            if data is not None and row["record_digest"] == sha256(data) and self._standing.get(fragment) != data:
                self._blame(3, f"{fragment} is called {row['status']}, and its record was lost when the power was cut")

    def _is_as_recorded(self, fragment: str, key: str) -> bool:
        record = self._decoded(self._standing.get(fragment, b""))
        named = {} if record is None else {f"{fragment}/{each.key}": each.sha256 for each in record.artifacts}
        data = self._world.held().get(key)
        return data is not None and named.get(key) == sha256(data)

    def _judge_record(self, fragment: str, before: bytes | None, data: bytes) -> None:
        record = self._decoded(data)
        if record is None:
            self._blame(2, f"{self._who()} wrote a record of {fragment} that cannot be read")
            return
        old = None if before is None else self._decoded(before)
        # An open set may be brought back from a copy of what it was, or of later; its writer finds out.
        opened = None if old is None or old.state != "publishing" else self.records.get(old.replaces or "")
        may_be_back = old is not None and old.state == "publishing"
        may_be_back &= opened is None or record.generation >= opened.generation
        if old is not None and not may_be_back and record.generation < old.generation:
            self._blame(
                4,
                f"{self._who()} put a record of generation {record.generation} of {fragment} in the place of one of "
                f"generation {old.generation}",
            )
        if old is not None and not self._who().startswith(_COPIERS):
            replaced = old.replaces if old.state == "publishing" else sha256(before or b"")
            if record.replaces != replaced and record.artifacts != old.artifacts:
                self._blame(4, f"{self._who()} put a record of {fragment} in the place of one that it had not seen")
        was_published = old is not None and (
            old.state == "published" or (opened is not None and opened.state == "published")
        )
        if was_published and record.state in ("failed", "incomplete"):
            self._blame(4, f"{self._who()} made the published set {fragment} {record.state}")

    def _records_now(self) -> dict[str, bytes]:
        world = self._world
        found = {}
        for fragment in world.scene.fragments:
            key = f"{fragment}/{RECORD_NAME}"
            if world.scene.results == "memory":
                held = world._memory._objects.get(key)
                if held is not None:
                    found[fragment] = held.data
            else:
                try:
                    found[fragment] = (world.local_results / key).read_bytes()
                except OSError:
                    continue
        for data in found.values():
            self._decoded(data)
        return found

    def _decoded(self, data: bytes) -> ExecutionRecord | None:
        digest = sha256(data)
        if digest not in self.records:
            try:
                self.records[digest] = decode_record(data)
            except EmdstoreError:
                return None
        return self.records[digest]

    def _who(self) -> str:
        actor = self._kernel.running()
        return "somebody" if actor is None else f"{actor.name} (step {actor.steps})"

    def _blame(self, check: int, message: str) -> None:
        self.violations.append(Violation(check, message))


# -- at the end --------------------------------------------------------------------------------------------------------


def errors_of(actors: list[Actor]) -> Iterator[Violation]:
    """Check 8: an actor ends, and if by an error, then by one of ours; check 6: who lives keeps its claim."""
    for actor in actors:
        lives = not actor.was_stopped and not actor.was_disturbed
        if lives and isinstance(actor.error, ClaimLostError) and "later claim" not in str(actor.error):
            yield Violation(6, f"{actor.name} lost its claim, though it lives and nothing failed: {actor.error}")
        if actor.error is not None and not isinstance(actor.error, EmdstoreError):
            yield Violation(8, f"{actor.name} ended with {type(actor.error).__name__}: {actor.error}")


def kept_claims(world: World, actors: list[Actor]) -> Iterator[Violation]:
    """Check 6: who has come to its end has given its claims back, unless the catalog failed it."""
    rows = rows_of(world)
    for actor in actors:
        if actor.state == "done" and not actor.lost_catalog:
            for fragment, row in rows.items():
                if row["status"] == "pending_upload" and f":{actor.process}:" in (row["owner"] or ""):
                    yield Violation(6, f"{actor.name} has ended, and still claims {fragment}")


def lost_bytes(world: World, watch: Watch) -> Iterator[Violation]:
    """Check 1: what a program wrote and bundles name lies in scratch or in results.

    Known to be open, as artifacts are not put by comparison: a writer who was halted, or has no claim, and goes on when
    another has published and scratch was removed by proof, overwrites what was published. Readers have to notice.
    """
    held, scratch = world.held(), world.in_scratch()
    for fragment, files in watch.wrote_last.items():
        if fragment in watch.lost_for_good or fragment in watch.aborted:
            continue
        for key, data in files.items():
            name = f"{fragment}/{key}"
            if held.get(name) != data and scratch.get(name) != data:
                published = held.get(f"{fragment}/{RECORD_NAME}")
                record = None if published is None else watch._decoded(published)
                named = () if record is None else record.artifacts
                was_published = any(each.key == key and each.sha256 == sha256(data) for each in named)
                every = fragment in watch.unopened
                may_be = fragment in watch.overrun and was_published
                if may_be and look_at_set(world.results, fragment, every_digest=every).state == "changed":
                    continue
                yield Violation(1, f"the last bytes of {name} are neither in scratch nor in results")


def broken_sets(world: World, watch: Watch, *, committed: bool = False) -> Iterator[Violation]:
    """Check 2: what a record names that says published is there, with its digest.

    Bytes of a writer who was halted, or has no claim, may land late, and strangers damage what they like. Readers
    notice then, and the next commit mends it from scratch, if scratch has it still and no release names it. Only what
    two wrote who published it for the first time at once may be hidden from readers, and no bundle of it.
    """
    scratch, released = world.in_scratch(), released_now(world)
    for fragment in world.scene.fragments:
        if fragment in watch.meddled:
            continue
        wrong = _wrong_of(world, watch, fragment)
        if not wrong:
            continue
        lacks = f"{fragment}/{RECORD_NAME}" not in scratch or fragment in watch.spoiled | watch.aborted | released
        is_hidden = fragment in watch.unopened and not any(each.partition(" ")[0].endswith(".json") for each in wrong)
        may_be = is_hidden or (fragment in watch.overrun | watch.damaged and (lacks or not committed))
        if not may_be or look_at_set(world.results, fragment, every_digest=is_hidden).state != "changed":
            yield Violation(2, f"{fragment} is called published, and {wrong[0]}")


def open_without_a_run(world: World, watch: Watch) -> Iterator[Violation]:
    """Check 6: scratch keeps the run of a set that stands open, so that a commit can bring it to its end."""
    scratch, held = world.in_scratch(), world.held()
    for fragment in watch.opened_over_a_run - watch.aborted:
        record = watch._decoded(held.get(f"{fragment}/{RECORD_NAME}", b""))
        if record is not None and record.state == "publishing" and f"{fragment}/{RECORD_NAME}" not in scratch:
            yield Violation(6, f"{fragment} stands open, and its run was removed from scratch")


def is_bare(world: World, fragment: str) -> bool:
    """Tell whether a set lies in the results without a record; its metrics come last of its bytes."""
    held = world.held()
    return f"{fragment}/{RECORD_NAME}" not in held and f"{fragment}/diagnostic.json" in held


def _wrong_of(world: World, watch: Watch, fragment: str) -> list[str]:
    """Return what is not as the record says, of a set whose record says published."""
    held = world.held()
    data = held.get(f"{fragment}/{RECORD_NAME}")
    record = None if data is None else watch._decoded(data)
    wrong = []
    for each in () if record is None or record.state != "published" else record.artifacts:
        there = held.get(f"{fragment}/{each.key}")
        if there is None:
            wrong.append(f"{each.key} is not there")
        elif sha256(there) != each.sha256:
            wrong.append(f"{each.key} has other bytes")
    return wrong


def broken_words(world: World, watch: Watch) -> Iterator[Violation]:
    """Check 4: what was said of a set, and what releases name, stays until somebody says otherwise by name."""
    held = world.held()
    for fragment, word in watch.words.items():
        data = held.get(f"{fragment}/{RETRACTION_NAME}")
        there = _word_in(data)
        if there is None or there.at < word.at:
            yield Violation(4, f"the {'' if word.retracted else 'end of the '}retraction of {fragment} is gone")
    for fragment, digest in watch.released.items():
        if sha256(held.get(f"{fragment}/{RECORD_NAME}", b"")) != digest:
            yield Violation(4, f"the record of {fragment} that a release names is not there any more")


def _word_in(data: bytes | None) -> Retraction | None:
    """Return what a retraction says; None without one, or if it cannot be read."""
    if data is None:
        return None
    try:
        return decode_retraction(data)
    except EmdstoreError:
        return None


def released_now(world: World) -> set[str]:
    """Return the sets that stand as some release names them: what is in scratch does not take their place."""
    held = world.held()
    # One that a power cut has torn names nothing; nobody was told that it is written.
    releases = [msgspec.json.decode(data) for key, data in held.items() if key.startswith(f"{RELEASES}/") and data]
    named = {(each["fragment"], each["record"]) for release in releases for each in release["sets"]}
    return {each for each, digest in named if sha256(held.get(f"{each}/{RECORD_NAME}", b"")) == digest}


def wrong_words(world: World, watch: Watch, rows: Rows) -> Iterator[Violation]:
    """Check 5: after a replay the rows say of each set that is whole whether it is retracted."""
    held = world.held()
    for fragment, row in rows.items():
        data = held.get(f"{fragment}/{RECORD_NAME}")
        if data is None or row["record_digest"] != sha256(data) or _wrong_of(world, watch, fragment):
            continue
        said = held.get(f"{fragment}/{RETRACTION_NAME}")
        word = _word_in(said)
        if said is not None and word is None:
            continue  # the power was cut while it was written, and nobody was told that it is
        if (row["retracted"] is not None) != (word is not None and word.retracted):
            yield Violation(5, f"the rows of {fragment} do not say whether it is retracted as its folder does")


Rows = Mapping[str, Mapping[str, Any]]


def wrong_rows(world: World, watch: Watch, rows: Rows, up_to_date: Container[str] = ()) -> Iterator[Violation]:
    """Check 5: rows are of one record that was published; of some sets, of the one that is there."""
    held = world.held()
    for fragment, row in rows.items():
        status, digest = row["status"], row["record_digest"]
        if row["state"] == "bare" and fragment not in watch.strange and len(row["artifacts"]) < len(version_of(1)):
            yield Violation(5, f"the rows of {fragment} are of a set that was still being shipped")
        if row["values"] == [9.0] and fragment in watch.strange and fragment not in watch.unknown and not watch.pruned:
            yield Violation(5, f"the rows of {fragment} are of a set without a record, and the execution is ours")
        data = held.get(f"{fragment}/{RECORD_NAME}")
        if digest is not None and row["state"] != "bare" and fragment in watch.wrote_last:
            record = watch.records.get(digest)
            if record is None:
                yield Violation(5, f"the rows of {fragment} are of a record that never was there")
                continue
            if record.state == "publishing":
                yield Violation(5, f"the rows of {fragment} are of a set that stood open")
            named = {each.key: each.sha256 for each in record.artifacts}
            if row["artifacts"] != named:
                yield Violation(5, f"the artifact rows of {fragment} are not those of their record")
            wanted = [_value_by_digest(named.get("diagnostic.json"))]
            if record.state == "published" and row["values"] != wanted:
                yield Violation(5, f"the values of {fragment} are {row['values']}; the record names {wanted}")
        if fragment in up_to_date and data is not None and fragment not in watch.strange:
            record = watch._decoded(data)
            # What was removed from results and published again without the catalog may be kept out.
            may_be_kept = fragment in watch.lost and record is not None and record.generation <= row["generation"]
            is_whole = record is not None and all(
                (there := held.get(f"{fragment}/{each.key}")) is not None and sha256(there) == each.sha256
                for each in record.artifacts
            )  # else readers call it changed, and leave the rows
            is_published = record is not None and record.state == "published"
            if is_published and is_whole and digest != sha256(data) and not may_be_kept:
                what = "none" if digest is None else "another"
                yield Violation(5, f"{fragment} is published, and its rows are of {what} record ({status})")


def rows_of(world: World) -> dict[str, dict[str, Any]]:
    """Return what the catalog holds of each execution."""
    with world.database() as connection:
        found = {
            number: {
                "fragment": fragment,
                "status": status,
                "record_digest": digest,
                "state": state,
                "owner": owner,
                "generation": generation,
                "retracted": retracted,
                "artifacts": {},
                "values": [],
            }
            for number, fragment, status, digest, state, owner, generation, retracted in connection.execute(
                "SELECT id, fragment, status, record_digest, state, owner, generation, retracted_at FROM execution "
                "ORDER BY fragment"
            )
        }
        for number, key, digest in connection.execute("SELECT execution_id, key, sha256 FROM artifact ORDER BY key"):
            found[number]["artifacts"][key] = digest
        for number, value in connection.execute(
            "SELECT execution_id, value FROM scalar_value ORDER BY execution_id, position"
        ):
            found[number]["values"].append(value)
    return {row["fragment"]: row for row in found.values()}


def unshipped(world: World, watch: Watch, rows: Rows) -> Iterator[Violation]:
    """Check 6: when all is quiet and was committed once more, nothing waits and nothing is claimed."""
    scratch, released = world.in_scratch(), released_now(world)
    for fragment in world.scene.fragments:
        row = rows.get(fragment)
        if fragment in watch.aborted or row is None or f"{fragment}/{RECORD_NAME}" not in scratch:
            continue
        if row["owner"] is not None:
            yield Violation(6, f"{fragment} is still claimed by {row['owner']} when all is quiet")
        if row["status"] == "uploaded" or fragment in released:
            continue
        record = watch._decoded(world.held().get(f"{fragment}/{RECORD_NAME}", b""))
        said = None if record is None else record.state
        # What lacks files is published as what it is, and never in the place of a complete publication, also without a
        # record: that stays, or stays open, if its replacement was begun before the files were gone.
        wanted = ("failed", "incomplete") if row["status"] == "failed" else ("published", "publishing")
        if fragment not in watch.spoiled or not (said in wanted or is_bare(world, fragment)):
            yield Violation(6, f"{fragment} stays {row['status']}, though it was committed when all was quiet")


def state_of(world: World) -> Mapping[str, object]:
    """Return what a second quiet round may not change (check 7)."""
    return {
        "results": {key: sha256(data) for key, data in world.held().items() if not is_own(key)},
        "rows": rows_of(world),
    }


def _value_by_digest(digest: str | None) -> float | None:
    return _VALUES.get(digest)


_VALUES: dict[str | None, float] = {
    sha256(version_of(number)["diagnostic.json"]): json.loads(version_of(number)["diagnostic.json"])["RESULTS"][
        "global"
    ]["bias"]
    for number in range(10)
}
