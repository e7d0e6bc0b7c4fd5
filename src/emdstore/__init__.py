"""Promote the artifacts of climate diagnostics, whole and verified, and load a database from what was published.

The names in ``__all__`` are the public ones. They are resolved when they are first used, so that importing the package
loads no engine and no database library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from emdstore._version import __version__

# Not lazy: once anything has loaded the package `emdstore.transfer`, this name would stand for the package.
from emdstore.transfer import transfer

if TYPE_CHECKING:
    from emdstore.catalog import Catalog
    from emdstore.emds import OutputWriter, Vocabulary, load_vocabulary
    from emdstore.errors import (
        ArtifactExistsError,
        ArtifactNotFoundError,
        BundleError,
        CatalogError,
        CatalogUnavailableError,
        CatalogVersionError,
        ClaimHeldError,
        ClaimLostError,
        EmdstoreError,
        ExecutionNotFoundError,
        ExecutorError,
        ExportError,
        IncompleteSetError,
        InvalidKeyError,
        InvalidTransitionError,
        KeyConflictError,
        MissingExtraError,
        RecordError,
        RecordVersionError,
        SameStoreError,
        SourceChangedError,
        StoreAccessError,
        StoreError,
        StoreUnavailableError,
        StoreURLError,
        TransferError,
        UnsafePathError,
        VocabularyError,
        WorkspaceError,
    )
    from emdstore.executions.batch import CommitInterrupted
    from emdstore.executions.execution import Execution, materialize_execution
    from emdstore.executions.report import UploadReport
    from emdstore.executions.without_catalog import publish_execution, publish_pending_executions
    from emdstore.executions.workspace import Workspace
    from emdstore.ingestion.replay import IngestOutcome, ReplayInterrupted, ReplayReport, ingest, replay
    from emdstore.sets.decision import StatusDecision, resolve_status
    from emdstore.sets.materialize import MaterializeOutcome, materialize_outputs
    from emdstore.sets.record import ExecutionRecord, publish_record
    from emdstore.sets.result import ExecutionResult
    from emdstore.sets.verify import VerifyInterrupted, VerifyReport, verify
    from emdstore.stores import (
        ArtifactInfo,
        ArtifactStore,
        FsspecArtifactStore,
        InMemoryArtifactStore,
        LocalArtifactStore,
        ReadOnlyStore,
        S3ArtifactStore,
        open_store,
        scoped,
    )
    from emdstore.transfer import KeyOutcome, TransferInterrupted, TransferProgress, TransferReport, plan_transfer

__all__ = [
    "ArtifactExistsError",
    "ArtifactInfo",
    "ArtifactNotFoundError",
    "ArtifactStore",
    "BundleError",
    "Catalog",
    "CatalogError",
    "CatalogUnavailableError",
    "CatalogVersionError",
    "ClaimHeldError",
    "ClaimLostError",
    "CommitInterrupted",
    "EmdstoreError",
    "Execution",
    "ExecutionNotFoundError",
    "ExecutionRecord",
    "ExecutionResult",
    "ExecutorError",
    "ExportError",
    "FsspecArtifactStore",
    "InMemoryArtifactStore",
    "IncompleteSetError",
    "IngestOutcome",
    "InvalidKeyError",
    "InvalidTransitionError",
    "KeyConflictError",
    "KeyOutcome",
    "LocalArtifactStore",
    "MaterializeOutcome",
    "MissingExtraError",
    "OutputWriter",
    "ReadOnlyStore",
    "RecordError",
    "RecordVersionError",
    "ReplayInterrupted",
    "ReplayReport",
    "S3ArtifactStore",
    "SameStoreError",
    "SourceChangedError",
    "StatusDecision",
    "StoreAccessError",
    "StoreError",
    "StoreURLError",
    "StoreUnavailableError",
    "TransferError",
    "TransferInterrupted",
    "TransferProgress",
    "TransferReport",
    "UnsafePathError",
    "UploadReport",
    "VerifyInterrupted",
    "VerifyReport",
    "Vocabulary",
    "VocabularyError",
    "Workspace",
    "WorkspaceError",
    "__version__",
    "ingest",
    "load_vocabulary",
    "materialize_execution",
    "materialize_outputs",
    "open_store",
    "plan_transfer",
    "publish_execution",
    "publish_pending_executions",
    "publish_record",
    "replay",
    "resolve_status",
    "scoped",
    "transfer",
    "verify",
]

_HOMES = {  # module: names; a module is imported when one of its names is used
    "emdstore.catalog": "Catalog",
    "emdstore.emds": "OutputWriter Vocabulary load_vocabulary",
    "emdstore.errors": (
        "ArtifactExistsError ArtifactNotFoundError BundleError CatalogError CatalogUnavailableError "
        "CatalogVersionError ClaimHeldError ClaimLostError EmdstoreError ExecutionNotFoundError ExecutorError "
        "ExportError IncompleteSetError InvalidKeyError InvalidTransitionError KeyConflictError MissingExtraError "
        "RecordError RecordVersionError SameStoreError SourceChangedError StoreAccessError StoreError "
        "StoreUnavailableError StoreURLError TransferError UnsafePathError VocabularyError WorkspaceError"
    ),
    "emdstore.executions.batch": "CommitInterrupted",
    "emdstore.executions.report": "UploadReport",
    "emdstore.executions.execution": "Execution materialize_execution",
    "emdstore.ingestion.replay": "IngestOutcome ReplayInterrupted ReplayReport ingest replay",
    "emdstore.sets.materialize": "MaterializeOutcome materialize_outputs",
    "emdstore.executions.without_catalog": "publish_execution publish_pending_executions",
    "emdstore.sets.record": "ExecutionRecord publish_record",
    "emdstore.sets.result": "ExecutionResult",
    "emdstore.sets.decision": "StatusDecision resolve_status",
    "emdstore.sets.verify": "VerifyInterrupted VerifyReport verify",
    "emdstore.executions.workspace": "Workspace",
    "emdstore.stores": (
        "ArtifactInfo ArtifactStore FsspecArtifactStore InMemoryArtifactStore LocalArtifactStore ReadOnlyStore "
        "S3ArtifactStore open_store scoped"
    ),
    "emdstore.transfer": "KeyOutcome TransferInterrupted TransferProgress TransferReport plan_transfer",
}
_HOME = {name: home for home, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
