"""Loading Climate-REF's database from a results tree, without scratch or the machine of the runs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import sqlalchemy as sa
from climate_ref.models import Diagnostic, Provider
from climate_ref.models.dataset import Dataset
from climate_ref.models.diagnostic import recompute_promoted_version
from climate_ref.models.execution import Execution, ExecutionGroup, execution_datasets
from climate_ref_core.datasets import SourceDatasetType
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session

from emdstore.catalog import ExecutionContent, RecordStamp
from emdstore.errors import DemotionRefusedError, EmdstoreError, RecordError
from emdstore.ingestion.filling import ReadSet, SetReader, replay_into
from emdstore.ingestion.replay_report import IngestOutcome, ReplayCallback, ReplayReport
from emdstore.integrations.climate_ref.handling import settle
from emdstore.integrations.climate_ref.identity import MEASURED, ours_in
from emdstore.integrations.climate_ref.opening import engine_of, look_at, refused
from emdstore.integrations.climate_ref.rows import RefRows, rows_of
from emdstore.integrations.climate_ref.schema import RefSchema
from emdstore.integrations.climate_ref.writing import replace_rows
from emdstore.sets.decision import StatusDecision
from emdstore.stores import ArtifactStore, scoped
from emdstore.stores.urls import StoreLike, as_source

if TYPE_CHECKING:
    from climate_ref.database import Database

_UNKNOWN = "unknown"


def replay(
    store: StoreLike,
    database: Database | str | Path,
    prefix: str = "",
    *,
    create_unknown: bool = True,
    on_progress: ReplayCallback | None = None,
) -> ReplayReport:
    """Load every set below a prefix of a results store into Climate-REF's database.

    Each set is loaded in one transaction: its group and execution are created if necessary, its outputs, scalars and
    series replace existing ones, and its datasets are linked if the database knows them. Its last retraction, or taking
    that back, sets Climate-REF's flag. A set that the database has already, whoever loaded it, is left alone. A failure
    does not stop the others.

    Parameters
    ----------
    store
        The results store, a path or a URL, with sets that have a record, or bare ones, as Climate-REF's own handler
        writes them.
    database
        Climate-REF's database, or its URL or SQLite file. It must have been set up (``ref db migrate``).
    prefix
        Only sets in this folder.
    create_unknown
        Whether to create providers and diagnostics that the database does not know; otherwise their sets are invalid.
    on_progress
        Called after each set with its outcome, the number done, and the number found, which is None until the listing
        has ended. Its exceptions are logged.

    Returns
    -------
    ReplayReport
        The number of sets with each outcome, and what was ingested or could not be.

    Raises
    ------
    StoreError
        If the store cannot be listed.
    CatalogError
        If the database cannot be used, or has an unknown version (`CatalogVersionError`). What was loaded until then is
        complete.
    ReplayInterrupted
        On Ctrl-C (it is a `KeyboardInterrupt`), with the report so far.
    """
    with engine_of(database) as engine:
        opened = as_source(store)
        sink = _RefSink(engine, look_at(engine), opened, create_unknown)
        return replay_into(sink, SetReader(opened), prefix, on_progress=on_progress)


@attrs.frozen
class _RefSink:
    """Climate-REF's database, which does not store records: every set is read and compared with the existing rows."""

    engine: sa.Engine
    schema: RefSchema
    store: ArtifactStore
    create_unknown: bool

    def known(self, fragments: Collection[str]) -> Mapping[str, RecordStamp]:
        return {}

    def note_stamps(self, stamps: Collection[RecordStamp]) -> None:
        raise AssertionError("no stamp is known, so there is none to be noted anew")

    def held(self, prefix: str) -> Iterator[RecordStamp]:
        return iter(())  # its rows are its own, so none are removed because a set is gone

    def has_elsewhere(self, stamp: RecordStamp) -> bool:
        return False

    def drop(self, stamp: RecordStamp) -> bool:
        return False

    def put(self, read: ReadSet) -> IngestOutcome:
        content, schema = read.content, self.schema
        told = IngestOutcome(content.fragment, "ingested", content.status, set_state=content.state)
        try:
            has_values = content.state in ("published", "bare")
            rows = rows_of(content, schema, scoped(self.store, read.location)) if has_values else RefRows()
            with Session(self.engine) as session, session.begin():
                execution = _execution(session, read)
                changed = bool(session.new) or execution is None
                if execution is None:
                    execution = _new_execution(session, read, self.create_unknown)
                elif execution.successful and not has_values:
                    raise DemotionRefusedError(
                        f"{content.fragment!r} is {content.state} by its record, and the database has it as "
                        f"successful (id {execution.id}): its rows stay",
                        key=content.fragment,
                    )
                notes = list(rows.notes)
                changed |= _link_datasets(session, execution, ours_in(read.record), notes)
                changed |= replace_rows(session, schema, execution.id, rows)
                settle(execution, schema, _decision(session, execution, content, changed), _metric_of(content))
                if (
                    read.word is not None
                ):  # without a retraction the database's own flag counts, which may be carried the other way
                    execution.retracted = read.word.retracted
                changed |= any(session.is_modified(each) for each in session.dirty)
        except DemotionRefusedError as error:
            return attrs.evolve(told, state="kept", error=error)
        except EmdstoreError as error:
            return attrs.evolve(told, state="invalid", error=error)
        except SQLAlchemyError as error:
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                raise refused(self.engine, error) from error
            look_at(self.engine)  # raises if the database is gone: every other set would fail, too
            return attrs.evolve(told, state="invalid", error=refused(self.engine, error))
        return attrs.evolve(
            told,
            state="ingested" if changed else "unchanged",
            outputs=len(rows.outputs),
            scalars=len(rows.scalars),
            series=len(rows.series),
            notes=tuple(notes),
        )


def _execution(session: Session, read: ReadSet) -> Execution | None:
    """Find the execution of a set in the database by its folder; refuse one that contradicts the set."""
    content, record = read.content, read.record
    by_fragment = sa.select(Execution).order_by(Execution.id).limit(1)
    known = session.scalar(by_fragment.where(Execution.output_fragment == content.fragment))
    if known is None:
        if record is not None and record.fragment != content.fragment:
            elsewhere = session.scalar(by_fragment.where(Execution.output_fragment == record.fragment))
            if elsewhere is not None:
                raise RecordError(
                    f"the set at {content.fragment!r} is {record.fragment!r} by its record, and the database knows "
                    f"that execution (id {elsewhere.id}) by that folder: move the set back, or replay it into a "
                    "database of its own",
                    key=content.fragment,
                )
        return None
    if content.dataset_hash is not None and known.dataset_hash != content.dataset_hash:
        raise RecordError(
            f"the database knows {content.fragment!r} as another execution (id {known.id}), with other datasets: two "
            "sites have used the same folder; replay one of them into a database of its own",
            key=content.fragment,
        )
    return known


def _new_execution(session: Session, read: ReadSet, create_unknown: bool) -> Execution:
    content, ours = read.content, ours_in(read.record)
    group = _group(session, _diagnostic(session, content, ours, create_unknown), content, ours)
    execution = Execution(
        execution_group=group, dataset_hash=content.dataset_hash or _UNKNOWN, output_fragment=content.fragment
    )
    if content.created_at is not None:
        execution.created_at = content.created_at.replace(tzinfo=None)
    for name, value in _mapping(ours, "execution").items():
        if name in MEASURED and hasattr(execution, name):
            setattr(execution, name, value)
    session.add(execution)
    session.flush()
    recompute_promoted_version(group.diagnostic_id, session)
    return execution


def _diagnostic(
    session: Session, content: ExecutionContent, ours: Mapping[str, Any], create_unknown: bool
) -> Diagnostic:
    provider = session.scalar(sa.select(Provider).where(Provider.slug == content.provider))
    diagnostic = None
    if provider is not None:
        by_slug = sa.select(Diagnostic).where(Diagnostic.slug == content.diagnostic)
        diagnostic = session.scalar(by_slug.where(Diagnostic.provider_id == provider.id))
    if diagnostic is not None:
        return diagnostic
    if not create_unknown:
        what = f"provider {content.provider!r}" if provider is None else f"diagnostic {content.diagnostic!r}"
        raise RecordError(
            f"the database does not know the {what} of {content.fragment!r}: register it with Climate-REF first, "
            "or let unknown ones be created",
            key=content.fragment,
        )
    if provider is None:
        told = _mapping(ours, "provider")
        provider = Provider(
            slug=content.provider,
            name=str(told.get("name", content.provider)),
            version=str(told.get("version", _UNKNOWN)),
        )
        session.add(provider)
    name = _mapping(ours, "diagnostic").get("name", content.diagnostic)
    diagnostic = Diagnostic(slug=content.diagnostic, name=str(name), provider=provider)
    session.add(diagnostic)
    session.flush()
    return diagnostic


def _group(
    session: Session, diagnostic: Diagnostic, content: ExecutionContent, ours: Mapping[str, Any]
) -> ExecutionGroup:
    version = _mapping(ours, "diagnostic").get("version", diagnostic.promoted_version)
    known = session.scalar(
        sa.select(ExecutionGroup).where(
            ExecutionGroup.diagnostic_id == diagnostic.id,
            ExecutionGroup.key == content.group,
            ExecutionGroup.diagnostic_version == version,
        )
    )
    if known is not None:
        return known
    types = {each.value for each in SourceDatasetType}
    selectors = {name: pairs for name, pairs in (content.selectors or {}).items() if name in types}
    group = ExecutionGroup(
        diagnostic=diagnostic,
        key=content.group,
        diagnostic_version=version,
        selectors=selectors,
        dirty=content.status != "uploaded",
    )
    session.add(group)
    session.flush()
    return group


def _link_datasets(session: Session, execution: Execution, ours: Mapping[str, Any], notes: list[str]) -> bool:
    """Link the datasets that the record names and the database knows, unless they are linked already."""
    slugs = {slug for named in _mapping(ours, "datasets").values() for slug in named}
    if not slugs:
        return False
    found = session.execute(sa.select(Dataset.id, Dataset.slug).where(Dataset.slug.in_(slugs)))
    known = {row.id: row.slug for row in found}
    if unknown := slugs - set(known.values()):
        notes.append(f"{len(unknown)} of {len(slugs)} input datasets are not in the database: {min(unknown)!r}, ...")
    own = execution_datasets.c.execution_id == execution.id
    linked = set(session.scalars(sa.select(execution_datasets.c.dataset_id).where(own)))
    rows = [{"execution_id": execution.id, "dataset_id": one} for one in sorted(known.keys() - linked)]
    if rows:
        session.execute(execution_datasets.insert(), rows)
    return bool(rows)


def _decision(session: Session, execution: Execution, content: ExecutionContent, changed: bool) -> StatusDecision:
    """Return the set's outcome, and the group's flag only if it is new and there is no later run."""
    latest = sa.select(Execution.id).where(Execution.execution_group_id == execution.execution_group_id)
    is_latest = (
        session.scalar(latest.order_by(Execution.created_at.desc(), Execution.id.desc()).limit(1)) == execution.id
    )
    status: Any = content.status
    failure: Any = content.failure
    news = changed or execution.successful is not (content.status == "uploaded")
    return StatusDecision(status, failure, content.dirty if news and is_latest else None, content.reason or "")


def _metric_of(content: ExecutionContent) -> str | None:
    return next((key for key, role, *_ in content.artifacts if role == "metric"), None)


def _mapping(ours: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = ours.get(name)
    return found if isinstance(found, Mapping) else {}
