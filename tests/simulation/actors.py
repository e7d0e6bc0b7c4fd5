"""What actors do: each is a verb of the library, or something that others do to its places."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import attrs
from tests.simulation.kernel import STOPPED_SECONDS
from tests.simulation.worlds import World, version_of

from emdstore.errors import EmdstoreError, InvalidTransitionError
from emdstore.executions.without_catalog import publish_execution, publish_pending_executions
from emdstore.executions.workspace import Workspace
from emdstore.ingestion.reading import content_of
from emdstore.ingestion.replay import replay
from emdstore.sets import retraction
from emdstore.sets.releasing import create_release
from emdstore.sets.repair import repair
from emdstore.sets.state import look_at_set
from emdstore.sets.transfer import transfer

if TYPE_CHECKING:
    from tests.simulation.checks import Watch
    from tests.simulation.kernel import Kernel


@attrs.frozen
class Stage:
    """What an actor finds: its workspace, the set that it is about, and what it may tell those who look on."""

    world: World
    kernel: Kernel
    workspace: Workspace
    fragment: str
    watch: Watch


def commit(stage: Stage) -> object:
    return stage.workspace.resume_execution(stage.fragment).commit_output_assets()


def commit_and_clean(stage: Stage) -> object:
    return stage.workspace.resume_execution(stage.fragment).commit_output_assets(clean_folder=True)


def publish(stage: Stage) -> object:
    return publish_execution(stage.workspace, stage.fragment)


def publish_and_clean(stage: Stage) -> object:
    return publish_execution(stage.workspace, stage.fragment, clean_folder=True)


def batch(stage: Stage) -> object:
    return stage.workspace.commit_pending_executions()


def batch_and_clean(stage: Stage) -> object:
    return stage.workspace.commit_pending_executions(clean_folder=True)


def batch_without_catalog(stage: Stage) -> object:
    return publish_pending_executions(stage.workspace)


def play_again(stage: Stage) -> object:
    return replay(stage.workspace.results, stage.workspace.catalog)


def prune(stage: Stage) -> object:
    stage.watch.pruned = True
    return replay(stage.workspace.results, stage.workspace.catalog, prune=True)


def gc(stage: Stage) -> object:
    return stage.workspace.gc_executions()


def gc_stale(stage: Stage) -> object:
    return stage.workspace.gc_executions(stale=True, unnamed=True)


def bring(stage: Stage) -> object:
    """Transfer another site's copy, which is of before the run, into the results."""
    return transfer(stage.world.mirror, stage.workspace.results)


def send(stage: Stage) -> object:
    return transfer(stage.workspace.results, stage.world.mirror)


def reingest(stage: Stage) -> object:
    return stage.workspace.reingest(stage.fragment)


def abort(stage: Stage) -> object:
    with contextlib.suppress(InvalidTransitionError):
        stage.workspace.resume_execution(stage.fragment).abort()
    return None


def recover(stage: Stage) -> object:
    return stage.workspace.recover()


def mend(stage: Stage) -> object:
    """Bring what is wrong in the results from scratch."""
    with stage.watch.alone() as alone:
        report = repair(stage.workspace.results, stage.fragment, source=stage.workspace.scratch)
    if report.ok and alone():
        stage.watch.mended(stage.fragment)
    return report


def write(stage: Stage) -> object:
    """Write the next version of the set into scratch, as a program does that still runs; not in one piece."""
    folder = stage.world.scratch / stage.fragment
    for key in sorted(stage.watch.wrote_last[stage.fragment].keys() - version_of(3).keys()):
        stage.kernel.step("program removes", key)
        with stage.kernel.at_once():
            stage.watch.removes(stage.fragment, key)
            (folder / key).unlink(missing_ok=True)
    for key, data in version_of(3).items():
        stage.kernel.step("program writes", key)
        with stage.kernel.at_once():
            if not folder.is_dir():
                return None  # what it stands in is gone
            path = folder / key
            stage.watch.writes(stage.fragment, key, data)
            staged = path.with_name(".emdstore-staging-program")
            staged.write_bytes(data)
            when = stage.kernel.files_now().timestamp()
            staged.replace(path)
            os.utime(path, (when, when))
    stage.watch.wrote_all(stage.fragment, version_of(3))
    return None


def idle(stage: Stage) -> object:
    """Let time pass, longer than a lease; who lives renews its claim meanwhile."""
    stage.kernel.step("time passes")
    stage.kernel.advance(STOPPED_SECONDS)
    return None


def lose(stage: Stage) -> object:
    """Remove the set from the results, as somebody does by mistake."""
    stage.kernel.step("operator removes", stage.fragment)
    with stage.kernel.at_once():
        stage.watch.loses(stage.fragment)
        world = stage.world
        if world.scene.results == "local":
            shutil.rmtree(world.local_results / stage.fragment, ignore_errors=True)
        else:
            for key in [*world.results.iter_keys(stage.fragment)]:
                world.results.delete(key)  # type: ignore[attr-defined]
    stage.watch.wrote()
    return None


def spoil(stage: Stage) -> object:
    """Remove a file of the set from scratch, as a clean-up by hand does."""
    stage.kernel.step("operator removes", f"a file of {stage.fragment}")
    with stage.kernel.at_once():
        for key in ("data/tas.nc", "data/pr.nc"):
            path = stage.world.scratch / stage.fragment / key
            if path.exists():
                stage.watch.spoils(stage.fragment, key)
                path.unlink()
    return None


def drop(stage: Stage) -> object:
    """Remove an artifact of the set from the results, as somebody does by mistake."""
    stage.kernel.step("operator drops", f"an artifact of {stage.fragment}")
    with stage.kernel.at_once():
        for key in ("data/tas.nc", "data/pr.nc"):
            if stage.world.results.exists(f"{stage.fragment}/{key}"):
                stage.watch.damages(stage.fragment, key)
                stage.world.results.delete(f"{stage.fragment}/{key}")  # type: ignore[attr-defined]
    return None


def damage(stage: Stage) -> object:
    """Write other bytes of the same size over artifacts of the set in the results, as a disk or a stranger does."""
    for key, data in sorted({**version_of(7), **version_of(8)}.items()):
        if key == "out.log" or not stage.world.results.exists(f"{stage.fragment}/{key}"):
            continue
        stage.kernel.step("stranger writes over", key)
        with stage.kernel.at_once():
            stage.watch.damages(stage.fragment, key)
            stage.world.put(f"{stage.fragment}/{key}", data, stage.kernel.files_now().timestamp())
    return None


def copy_bare(stage: Stage) -> object:
    """Copy another version of the set into the results with another program, which knows no records."""
    for key, data in version_of(9).items():
        stage.kernel.step("stranger copies", key)
        with stage.kernel.at_once():
            if stage.world.results.exists(f"{stage.fragment}/execution.json"):
                return None  # nobody but us writes where a set is
            stage.watch.strays(stage.fragment)
            stage.world.put(f"{stage.fragment}/{key}", data, stage.kernel.files_now().timestamp())
    return None


def read(stage: Stage) -> object:
    """Read the set, as the site and exports do, and keep what was taken for complete."""
    with stage.watch.alone() as alone:
        look = look_at_set(stage.workspace.results, stage.fragment)
        try:
            content = content_of(look)
            stage.watch.took(stage.fragment, look, [each[0] for each in content.scalars])
        except EmdstoreError:
            return None
    if alone() and look.state == "published":
        stage.watch.believed(stage.fragment)
    return content.state


def retract(stage: Stage) -> object:
    said = retraction.retract(stage.workspace.results, stage.fragment, reason="another forcing was used", by="lab")
    stage.watch.said(stage.fragment, said)
    return said


def unretract(stage: Stage) -> object:
    before = retraction.unretract(stage.workspace.results, stage.fragment, reason="it was the right one", by="lab")
    if before is not None:
        stage.watch.said(stage.fragment, retraction.last_word(stage.workspace.results, stage.fragment))
    return before


def release(stage: Stage) -> object:
    actor = stage.kernel.running()
    assert actor is not None
    made = create_release(stage.workspace.results, f"r{actor.number}", [stage.fragment], by="lab")
    stage.watch.releases(made)
    return made


ACTORS: Mapping[str, Callable[[Stage], object]] = {
    each.__name__.replace("_", "-"): each
    for each in (
        commit,
        commit_and_clean,
        publish,
        publish_and_clean,
        batch,
        batch_and_clean,
        batch_without_catalog,
        play_again,
        prune,
        gc,
        gc_stale,
        bring,
        send,
        reingest,
        abort,
        recover,
        mend,
        write,
        idle,
        lose,
        spoil,
        drop,
        damage,
        copy_bare,
        read,
        retract,
        unretract,
        release,
    )
}


WITHOUT_CLAIM = frozenset({"publish", "publish-and-clean", "batch-without-catalog", "bring", "mend"})
"""Those who write to a set without a claim of the catalog: of two at once, bytes of the late one may land."""
