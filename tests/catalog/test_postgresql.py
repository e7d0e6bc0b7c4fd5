"""A server that many share: it restarts, others lock what we need, and it refuses what SQLite takes."""

from __future__ import annotations

import logging
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import psycopg
import pytest
from sqlalchemy import event
from tests.catalog.examples import FULL, everything
from tests.servers.postgres import PostgresServer, name_in

from emdstore.catalog import Catalog, Claim, RecordStamp
from emdstore.errors import CatalogError, CatalogUnavailableError, ClaimLostError

HOW = pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])


@pytest.fixture
def catalog(postgresql_catalog_url: str) -> Iterator[Catalog]:
    with Catalog(postgresql_catalog_url, busy_timeout=20) as catalog:
        yield catalog


@pytest.fixture
def other(postgres_server: PostgresServer, catalog: Catalog) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else's connection to the catalog's database, in a transaction."""
    with postgres_server.connect(name_in(catalog.url)) as connection:
        connection.execute("BEGIN")
        yield connection


class Eventful:
    """Rows, between the first and the second of which something happens, the first time."""

    def __init__(self, *events: Callable[[], object]) -> None:
        self._events = list(events)

    def __iter__(self) -> Iterator[Any]:
        yield 1.0, {"n": "1"}, None
        while self._events:
            self._events.pop(0)()
        yield from ((float(n), {"n": str(n)}, None) for n in range(2, 5000))


# -- a server that goes away -------------------------------------------------------------------------------------------


@HOW
def test_a_replacement_goes_on_when_the_server_is_back(
    postgres_server: PostgresServer, catalog: Catalog, how: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    catalog.replace_execution(FULL)
    rows = Eventful(lambda: postgres_server.stop(how), postgres_server.start)
    with caplog.at_level(logging.WARNING, "emdstore"):
        assert catalog.replace_execution(attrs.evolve(FULL, scalars=rows)).scalars == 4999
    assert [row.value for row in catalog.scalars()] == [float(n) for n in range(1, 5000)]
    assert catalog.execution(FULL.fragment).scalars == 4999
    (said,) = [record.getMessage() for record in caplog.records if record.name.startswith("emdstore")]
    assert "check that the server runs" in said
    assert "trying again for" in said


def test_a_server_that_stays_away_is_waited_for_as_long_as_was_said(
    postgres_server: PostgresServer, postgresql_catalog_url: str
) -> None:
    with Catalog(postgresql_catalog_url, busy_timeout=0.5) as catalog:
        catalog.replace_execution(FULL)
        before = everything(catalog)
        changed = attrs.evolve(FULL, status="failed", scalars=Eventful(postgres_server.stop))
        started = time.monotonic()
        try:
            with pytest.raises(CatalogUnavailableError, match="check that the server runs"):
                catalog.replace_execution(changed)
            assert 0.3 < time.monotonic() - started < 10
            with pytest.raises(CatalogUnavailableError, match="check that the server runs"):
                catalog.executions().count()
        finally:
            postgres_server.start()
        assert everything(catalog) == before  # by connections that are new
        catalog.replace_execution(changed)
        assert catalog.execution(FULL.fragment).status == "failed"


def test_a_server_that_never_answered_is_not_waited_for(postgres_server: PostgresServer) -> None:
    with postgres_server.new_database() as url:
        catalog = Catalog(url)
    started = time.monotonic()
    with pytest.raises(CatalogError, match="create the database first"):
        catalog.replace_execution(FULL)
    with pytest.raises(CatalogUnavailableError, match="check that the server runs"):
        Catalog("postgresql://127.0.0.1:1/db").replace_execution(FULL)
    assert time.monotonic() - started < 10


def test_what_can_be_read_only_once_is_not_begun_again(postgres_server: PostgresServer, catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    rows = iter(Eventful(lambda: postgres_server.stop(signal.SIGQUIT), postgres_server.start))
    with pytest.raises(CatalogUnavailableError, match="check that the server runs"):
        catalog.replace_execution(attrs.evolve(FULL, status="failed", scalars=rows))
    assert everything(catalog) == before


def test_an_owner_is_told_that_its_server_went_away_and_still_holds_its_claim(
    postgres_server: PostgresServer, catalog: Catalog
) -> None:
    catalog.claims.create(attrs.evolve(FULL, status="stopped"))
    claim = catalog.claims.claim(FULL.fragment, owner="me", lease_seconds=60, allowed_from=["stopped"])
    assert isinstance(claim, Claim)
    content = attrs.evolve(FULL, scalars=Eventful(postgres_server.stop, postgres_server.start))
    with pytest.raises(CatalogUnavailableError):
        catalog.replace_execution(content, claim=claim)
    assert (catalog.execution(FULL.fragment).status, catalog.scalars().count()) == ("pending_upload", 0)
    catalog.replace_execution(content, claim=catalog.claims.renew(claim, lease_seconds=60))
    assert (catalog.execution(FULL.fragment).status, catalog.scalars().count()) == ("uploaded", 4999)


def test_a_query_that_is_cut_off_says_so_and_can_be_asked_again(
    postgres_server: PostgresServer, catalog: Catalog
) -> None:
    catalog.replace_execution(attrs.evolve(FULL, scalars=Eventful()))
    rows = iter(catalog.scalars())
    next(rows)
    postgres_server.stop(signal.SIGQUIT)
    postgres_server.start()
    with pytest.raises(CatalogUnavailableError, match="check that the server runs"):
        list(rows)
    assert sum(1 for _ in catalog.scalars()) == 4999


# -- locks -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lock", "where"),
    [
        ("UPDATE execution_group SET dirty = dirty", "execution_group"),
        ("UPDATE execution SET status = status", "execution"),
        ("LOCK TABLE scalar_value IN SHARE MODE", "scalar_value"),
        ("INSERT INTO provider (slug) VALUES ('ilamb')", "provider"),
    ],
)
def test_a_lock_that_somebody_holds_is_waited_for_and_then_told(
    catalog: Catalog, other: psycopg.Connection[Any], lock: str, where: str
) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    other.execute(lock)
    content = attrs.evolve(FULL, provider="ilamb") if where == "provider" else FULL
    started = time.monotonic()
    with Catalog(postgres_url_of(catalog), busy_timeout=0.3) as impatient:
        with pytest.raises(CatalogUnavailableError, match=rf"lock timeout.*{where}.*pg_stat_activity.*later") as caught:
            impatient.replace_execution(content)
        assert 0.3 <= time.monotonic() - started < 10
        assert everything(catalog) == before  # readers do not wait
        other.execute("ROLLBACK")
        impatient.replace_execution(content)
    assert "ss/w" not in "".join(traceback.format_exception(caught.value))


def test_a_reader_does_not_wait_for_ever_either(catalog: Catalog, other: psycopg.Connection[Any]) -> None:
    catalog.replace_execution(FULL)
    other.execute("LOCK TABLE execution IN ACCESS EXCLUSIVE MODE")  # as VACUUM FULL and migrations do
    with Catalog(postgres_url_of(catalog), busy_timeout=0.3) as impatient:
        for ask in (lambda: impatient.execution(FULL.fragment), lambda: list(impatient.executions())):
            with pytest.raises(CatalogUnavailableError, match=r"lock timeout.*pg_stat_activity"):
                ask()


def test_a_lock_that_is_given_back_in_time_costs_nothing_but_time(
    catalog: Catalog, other: psycopg.Connection[Any]
) -> None:
    catalog.replace_execution(FULL)
    other.execute("UPDATE execution SET status = status")
    later = threading.Timer(0.3, other.execute, ["ROLLBACK"])
    later.start()
    started = time.monotonic()
    assert catalog.replace_execution(FULL).created is False
    assert time.monotonic() - started > 0.2
    later.join()


def test_a_writer_that_is_suspended_is_in_nobodys_way(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    suspended = Catalog(postgres_url_of(catalog), busy_timeout=0.5)

    def be_suspended() -> None:
        with suspended, suspended._database.writing() as connection:
            connection.exec_driver_sql("UPDATE execution_group SET dirty = true")
            catalog.replace_execution(FULL)  # waits for the lock, and gets it
            connection.exec_driver_sql("UPDATE execution_group SET dirty = true")

    with pytest.raises(CatalogUnavailableError, match="paused in the middle of a transaction"):
        be_suspended()
    assert catalog.execution(FULL.fragment).group_dirty is False


def test_an_execution_that_is_deleted_while_it_is_being_replaced_is_there_afterwards(catalog: Catalog) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    deleted: list[bool] = []
    with Catalog(postgres_url_of(catalog)) as deleter:

        def delete(*args: Any) -> None:
            if not deleted and "FOR UPDATE" in args[2]:
                deleted.append(deleter.records.drop(FULL.fragment))

        event.listen(catalog._database._open(), "before_cursor_execute", delete)
        assert catalog.replace_execution(FULL).created
    assert deleted == [True]
    assert everything(catalog) == before


def test_who_writes_to_many_executions_locks_them_in_one_order(catalog: Catalog) -> None:
    stamps = [RecordStamp(fragment, "d", 1, 1.0, "v") for fragment in ("b", "c", "a")]
    for stamp in stamps:
        catalog.replace_execution(attrs.evolve(FULL, fragment=stamp.fragment, record_digest="d"))
    written: list[Any] = []
    event.listen(catalog._database._open(), "before_cursor_execute", lambda *args: written.append(args[3]))
    catalog.records.note(stamps)
    assert [each["of_fragment"] for each in written[-1]] == ["a", "b", "c"]
    assert [row.record_version for row in catalog.executions()] == ["v"] * 3


# -- what the server is set to -----------------------------------------------------------------------------------------


def postgres_url_of(catalog: Catalog) -> str:
    return catalog._database._url.render_as_string(hide_password=False)


def _set(server: PostgresServer, catalog: Catalog, setting: str) -> None:
    with server.connect() as connection:
        connection.execute(f'ALTER DATABASE "{name_in(catalog.url)}" SET {setting}')  # type: ignore[call-overload]


def test_transactions_are_what_they_have_to_be_whatever_the_servers_default(
    postgres_server: PostgresServer, catalog: Catalog
) -> None:
    _set(postgres_server, catalog, "default_transaction_isolation = 'serializable'")
    with catalog._database.writing() as connection:
        assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar() == "20s"


def test_settings_in_the_url_count_more_than_ours(postgresql_catalog_url: str) -> None:
    for parameters, expected in (("", ("10", "60", "emdstore")), ("?connect_timeout=3", ("3", "60", "emdstore"))):
        with Catalog(postgresql_catalog_url + parameters) as catalog, catalog._database.reading() as connection:
            used: dict[str, str] = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]
            assert (used["connect_timeout"], used["keepalives_idle"], used["application_name"]) == expected


def test_a_password_need_not_be_in_the_url(
    postgres_server: PostgresServer, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", postgres_server.password)
    with Catalog(f"postgresql://emdstore@127.0.0.1:{postgres_server.port}/{name_in(catalog.url)}") as another:
        assert another.check().state == "current"


def test_a_server_that_can_only_be_read_is_told(postgres_server: PostgresServer, catalog: Catalog) -> None:
    _set(postgres_server, catalog, "default_transaction_read_only = on")
    with pytest.raises(CatalogError, match="give the URL of one that takes writes"):
        catalog.replace_execution(FULL)
    assert catalog.executions().count() == 0


def test_an_account_without_rights_and_one_connection_too_many_are_told(
    postgres_server: PostgresServer, catalog: Catalog
) -> None:
    with postgres_server.connect() as connection:
        connection.execute("CREATE ROLE guest LOGIN PASSWORD 'guest' CONNECTION LIMIT 1")
    try:
        url = f"postgresql://guest:guest@127.0.0.1:{postgres_server.port}/{name_in(catalog.url)}"
        with Catalog(url) as guest:
            with pytest.raises(CatalogError, match="grant what is missing"):
                guest.replace_execution(FULL)
            with Catalog(url) as second, pytest.raises(CatalogUnavailableError, match="fewer processes"):
                second.check()
    finally:
        with postgres_server.connect() as connection:
            connection.execute("DROP ROLE guest")


# -- what the server refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"description": "a\0b"},
        {"fragment": "a\0b"},
        {"artifacts": [("a", "log", 1, "x", None, "a\0b")]},
        {"scalars": [(1.0, {"region": "a\0b"}, None)]},
        {"series": [({}, "time", [1], [1.0], {"a": "\0"})]},
    ],
    ids=["text", "key", "part", "dimension", "attribute"],
)
def test_a_nul_character_is_refused_with_its_place_and_nothing_changes(
    catalog: Catalog, changes: dict[str, Any]
) -> None:
    catalog.replace_execution(FULL)
    before = everything(catalog)
    with pytest.raises(CatalogError, match=r"refuses this content: .*no NUL characters; remove them") as caught:
        catalog.replace_execution(attrs.evolve(FULL, **changes))
    assert not isinstance(caught.value, CatalogUnavailableError | ClaimLostError)
    assert everything(catalog) == before
    catalog.replace_execution(FULL)
    with Catalog("sqlite://") as other:  # which keeps them
        other.replace_execution(attrs.evolve(FULL, **changes))
        assert other.executions().count() == 1
