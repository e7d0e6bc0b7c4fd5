"""Bad input: nothing is lost, nothing outside the fragment is touched, and the message names file and place."""

from __future__ import annotations

import errno
import json
import os
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import stamina
from tests.children import answer_from_mount
from tests.servers.s3 import FaultProxy, S3Server
from tests.sets.examples import (
    CURATED,
    FAILURE,
    FRAGMENT,
    SUCCESS,
    encode,
    held,
    metric_bundle,
    nonzero,
    one_series,
    output_bundle,
    promote,
    put,
    rows_of,
    small_run,
)

from emdstore.catalog import Catalog
from emdstore.errors import (
    BundleError,
    SourceChangedError,
    StoreAccessError,
    StoreError,
    StoreUnavailableError,
)
from emdstore.ingestion.replay import ingest, replay
from emdstore.sets.decision import resolve_status
from emdstore.sets.materialize import materialize_outputs
from emdstore.sets.outcome import MaterializeOutcome
from emdstore.stores import InMemoryArtifactStore, LocalArtifactStore, ReadOnlyStore, S3ArtifactStore
from emdstore.testing import RecordingStore

SECRET = b"nobody who promotes a run may read this"


def everything_in(folder: Path) -> dict[str, tuple[bytes | str, int]]:
    """Return every file and link, with content and time, links not followed."""
    found: dict[str, tuple[bytes | str, int]] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path)] = (os.readlink(path), path.lstat().st_mtime_ns)
        elif path.is_file():
            found[str(path)] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


@attrs.frozen
class Site:
    """A scratch folder with a run in it, an empty results folder, and something next to them that is none of it."""

    root: Path

    @property
    def scratch(self) -> LocalArtifactStore:
        return LocalArtifactStore(self.root / "outside" / "scratch")

    @property
    def results(self) -> LocalArtifactStore:
        return LocalArtifactStore(self.root / "results")

    def materialize(self, result: Any = SUCCESS) -> MaterializeOutcome:
        """Promote, and prove that neither scratch nor anything beside it changed, nor went where it should not."""
        before = everything_in(self.root / "outside")
        outcome = materialize_outputs(result, source=self.scratch, dest=self.results, fragment=FRAGMENT)
        assert everything_in(self.root / "outside") == before
        assert {path.name for path in self.root.iterdir()} <= {"outside", "results", "catalog.db"}
        assert SECRET not in held(self.results).values()
        return outcome


@pytest.fixture
def site(tmp_path: Path) -> Site:
    site = Site(tmp_path / "site")
    put(site.scratch, small_run())
    (site.root / "outside/secret.txt").write_bytes(SECRET)
    (site.root / "outside/folder").mkdir()
    (site.root / "outside/folder/secret.png").write_bytes(SECRET)
    return site


# -- names -------------------------------------------------------------------------------------------------------------

REJECTED = {
    "up": ("../secret.txt", "outside the fragment"),
    "down and up": ("plots/../../secret.txt", "outside the fragment"),
    "up and back": ("../scratch/index.html", "outside the fragment"),
    "far up": ("../" * 40 + "etc/passwd", "outside the fragment"),
    "absolute": ("/etc/passwd", "absolute path of another place"),
    "absolute, nearby": ("{outside}/secret.txt", "absolute path of another place"),
    "absolute, inside and up": ("{scratch}/../secret.txt", "outside the fragment"),
    "a neighbour's prefix": ("{scratch}-2/index.html", "absolute path of another place"),
    "backslashes": ("..\\secret.txt", "backslash"),
    "NUL": ("index.html\0.png", "control character"),
    "line break": ("index\n.html", "control character"),
    "empty": ("", "not a file"),
    "the fragment": ("plots/..", "not a file"),
    "too long": ("x" * 300, "longer than 255"),
    "staging": (".emdstore-0123", "unfinished"),
    "the record": ("plots/../execution.json", "record"),
}


@pytest.mark.parametrize("kind", REJECTED)
@pytest.mark.parametrize("section", ["plots", "html"])
def test_a_name_that_leads_out_is_rejected_and_named(site: Site, kind: str, section: str) -> None:
    name, reason = REJECTED[kind]
    name = name.replace("{outside}", str(site.root / "outside")).replace("{scratch}", str(site.scratch.root))
    others = {"plots": ["plots/map (°C).png"], "data": ["data/tas.nc"], "html": ["index.html"]}
    put(site.scratch, {"output.json": encode(output_bundle(**others | {section: [*others[section], name]}))})
    outcome = site.materialize()
    assert outcome.artifacts_rejected == (name,)
    (warning,) = outcome.warnings
    assert (repr(name) in warning.message, reason in warning.message) == (True, True)
    assert warning.place == f'$.{section}["{section} 1"].filename'
    assert set(held(site.results)) == set(CURATED)
    decision = resolve_status(SUCCESS, outcome)
    assert (decision.status, decision.failure, decision.dirty) == ("failed", "result", True)


LITERAL = (
    "%2e%2e/secret.txt",
    "..%2fsecret.txt",
    "%2Fetc%2Fpasswd",
    "．．/secret.txt",
    "..\u2215secret.txt",
    "‥/secret.txt",
    "..\u200b/secret.txt",
    "~/secret.txt",
    "$HOME/secret.txt",
    "file:///etc/passwd",
    "plots/ma\u0301p.png",
    " ../secret.txt",
    "... /secret.txt",
)


@pytest.mark.parametrize("name", LITERAL)
def test_a_name_is_taken_literally_whatever_it_looks_like(site: Site, name: str) -> None:
    put(site.scratch, {"output.json": encode(output_bundle(plots=[name])), "plots/máp.png": b"composed"})
    key = name.replace("///", "/")
    assert site.materialize().artifacts_missing == (key,)
    put(site.scratch, {key: b"of this very name"})
    outcome = site.materialize()
    assert outcome.artifacts_missing == outcome.artifacts_rejected == ()
    assert site.results.read_bytes(key) == b"of this very name"


@pytest.mark.parametrize("name", ["../out.json", "/etc/passwd", "execution.json", ""])
@pytest.mark.parametrize("field", ["metric_bundle_filename", "output_bundle_filename", "series_filename"])
def test_a_result_whose_bundle_leads_out_is_rejected_too(site: Site, field: str, name: str) -> None:
    result = attrs.evolve(SUCCESS, **{field: name})
    outcome = site.materialize(result)
    assert outcome.artifacts_rejected == (name,)
    assert resolve_status(result, outcome).failure == "result"


# -- links and folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["plots/map (°C).png", "diagnostic.json", "output.json", "series.json"])
def test_a_link_that_leads_out_is_not_followed(site: Site, key: str) -> None:
    path = site.scratch.root / key
    path.unlink()
    path.symlink_to(site.root / "outside/secret.txt")
    outcome = site.materialize()
    assert outcome.artifacts_rejected == (key,)
    assert not site.results.exists(key)
    assert resolve_status(SUCCESS, outcome).failure == "result"


def test_a_folder_that_is_a_link_out_is_not_followed(site: Site) -> None:
    put(site.scratch, {"output.json": encode(output_bundle(plots=["more/secret.png"]))})
    (site.scratch.root / "more").symlink_to(site.root / "outside/folder")
    assert site.materialize().artifacts_rejected == ("more/secret.png",)


def test_a_log_that_is_a_link_out_is_no_log(site: Site) -> None:
    (site.scratch.root / "out.log").unlink()
    (site.scratch.root / "out.log").symlink_to(site.root / "outside/secret.txt")
    outcome = site.materialize()
    assert (outcome.log_missing, outcome.artifacts_rejected) == (True, ("out.log",))
    assert held(site.results) == {}


def test_a_link_within_the_fragment_is_followed(site: Site) -> None:
    (site.scratch.root / "index.html").unlink()
    (site.scratch.root / "index.html").symlink_to("climate_data/working.nc")
    assert site.materialize().artifacts_rejected == ()
    assert site.results.read_bytes("index.html") == b"not part of the set"


def test_nothing_is_written_through_a_link_in_the_results(site: Site) -> None:
    (site.results.root / "data").mkdir(parents=True)
    (site.results.root / "data/tas.nc").symlink_to(site.root / "outside/secret.txt")
    (site.results.root / "plots").symlink_to(site.root / "outside/folder")
    outcome = site.materialize()
    arrived = {each.key for each in outcome.artifacts}
    assert {"plots/map (°C).png", "data/tas.nc"}.isdisjoint(arrived)
    assert set(CURATED) - arrived == {"plots/map (°C).png", "data/tas.nc"}
    assert resolve_status(SUCCESS, outcome).status != "uploaded"


@pytest.mark.parametrize("result", [SUCCESS, FAILURE])
def test_a_directory_where_the_log_should_be_is_no_log(site: Site, result: Any) -> None:
    (site.scratch.root / "out.log").unlink()
    (site.scratch.root / "out.log").mkdir()
    outcome = site.materialize(result)
    assert outcome.log_missing
    assert "'out.log'" in outcome.warnings[0].message
    assert held(site.results) == {}
    assert resolve_status(result, outcome).failure == "system"


def test_a_directory_where_an_artifact_should_be_is_missing(site: Site) -> None:
    for name in ("diagnostic.json", "index.html"):
        (site.scratch.root / name).unlink()
        (site.scratch.root / name).mkdir()
    assert site.materialize().artifacts_missing == ("diagnostic.json", "index.html")


def test_a_pipe_in_place_of_a_plot_is_missing_and_nobody_waits(site: Site) -> None:
    (site.scratch.root / "index.html").unlink()
    os.mkfifo(site.scratch.root / "index.html")
    outcome = materialize_outputs(SUCCESS, source=site.scratch, dest=site.results)
    assert outcome.artifacts_missing == ("index.html",)


# -- bundles -----------------------------------------------------------------------------------------------------------

GOOD = encode(metric_bundle())
ONE = metric_bundle({"global": {"bias": 0.5}})


def with_results(results: object) -> bytes:
    return encode(ONE | {"RESULTS": results})


def with_dimensions(**changes: object) -> bytes:
    return encode(ONE | {"DIMENSIONS": ONE["DIMENSIONS"] | changes})


METRIC: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "the file is empty"),
    "blank": (b" \n", "the file is empty"),
    "cut off": (GOOD[: len(GOOD) // 2], "line 1"),
    "not UTF-8": (GOOD.replace(b"arctic", b"\xe4rctic"), "not UTF-8, see byte"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not UTF-8"),
    "byte-order mark": (b"\xef\xbb\xbf" + GOOD, "byte-order mark"),
    "a list": (b"[]", "at $"),
    "boolean leaf": (with_results({"global": {"bias": True}}), "$.RESULTS.global.bias"),
    "text leaf": (with_results({"global": {"bias": "0.5"}}), "$.RESULTS.global.bias"),
    "object leaf": (with_results({"global": {"bias": {}}}), "$.RESULTS.global.bias"),
    "list leaf": (with_results({"global": {"bias": [1]}}), "$.RESULTS.global.bias"),
    "missing level": (with_results({"global": 0.5}), "$.RESULTS.global"),
    "undeclared outer value": (with_results({"arctic": {"bias": 0.5}}), "$.RESULTS"),
    "no structure": (encode({"DIMENSIONS": {}, "RESULTS": {}}), "json_structure"),
    "structure is text": (with_dimensions(json_structure="region"), "$.DIMENSIONS.json_structure"),
    "structure names a stranger": (with_dimensions(json_structure=["region", "metric", "season"]), "each season"),
    "structure leaves one out": (with_dimensions(json_structure=["region"]), "a value is a number or null"),
    "structure names one twice": (with_dimensions(json_structure=["region", "region"]), "twice"),
    "no results": (encode({"DIMENSIONS": ONE["DIMENSIONS"]}), "RESULTS"),
    "1,000 deep": (with_results({}).replace(b'"RESULTS": {', b'"RESULTS": {"x": ' + b"[" * 1000 + b"]" * 1000), "deep"),
    "100,000 deep": (b"[" * 100_000, "deep"),
    "50 MB and cut off": (GOOD[:-1] + b', "NOTES": "' + b"x" * 50_000_000, "truncated"),
}


@pytest.mark.parametrize("kind", METRIC)
def test_a_metric_bundle_that_is_none_is_kept_and_named_and_not_ingested(
    site: Site, kind: str, catalog: Catalog
) -> None:
    data, place = METRIC[kind]
    put(site.scratch, {"diagnostic.json": data})
    before = everything_in(site.scratch.root)
    outcome, record = promote(SUCCESS, site.scratch, site.results)
    assert everything_in(site.scratch.root) == before
    (problem,) = outcome.artifacts_unreadable
    assert problem.key == "diagnostic.json"
    assert isinstance(problem.error, BundleError)
    assert "diagnostic.json" in str(problem.error)
    assert place in str(problem.error)
    assert set(held(site.results, FRAGMENT)) == {*CURATED, "execution.json"}
    assert site.results.read_bytes(f"{FRAGMENT}/diagnostic.json") == data
    assert (record.status, record.failure, record.unreadable) == ("failed", "result", ("diagnostic.json",))
    assert ingest(site.results, FRAGMENT, catalog).scalars == 0
    assert catalog.execution(FRAGMENT).failure == "result"


@pytest.mark.parametrize("kind", [kind for kind in METRIC if "50 MB" not in kind])
def test_a_bare_tree_with_such_a_bundle_is_unreadable_and_its_neighbours_are_not(kind: str, catalog: Catalog) -> None:
    data, place = METRIC[kind]
    results = put(InMemoryArtifactStore(), small_run(diagnostic=data), FRAGMENT)
    put(results, small_run(), "pmp/x/y/1")
    report = replay(results, catalog)
    assert {each.fragment: each.state for each in report.outcomes} == {FRAGMENT: "unreadable", "pmp/x/y/1": "ingested"}
    assert place in str(report.failures[0].error)


OTHERS: dict[str, tuple[str, bytes, str]] = {
    "output, empty": ("output.json", b"", "the file is empty"),
    "output, a list": ("output.json", b"[]", "at $"),
    "output, plots are a list": ("output.json", encode(output_bundle() | {"plots": []}), "$.plots"),
    "output, no filename": ("output.json", encode(output_bundle() | {"data": {"a b": {}}}), '$.data["a b"]'),
    "output, filename is a number": (
        "output.json",
        encode(output_bundle() | {"html": {"x": {"filename": 1, "long_name": "", "description": ""}}}),
        "$.html.x.filename",
    ),
    "output, half a surrogate pair": ("output.json", encode(output_bundle(plots=["\ud800.png"])), "surrogate"),
    "series, an object": ("series.json", b"{}", "at $"),
    "series, lengths differ": ("series.json", encode([one_series(), one_series(index=[1])]), "at $[1]"),
    "series, infinite index": ("series.json", encode([one_series(index=[1, float("inf")])]), "$[0].index[1]"),
    "series, text value": ("series.json", encode([one_series(values=[1, "2"])]), "$[0].values[1]"),
    "series, boolean value": ("series.json", encode([one_series(values=[1, True])]), "$[0].values[1]"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_another_bundle_that_is_none_is_kept_and_named(site: Site, kind: str) -> None:
    key, data, place = OTHERS[kind]
    put(site.scratch, {key: data})
    outcome = site.materialize()
    (problem,) = outcome.artifacts_unreadable
    assert problem.key == key
    assert (key in str(problem.error), place in str(problem.error)) == (True, True)
    assert site.results.read_bytes(key) == data
    assert resolve_status(SUCCESS, outcome).failure == "result"


def test_a_bundle_of_50_megabytes_is_a_bundle(site: Site, catalog: Catalog) -> None:
    values = {f"region {n}": {f"metric {m}": n / (m + 1) for m in range(10)} for n in range(1000)}
    bundle = metric_bundle(values) | {"NOTES": "x" * 50_000_000}
    put(site.scratch, {"diagnostic.json": encode(bundle)})
    outcome, record = promote(SUCCESS, site.scratch, site.results)
    assert (record.status, outcome.warnings) == ("uploaded", ())
    assert ingest(site.results, FRAGMENT, catalog).scalars == 10_000


# -- a source that moves -----------------------------------------------------------------------------------------------


class RestlessStore(RecordingStore):
    """A store whose files somebody else changes at the moment when one of them is read."""

    then: Callable[[str], None] = staticmethod(lambda key: None)

    def _enter(self, verb: str, key: str) -> str:
        entered = super()._enter(verb, key)
        if verb == "read_bytes":
            self.then(key)
        return entered

    def open_reader(self, key: str, /) -> Any:
        reader = self._inner.open_reader(key)  # open, and only then
        self.then(key)
        return reader


LARGE = b"CDF" + bytes(5_000_000)


@pytest.mark.parametrize("key", ["data/tas.nc", "out.log"])
def test_a_file_that_grows_while_it_is_copied_is_not_shipped(site: Site, key: str) -> None:
    old = small_run()[key]
    dest = put(InMemoryArtifactStore(), {key: old})
    put(site.scratch, {key: LARGE})
    source = RestlessStore(site.scratch)

    def grow(read: str) -> None:
        if read == key:
            with (site.scratch.root / key).open("ab") as file:
                file.write(b"more")

    source.then = grow
    outcome = materialize_outputs(SUCCESS, source=source, dest=dest)
    (problem,) = outcome.artifacts_failed
    assert (problem.key, type(problem.error)) == (key, SourceChangedError)
    assert (repr(key) in str(problem.error), "run it again" in str(problem.error)) == (True, True)
    assert dest.read_bytes(key) == old
    assert resolve_status(SUCCESS, outcome).status == "upload_failed"
    source.then = lambda read: None
    assert resolve_status(SUCCESS, materialize_outputs(SUCCESS, source=source, dest=dest)).status == "uploaded"
    assert dest.read_bytes(key) == LARGE + b"more"


@pytest.mark.parametrize(
    ("content", "last"), [(b"small", "plots/map (°C).png"), (LARGE, "series.json")], ids=["small", "large"]
)
def test_a_file_that_disappears_is_missing(site: Site, content: bytes, last: str) -> None:
    """A small file goes between two copies; a large one, which is copied beside the others, just before them."""
    put(site.scratch, {"data/tas.nc": content})
    source = RestlessStore(site.scratch)
    dest = InMemoryArtifactStore()
    source.then = lambda read: site.scratch.delete("data/tas.nc") if read == last else None
    outcome = materialize_outputs(SUCCESS, source=source, dest=dest)
    assert outcome.artifacts_missing == ("data/tas.nc",)
    assert set(held(dest)) == set(CURATED) - {"data/tas.nc"}


def test_a_bundle_that_is_written_anew_meanwhile_waits_for_the_next_time(site: Site) -> None:
    """The set that arrives is of one moment: the files that its own bundle names."""
    old = site.scratch.read_bytes("output.json")
    later = {"output.json": encode(output_bundle(plots=["new.png"])), "new.png": b"new"}
    source = RestlessStore(site.scratch)

    def write_anew(read: str) -> None:
        if read == "series.json":  # the last of the bundles: the others are read, and nothing is shipped yet
            put(site.scratch, later)

    source.then = write_anew
    dest = InMemoryArtifactStore()
    first = materialize_outputs(SUCCESS, source=source, dest=dest)
    assert dest.read_bytes("output.json") == old
    assert set(held(dest)) == set(CURATED)
    assert resolve_status(SUCCESS, first).status == "uploaded"
    source.then = lambda read: None
    second = materialize_outputs(SUCCESS, source=source, dest=dest)
    assert second.artifacts_copied == ("output.json", "new.png")


# -- a destination that refuses ----------------------------------------------------------------------------------------


def test_a_destination_that_is_read_only_raises_before_anything_moves(site: Site) -> None:
    with pytest.raises(StoreAccessError, match=r"read-only; 'out\.log'"):
        materialize_outputs(SUCCESS, source=site.scratch, dest=ReadOnlyStore(site.results))
    assert held(site.results) == {}


ON_A_MOUNT = """
import json, subprocess, sys
from pathlib import Path
from emdstore import ExecutionResult, LocalArtifactStore, StoreError, materialize_outputs, resolve_status

root = Path(sys.argv[1])
source, dest = LocalArtifactStore(root.parent / "outside/scratch"), LocalArtifactStore(root / "store")
result = ExecutionResult(
    successful=True,
    metric_bundle_filename="diagnostic.json",
    output_bundle_filename="output.json",
    series_filename="series.json",
)

def state():
    files = [path for path in dest.root.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files}

first = resolve_status(result, materialize_outputs(result, source=source, dest=dest)).status
before = state()

def kept():
    return before.items() <= state().items()  # the set says now that it is being published, unless nothing was written
"""

FULL = """
source.write_bytes("data/tas.nc", bytes(3_000_000))
outcome = materialize_outputs(result, source=source, dest=dest)
(problem,) = outcome.artifacts_failed
decision = resolve_status(result, outcome)
print(json.dumps([first, problem.key, problem.error.errno, str(problem.error), decision.status, kept()]))
"""

FROZEN = """
source.write_bytes("out.log", b"it ran again")
subprocess.run(["mount", "-o", "remount,ro", root], check=True)
try:
    materialize_outputs(result, source=source, dest=dest)
except StoreError as error:
    print(json.dumps([first, error.key, error.errno, str(error), kept()]))
"""


@pytest.mark.needs("mounts")
def test_a_full_disk_keeps_what_was_there_whole(site: Site) -> None:
    (site.root / "full").mkdir()
    first, key, code, message, status, intact = answer_from_mount("size=1m", site.root / "full", ON_A_MOUNT + FULL)
    assert (first, key, code, status, intact) == ("uploaded", "data/tas.nc", errno.ENOSPC, "upload_failed", True)
    assert "free some space and run it again" in message


@pytest.mark.needs("mounts")
def test_a_file_system_that_turns_read_only_keeps_what_was_there(site: Site) -> None:
    (site.root / "frozen").mkdir()
    first, key, code, message, intact = answer_from_mount("size=1m", site.root / "frozen", ON_A_MOUNT + FROZEN)
    assert (first, key, code, intact) == ("uploaded", "execution.json", errno.EROFS, True)
    assert "mounted read-only" in message


# -- S3 ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def no_backoff() -> Iterator[None]:
    """Try again as often as ever, but at once."""
    with stamina.set_testing(True, attempts=4):
        yield


def bucket_of(server: S3Server, name: str, **options: Any) -> S3ArtifactStore:
    return S3ArtifactStore(f"s3://{name}/results", **server.options | {"retries": 0} | options)


def shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)) + repr(error) + json.dumps([str(a) for a in error.args])


def test_a_bucket_that_does_not_exist_is_named(site: Site, seaweed_server: S3Server) -> None:
    dest = bucket_of(seaweed_server, "no-such-bucket")
    with pytest.raises(StoreError, match="no bucket 'no-such-bucket': check its name") as caught:
        materialize_outputs(SUCCESS, source=site.scratch, dest=dest)
    assert seaweed_server.secret_key not in shown(caught.value)


@pytest.mark.parametrize("wrong", ["access_key_id", "secret_access_key"])
def test_wrong_credentials_are_told_without_showing_any(site: Site, seaweed_server: S3Server, wrong: str) -> None:
    secrets = {"access_key_id": "AKNOBODYKNOWSTHIS", "secret_access_key": "this-is-not-the-secret-either"}
    good = bucket_of(seaweed_server, seaweed_server.make_bucket())
    dest = attrs.evolve(good, **{wrong: secrets[wrong]})
    with pytest.raises(StoreAccessError, match=f"check AWS_{wrong.upper()}") as caught:
        materialize_outputs(SUCCESS, source=site.scratch, dest=dest)
    for secret in (*secrets.values(), seaweed_server.secret_key):
        assert secret not in shown(caught.value)
    assert held(good) == {}


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("fault", ["status", "cut-request", "flip"])
def test_a_server_that_fails_for_a_moment_gets_everything_all_the_same(
    site: Site, s3_faults: FaultProxy, fault: Any
) -> None:
    dest = bucket_of(s3_faults.server, s3_faults.server.make_bucket(), retries=2)
    s3_faults.fail(fault, "^PUT .*(tas.nc|out.log)", times=2)
    outcome = materialize_outputs(SUCCESS, source=site.scratch, dest=dest)
    assert s3_faults.faults[0].times == 0
    assert resolve_status(SUCCESS, outcome).status == "uploaded"
    assert held(dest) == {key: data for key, data in small_run().items() if key in CURATED}


@pytest.mark.usefixtures("no_backoff")
@pytest.mark.parametrize("fault", ["status", "cut-request"])
def test_a_server_that_goes_on_failing_leaves_whole_objects_and_is_resumed(
    site: Site, s3_faults: FaultProxy, fault: Any
) -> None:
    dest = bucket_of(s3_faults.server, s3_faults.server.make_bucket())
    put(dest, {"data/tas.nc": b"of an earlier run"})
    broken = s3_faults.fail(fault, "^PUT .*tas.nc")
    outcome = materialize_outputs(SUCCESS, source=site.scratch, dest=dest)
    (problem,) = outcome.artifacts_failed
    assert (problem.key, isinstance(problem.error, StoreUnavailableError)) == ("data/tas.nc", True)
    assert (repr("data/tas.nc") in str(problem.error), dest.url in str(problem.error)) == (True, True)
    assert held(dest)["data/tas.nc"] == b"of an earlier run"
    assert set(held(dest)) == {*CURATED} - {"diagnostic.json"}  # which waits for it
    assert resolve_status(SUCCESS, outcome).status == "upload_failed"
    s3_faults.faults.remove(broken)
    again = materialize_outputs(SUCCESS, source=site.scratch, dest=dest)
    assert set(again.artifacts_copied) == {"data/tas.nc", "diagnostic.json"}
    assert resolve_status(SUCCESS, again).status == "uploaded"


@pytest.mark.usefixtures("no_backoff")
def test_a_server_that_is_not_there_raises(site: Site, seaweed_server: S3Server) -> None:
    gone = attrs.evolve(seaweed_server, endpoint_url="http://127.0.0.1:9")
    with pytest.raises(StoreUnavailableError, match="endpoint_url"):
        materialize_outputs(SUCCESS, source=site.scratch, dest=bucket_of(gone, "bucket"))


@pytest.mark.parametrize("fault", ["status", "cut-response"])
def test_an_answer_that_breaks_off_leaves_the_catalog_as_it_was(
    s3_faults: FaultProxy, catalog: Catalog, fault: Any
) -> None:
    results = bucket_of(s3_faults.server, s3_faults.server.make_bucket())
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results)
    replay(results, catalog)
    rows = rows_of(catalog)
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run(diagnostic=metric_bundle({"x": {"y": 1}}))), results)
    promote(SUCCESS, put(InMemoryArtifactStore(), small_run()), results, "pmp/x/y/1")
    broken = s3_faults.fail(fault, "^GET .*23/diagnostic.json")
    report = replay(results, catalog)
    assert {each.fragment: each.state for each in report.outcomes} == {FRAGMENT: "unreadable", "pmp/x/y/1": "ingested"}
    assert isinstance(report.failures[0].error, StoreUnavailableError)
    assert rows_of(catalog, FRAGMENT) == rows
    s3_faults.faults.remove(broken)
    assert nonzero(replay(results, catalog).counts) == {"ingested": 1, "unchanged": 1}


def test_a_source_on_s3_that_breaks_off_is_reported(s3_faults: FaultProxy) -> None:
    source = bucket_of(s3_faults.server, s3_faults.server.make_bucket())
    put(source, small_run())
    dest = InMemoryArtifactStore()
    with stamina.set_testing(True, attempts=2):
        broken = s3_faults.fail("cut-response", "^GET .*(index.html|output.json)")
        outcome = materialize_outputs(SUCCESS, source=source, dest=dest)
        assert [each.key for each in outcome.artifacts_failed] == ["output.json"]
        assert resolve_status(SUCCESS, outcome).status == "upload_failed"
        s3_faults.faults.remove(broken)
        assert materialize_outputs(SUCCESS, source=source, dest=dest).artifacts_failed == ()
    assert set(held(dest)) == set(CURATED)
