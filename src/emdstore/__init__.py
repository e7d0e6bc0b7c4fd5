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
    from emdstore.lifecycle.batch import CommitInterrupted
    from emdstore.lifecycle.execution import Execution, materialize_execution
    from emdstore.lifecycle.ingest import IngestOutcome, ReplayInterrupted, ReplayReport, ingest, replay
    from emdstore.lifecycle.materialize import MaterializeOutcome, materialize_outputs
    from emdstore.lifecycle.offline import publish_execution, publish_pending_executions
    from emdstore.lifecycle.record import ExecutionRecord, publish_record
    from emdstore.lifecycle.result import ExecutionResult
    from emdstore.lifecycle.status import StatusDecision, resolve_status
    from emdstore.lifecycle.upload import UploadReport
    from emdstore.lifecycle.verify import VerifyInterrupted, VerifyReport, verify
    from emdstore.lifecycle.workspace import Workspace
    from emdstore.stores import (
        ArtifactInfo,
        ArtifactStore,
        FsspecStore,
        LocalStore,
        MemoryStore,
        ReadOnlyStore,
        S3Store,
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
    "FsspecStore",
    "IncompleteSetError",
    "IngestOutcome",
    "InvalidKeyError",
    "InvalidTransitionError",
    "KeyConflictError",
    "KeyOutcome",
    "LocalStore",
    "MaterializeOutcome",
    "MemoryStore",
    "MissingExtraError",
    "OutputWriter",
    "ReadOnlyStore",
    "RecordError",
    "RecordVersionError",
    "ReplayInterrupted",
    "ReplayReport",
    "S3Store",
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
    "emdstore.lifecycle.batch": "CommitInterrupted",
    "emdstore.lifecycle.upload": "UploadReport",
    "emdstore.lifecycle.execution": "Execution materialize_execution",
    "emdstore.lifecycle.ingest": "IngestOutcome ReplayInterrupted ReplayReport ingest replay",
    "emdstore.lifecycle.materialize": "MaterializeOutcome materialize_outputs",
    "emdstore.lifecycle.offline": "publish_execution publish_pending_executions",
    "emdstore.lifecycle.record": "ExecutionRecord publish_record",
    "emdstore.lifecycle.result": "ExecutionResult",
    "emdstore.lifecycle.status": "StatusDecision resolve_status",
    "emdstore.lifecycle.verify": "VerifyInterrupted VerifyReport verify",
    "emdstore.lifecycle.workspace": "Workspace",
    "emdstore.stores": (
        "ArtifactInfo ArtifactStore FsspecStore LocalStore MemoryStore ReadOnlyStore S3Store open_store scoped"
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
