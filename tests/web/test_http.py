"""What is sent and what is refused, over HTTP."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import re
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from tests.sets.examples import FourMethods
from tests.web.library import TEMPERATURE, Library

from emdstore.catalog import Catalog, ExecutionContent
from emdstore.ingestion.replay import replay
from emdstore.sets.retraction import retract
from emdstore.sets.transfer import transfer
from emdstore.stores import ArtifactStore, InMemoryArtifactStore, LocalArtifactStore, S3ArtifactStore, scoped
from emdstore.web.access import Admission
from emdstore.web.app import make_app
from emdstore.web.places import Places

PLOT = "plots/tas_bias_map.png"
OTHER_PLOT = "plots/tas_mean_map.png"
HOSTILE = "tests/hostile/names/1"
SAME = {"Sec-Fetch-Site": "same-origin"}

Serve = Callable[..., str]


@pytest.fixture(scope="module")
def home(library: Library, served: Serve) -> str:
    """The address of a site over the ensemble."""
    return served(make_app(library.catalog, library.results))


@pytest.fixture
def sick(library: Library, tmp_path: Path, served: Serve) -> tuple[str, LocalArtifactStore]:
    """A site over a copy of one set, which may be harmed."""
    store = LocalArtifactStore(tmp_path / "results")
    transfer(scoped(library.results, TEMPERATURE), scoped(store, TEMPERATURE)).raise_for_failures()
    return served(make_app(library.catalog, store)), store


def addresses(home: str, library: Library, ending: str = TEMPERATURE) -> dict[str, str]:
    """Return the addresses of an execution's artifacts as its page has them, by key."""
    page = httpx.get(f"{home}execution/{library.id_of(ending)}").text
    paths = re.findall(r'"\.\./(artifacts/[^"?]+)', page)
    rows = library.catalog.artifacts(fragment=library.catalog.execution(ending).fragment)
    found = {row.key: [path for path in paths if path.endswith("/" + quote(row.key))] for row in rows}
    return {key: home + these[0] for key, these in found.items() if these}


def test_an_artifact_is_sent_as_the_record_says(home: str, library: Library) -> None:
    (row,) = [row for row in library.catalog.artifacts(fragment=TEMPERATURE) if row.key == PLOT]
    answer = httpx.get(addresses(home, library)[PLOT])
    assert answer.status_code == 200
    assert hashlib.sha256(answer.content).hexdigest() == row.sha256
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["etag"] == f'"{row.sha256}"'
    assert answer.headers["cache-control"] == "private, no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")


def test_a_browser_keeps_what_it_has(home: str, library: Library) -> None:
    address = addresses(home, library)[PLOT]
    tag = httpx.get(address).headers["etag"]
    again = httpx.get(address, headers={"If-None-Match": tag})
    assert (again.status_code, again.content) == (304, b"")
    for_good = httpx.get(f"{address}?v={tag[1:17]}")
    assert "immutable" in for_good.headers["cache-control"]
    assert "immutable" not in httpx.get(f"{address}?v=0123456789abcdef").headers["cache-control"]


@pytest.mark.parametrize("kind", ["path", "stream", "whole"])
def test_a_part_of_a_data_file_can_be_had(kind: str, library: Library, served: Serve) -> None:
    store: ArtifactStore = library.results
    if kind != "path":
        memory = InMemoryArtifactStore()
        transfer(scoped(store, HOSTILE), scoped(memory, HOSTILE)).raise_for_failures()
        store = memory if kind == "stream" else FourMethods(memory)
    home = served(make_app(library.catalog, store))
    address = addresses(home, library, HOSTILE)["data/long file.csv"]
    whole = httpx.get(address)
    assert len(whole.content) > 2_000_000
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=1000000-1000009", 1_000_000, 1_000_010),
        ("bytes=-5", len(whole.content) - 5, len(whole.content)),
        (f"bytes={len(whole.content) - 3}-", len(whole.content) - 3, len(whole.content)),
    ):
        part = httpx.get(address, headers={"Range": asked})
        assert part.status_code == 206
        assert part.content == whole.content[start:stop]
        assert part.headers["content-range"] == f"bytes {start}-{stop - 1}/{len(whole.content)}"
    assert httpx.get(address, headers={"Range": "bytes=99999999-"}).status_code == 416
    other = httpx.get(address, headers={"Range": "bytes=0-9", "If-Range": '"another"'})
    assert (other.status_code, len(other.content)) == (200, len(whole.content))


@pytest.mark.parametrize(
    "tail",
    [
        "../../../../catalog.db",
        "..%2f..%2fexecution.json",
        "%2e%2e/%2e%2e/execution.json",
        "%2fetc%2fpasswd",
        "/etc/passwd",
        "plots%2f..%2fout.log",
        "..%5cout.log",
        "out.log%00.png",
        "%ff%fe",
        "out.log/",
        "",
        "execution.json",
        "climate_data/working.nc",
        "OUT.LOG",
    ],
)
def test_nothing_but_the_keys_of_the_record_is_sent(tail: str, home: str, library: Library) -> None:
    base = addresses(home, library)["out.log"].removesuffix("out.log")
    with httpx.Client(timeout=60) as client:
        # As it is: the client would tidy the path up.
        request = client.build_request("GET", base)
        request.url = request.url.copy_with(raw_path=(request.url.raw_path + tail.encode()))
        answer = client.send(request)
    assert answer.status_code == 404
    assert b"root:" not in answer.content


def test_an_encoded_slash_is_no_other_spelling_of_a_key(home: str, library: Library) -> None:
    address = addresses(home, library, HOSTILE)["data/long file.csv"]
    assert httpx.get(address).status_code == 200
    assert httpx.get(address.replace("data/", "data%2F")).status_code == 404


def test_an_address_that_no_page_gave_is_not_served(home: str, library: Library) -> None:
    address = addresses(home, library)["out.log"]
    assert httpx.get(address).status_code == 200
    assert httpx.get(address.replace("-", "-0", 1)).status_code == 404
    guessed = Places(secret=b"guess").artifact(library.id_of(TEMPERATURE), "out.log")
    assert httpx.get(home + guessed).status_code == 404
    # The seal of one execution opens no other one.
    other = address.replace(str(library.id_of(TEMPERATURE)), str(library.id_of(HOSTILE)))
    assert httpx.get(other).status_code == 404


def test_a_page_calls_the_sets_state_by_the_name_that_commands_use(home: str, library: Library) -> None:
    for row in library.catalog.executions():
        page = httpx.get(f"{home}execution/{row.execution_id}").text
        assert (f"set: {row.state}" in page) == (row.state is not None)
    assert {row.state for row in library.catalog.executions()} >= {"published"}


def test_a_retracted_set_has_a_page_of_its_own_and_is_on_no_other(
    sick: tuple[str, LocalArtifactStore], library: Library, tmp_path: Path, served: Serve
) -> None:
    _, store = sick
    fragment = library.catalog.execution(TEMPERATURE).fragment
    with Catalog(tmp_path / "catalog.db") as catalog:
        replay(store, catalog)
        home = served(make_app(catalog, store))
        address = f"{home}execution/{library.id_of(TEMPERATURE)}"
        whole = httpx.get(address).text
        assert fragment in httpx.get(f"{home}executions").text
        assert "retracted" not in whole
        retract(store, fragment, reason="the <sign> was wrong", successor="a/b/c/2")
        replay(store, catalog)
        listed = httpx.get(f"{home}executions").text
        assert fragment not in listed
        assert ">1 retracted</a>" in listed
        only = httpx.get(f"{home}executions?retracted=1").text
        assert (fragment in only, only.count('class="pick"')) == (True, 1)
        assert "retracted: the &lt;sign&gt; was wrong (use a/b/c/2)" in only
        page = httpx.get(address).text
        assert "<strong>retracted</strong> the &lt;sign&gt; was wrong" in page
        assert "use a/b/c/2" in page
        assert page.count("<td") == whole.count("<td")  # its values are there still


def test_the_newest_run_of_each_group_is_listed_and_all_runs_where_that_is_asked_for(
    home: str, library: Library
) -> None:
    rows = list(library.catalog.executions())
    groups = {(row.provider, row.diagnostic, row.group) for row in rows}
    assert len(groups) < len(rows)
    page = httpx.get(f"{home}executions").text
    assert f">{len(groups)} executions<" in page
    assert f">{len(rows) - len(groups)} older runs</a>" in page
    every = httpx.get(f"{home}executions?runs=all").text
    assert f">{len(rows)} executions<" in every
    assert 'aria-current="true">all runs</a>' in every


def test_values_are_of_the_latest_complete_sets_unless_others_are_asked_for(tmp_path: Path, served: Serve) -> None:
    with Catalog(tmp_path / "catalog.db") as catalog:
        for day, status, value in ((1, "uploaded", 0.125), (2, "uploaded", 0.25), (3, "failed", None)):
            at = datetime(2025, 1, day, tzinfo=UTC)
            catalog.replace_execution(
                ExecutionContent(
                    fragment=f"p/d/g/{day}",
                    provider="p",
                    diagnostic="d",
                    group="g",
                    status=status,
                    state="published",
                    complete=status == "uploaded",
                    started_at=at,
                    published_at=at,
                    failure="diagnostic",
                    scalars=[] if value is None else [(value, {"metric": "rmse"}, {})],
                )
            )
        home = served(make_app(catalog, InMemoryArtifactStore()))

        def values(query: str) -> list[str]:
            return re.findall(r'<td class="number" data-value="([^"]+)"', httpx.get(f"{home}values{query}").text)

        assert values("") == ["0.25"]
        assert values("?runs=all") == ["0.125", "0.25"]
        assert values("?in=p/d/g/1") == ["0.125"]
        assert [row["value"] for row in csv.DictReader(io.StringIO(httpx.get(f"{home}values.csv").text))] == ["0.25"]
        assert "2025-01-02" in httpx.get(f"{home}values").text


def test_a_missing_artifact_is_said_so_on_the_page(sick: tuple[str, LocalArtifactStore], library: Library) -> None:
    home, store = sick
    address = addresses(home, library)[PLOT]
    store.delete(f"{TEMPERATURE}/{PLOT}")
    page = httpx.get(f"{home}execution/{library.id_of(TEMPERATURE)}").text
    assert f'<p class="trouble">{PLOT.rpartition("/")[2]}: missing</p>' in page
    assert f'/{quote(PLOT)}"' not in page
    assert f"/{quote(OTHER_PLOT)}?" in page
    answer = httpx.get(address)
    assert answer.status_code == 404
    assert "missing from the results store" in answer.text


def test_a_corrupt_artifact_is_never_shown_as_good(sick: tuple[str, LocalArtifactStore], library: Library) -> None:
    home, store = sick
    address = addresses(home, library)[PLOT]
    good = store.read_bytes(f"{TEMPERATURE}/{PLOT}")
    store.write_bytes(f"{TEMPERATURE}/{PLOT}", good[:-1] + b"!")  # the same size
    answer = httpx.get(address)
    assert answer.status_code == 409
    assert "does not match its record" in answer.text
    store.write_bytes(f"{TEMPERATURE}/{PLOT}", good + b"more")
    page = httpx.get(f"{home}execution/{library.id_of(TEMPERATURE)}").text
    assert f'<p class="trouble">{PLOT.rpartition("/")[2]}: not as recorded</p>' in page


def test_a_large_corrupt_file_does_not_arrive_whole(library: Library, tmp_path: Path, served: Serve) -> None:
    fragment, key, data = "big/one/set/1", "data/big.bin", bytes(9_000_000)
    store = LocalArtifactStore(tmp_path / "results")
    with Catalog(tmp_path / "catalog.db") as catalog:
        artifact = (key, "data", len(data), hashlib.sha256(data).hexdigest(), "application/octet-stream", "")
        catalog.replace_execution(
            ExecutionContent(
                fragment=fragment,
                provider="big",
                diagnostic="one",
                group="set",
                status="uploaded",
                artifacts=[artifact],
            )
        )
        there = Library(store, catalog)
        store.write_bytes(f"{fragment}/{key}", data)
        home = served(make_app(catalog, store))
        address = addresses(home, there, fragment)[key]
        assert httpx.get(address).content == data
        store.write_bytes(f"{fragment}/{key}", data[:-1] + b"!")
        with pytest.raises(httpx.RemoteProtocolError):
            httpx.get(address)


def test_verify_hashes_again_and_says_what_it_found(sick: tuple[str, LocalArtifactStore], library: Library) -> None:
    home, store = sick
    verify = f"{home}execution/{library.id_of(TEMPERATURE)}/verify"

    def outcomes(**form: str) -> dict[str, str]:
        page = httpx.post(verify, data=form, headers=SAME)
        assert page.status_code == 200
        rows = re.findall(r'<tr data-key="([^"]+)">.*?<td class="check">(.*?)</td>', page.text, re.DOTALL)
        return {key: re.sub(r"<[^>]*>", " ", cell).split("verify")[0].strip() for key, cell in rows}

    assert set(outcomes().values()) == {"as recorded"}
    store.write_bytes(f"{TEMPERATURE}/{PLOT}", b"other")
    store.delete(f"{TEMPERATURE}/out.log")
    found = outcomes()
    assert found[PLOT].startswith("not as recorded")
    assert hashlib.sha256(b"other").hexdigest() in found[PLOT]
    assert found["out.log"] == "missing"
    one = outcomes(key="index.html")
    assert one["index.html"] == "as recorded"
    assert one["diagnostic.json"] == ""


@pytest.mark.parametrize(
    "headers",
    [{}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
    ids=["neither", "cross-site", "other origin", "no origin"],
)
def test_another_site_cannot_ask_for_a_verification(headers: dict[str, str], home: str, library: Library) -> None:
    verify = f"{home}execution/{library.id_of(TEMPERATURE)}/verify"
    assert httpx.post(verify, headers=headers).status_code == 403
    assert httpx.get(verify).status_code == 405
    assert httpx.post(verify, headers={"Origin": home.rstrip("/")}).status_code == 200


def test_a_results_store_that_is_down_leaves_the_catalogs_pages(library: Library, served: Serve) -> None:
    down = S3ArtifactStore(
        "s3://nowhere/results",
        endpoint_url="http://127.0.0.1:9",
        region="us-east-1",
        access_key_id="a",
        secret_access_key="b",
    )
    home = served(make_app(library.catalog, down, patience=1.5))
    started = datetime.now(UTC)
    for path in (
        "",
        "executions",
        "values",
        "compare?d=meanstate/surface-temperature",
        f"execution/{library.id_of(TEMPERATURE)}",
    ):
        answer = httpx.get(home + path)
        assert answer.status_code == 200, path
    assert "The results store cannot be read now" in answer.text
    assert "standard_deviation_ratio" in answer.text  # its scalars
    assert datetime.now(UTC) - started < timedelta(seconds=50)  # it is retried for a minute elsewhere


def test_a_catalog_that_is_gone_is_said_so(tmp_path: Path, served: Serve) -> None:
    with Catalog(tmp_path / "none.db", create=False) as catalog:
        answer = httpx.get(served(make_app(catalog, InMemoryArtifactStore())))
    assert answer.status_code == 503
    assert "no catalog here" in answer.text


@pytest.mark.parametrize(
    "path", ["execution/1", "execution/99999999999999999999", "execution/x", "static/../app.py", "no"]
)
def test_what_is_not_there_is_said_so(path: str, home: str) -> None:
    answer = httpx.get(home + path)
    assert answer.status_code == 404
    assert "All executions" in answer.text


def test_the_site_trusts_nothing_but_its_own_files(home: str, library: Library) -> None:
    for path in ("", "values", f"execution/{library.id_of(TEMPERATURE)}"):
        headers = httpx.get(home + path).headers
        policy = dict(each.split(" ", 1) for each in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


def test_this_machine_is_meant_by_its_own_names_only(home: str) -> None:
    port = home.rstrip("/").rsplit(":", 1)[1]
    for name, status in (("127.0.0.1", 200), ("localhost", 200), ("[::1]", 200), ("evil.example", 421), ("", 421)):
        assert httpx.get(home, headers={"Host": f"{name}:{port}"}).status_code == status, name


def test_beyond_this_machine_a_token_is_wanted(library: Library, served: Serve) -> None:
    access = Admission.to("0.0.0.0")
    assert access.token is not None
    assert len(access.token) >= 32
    assert access.token != Admission.to("0.0.0.0").token
    home = served(make_app(library.catalog, library.results, access=access))
    csoil = f"execution/{library.id_of(TEMPERATURE)}"
    for path in (
        "",
        "values",
        "values.csv",
        "compare",
        csoil,
        "?token=wrong",
        f"?token={access.token[:-1]}",
        "?token=é",
    ):
        assert httpx.get(home + path).status_code == 401, path
    assert httpx.post(f"{home}{csoil}/verify", headers=SAME).status_code == 401
    assert httpx.get(home, headers={"Cookie": "emdstore=wrong"}).status_code == 401
    with httpx.Client(timeout=60) as browser:
        welcome = browser.get(f"{home}{csoil}?token={access.token}&x=1")
        assert welcome.headers["refresh"] == f"0; url={library.id_of(TEMPERATURE)}?x=1"
        cookie = welcome.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        page = browser.get(home + csoil)
        assert page.status_code == 200
        assert access.token not in page.text
    # What a sandboxed frame loads has no cookies: the address itself is sealed.
    artifact = re.search(r'"\.\./(artifacts/[^"?]+out\.log)', page.text)
    assert artifact is not None
    assert httpx.get(home + artifact[1]).status_code == 200


def test_loopback_wants_no_token() -> None:
    assert [Admission.to(host).token for host in ("127.0.0.1", "localhost", "::1", "127.1.2.3")] == [None] * 4
    assert Admission.to("127.0.0.1", "given").token == "given"
    assert Admission.to("0.0.0.0", "given").token == "given"


def test_the_export_is_exactly_the_selection(home: str, library: Library) -> None:
    query = "provider=meanstate&d.region=tropics&d.metric=bias&d.metric=rmse"
    answer = httpx.get(f"{home}values.csv?{query}")
    assert answer.headers["content-disposition"] == 'attachment; filename="scalars.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    wanted = list(
        library.catalog.scalars(provider="meanstate", dimensions={"region": "tropics", "metric": ["bias", "rmse"]})
    )
    assert [(row["fragment"], row["position"]) for row in rows] == [
        (each.fragment, str(each.position)) for each in wanted
    ]
    assert len(wanted) > 3


def test_thousands_of_executions_stay_quick(tmp_path: Path, served: Serve) -> None:
    start = datetime(2025, 1, 1, tzinfo=UTC)
    with Catalog(tmp_path / "catalog.db") as catalog:
        for number in range(20):
            place = {"provider": f"p{number % 3}", "diagnostic": f"d{number % 5}", "group": f"g{number}"}
            status = "failed" if number == 7 else "uploaded"
            catalog.claims.create(
                ExecutionContent(fragment=f"first/{number:04}", status=status, created_at=start, **place)
            )
        # One by one they would take longer than all other tests.
        with contextlib.closing(sqlite3.connect(tmp_path / "catalog.db")) as database:
            columns = [row[1] for row in database.execute("PRAGMA table_info(execution)")]
            changed = {
                "id": "id - 1000 * n",
                "fragment": "fragment || '/' || printf('%03d', n)",
                "created_at": "datetime('2025-02-01', '+' || (n * 20 + substr(fragment, 7)) || ' minutes')",
            }
            values = ", ".join(changed.get(name, name) for name in columns)
            database.execute(
                "WITH RECURSIVE more(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM more WHERE n < 249) "
                f"INSERT INTO execution ({', '.join(columns)}) SELECT {values} FROM execution, more"
            )
            database.commit()
        home = served(make_app(catalog, InMemoryArtifactStore()))
        httpx.get(home)
        started = datetime.now(UTC)
        first = httpx.get(f"{home}executions?runs=all").text
        last = httpx.get(f"{home}executions?runs=all&page=100").text
        assert (datetime.now(UTC) - started).total_seconds() < 5
        names = re.findall(r'aria-label="Compare ([^"]+)"', first)
        assert len(names) == 50
        # What needs attention, and of that the newest, comes first.
        assert names[:3] == ["first/0007/249", "first/0007/248", "first/0007/247"]
        assert "5,000 executions" in first
        assert "250 need attention" in first
        assert "Page 100 of 100" in last
        assert len(re.findall(r'aria-label="Compare ', last)) == 50
        assert "20 executions" in httpx.get(f"{home}executions").text  # the newest of each group
        assert not set(names) & set(re.findall(r'aria-label="Compare ([^"]+)"', last))
        words = httpx.get(f"{home}executions?q=0013/2&provider=p1&runs=all").text
        assert "50 executions" in words
