"""The public names, and where each is at home; see ``__init__.py``."""

from ._version import __version__ as __version__
from .catalog import (
    Catalog as Catalog,
)
from .catalog.snapshots import (
    Snapshot as Snapshot,
    list_snapshots as list_snapshots,
    prune_snapshots as prune_snapshots,
    remove_snapshot as remove_snapshot,
)
from .emds import (
    OutputWriter as OutputWriter,
    Vocabulary as Vocabulary,
    load_vocabulary as load_vocabulary,
)
from .errors import (
    ArtifactChangedError as ArtifactChangedError,
    ArtifactExistsError as ArtifactExistsError,
    ArtifactNotFoundError as ArtifactNotFoundError,
    ArtifactRetainedError as ArtifactRetainedError,
    BundleError as BundleError,
    CatalogError as CatalogError,
    CatalogUnavailableError as CatalogUnavailableError,
    CatalogVersionError as CatalogVersionError,
    ClaimHeldError as ClaimHeldError,
    ClaimLostError as ClaimLostError,
    DamagedOnTheWayError as DamagedOnTheWayError,
    DemotionRefusedError as DemotionRefusedError,
    EmdstoreError as EmdstoreError,
    ExecutionNotFoundError as ExecutionNotFoundError,
    ExecutorError as ExecutorError,
    ExportError as ExportError,
    IncompleteSetError as IncompleteSetError,
    IntegrityError as IntegrityError,
    Interrupted as Interrupted,
    InvalidKeyError as InvalidKeyError,
    InvalidTransitionError as InvalidTransitionError,
    KeyConflictError as KeyConflictError,
    LookRefusedError as LookRefusedError,
    MissingExtraError as MissingExtraError,
    OvertakenError as OvertakenError,
    PruneRefusedError as PruneRefusedError,
    QueryError as QueryError,
    ReadOnlyCatalogError as ReadOnlyCatalogError,
    RecordError as RecordError,
    RecordVersionError as RecordVersionError,
    ReleaseChangedError as ReleaseChangedError,
    ReleasedSetError as ReleasedSetError,
    ReleaseError as ReleaseError,
    ReleaseNotFoundError as ReleaseNotFoundError,
    SameStoreError as SameStoreError,
    SelectionError as SelectionError,
    ShadowedSetError as ShadowedSetError,
    SinkError as SinkError,
    SnapshotError as SnapshotError,
    SnapshotNotFoundError as SnapshotNotFoundError,
    SourceChangedError as SourceChangedError,
    StoreAccessError as StoreAccessError,
    StoreError as StoreError,
    StoreNotFoundError as StoreNotFoundError,
    StoreUnavailableError as StoreUnavailableError,
    StoreURLError as StoreURLError,
    TransferError as TransferError,
    UnsafePathError as UnsafePathError,
    UnsupportedError as UnsupportedError,
    UploadFailedError as UploadFailedError,
    VocabularyError as VocabularyError,
    WorkspaceError as WorkspaceError,
)
from .executions.batch import (
    CommitInterrupted as CommitInterrupted,
)
from .executions.execution import (
    Execution as Execution,
)
from .executions.starting import (
    materialize_execution as materialize_execution,
)
from .executions.upload_report import (
    UploadReport as UploadReport,
)
from .executions.without_catalog import (
    publish_execution as publish_execution,
    publish_pending_executions as publish_pending_executions,
)
from .executions.workspace import (
    Workspace as Workspace,
)
from .ingestion.replay import (
    ingest as ingest,
    replay as replay,
)
from .ingestion.replay_report import (
    IngestOutcome as IngestOutcome,
    ReplayInterrupted as ReplayInterrupted,
    ReplayReport as ReplayReport,
)
from .ingestion.snapshot import (
    write_snapshot as write_snapshot,
)
from .selection import (
    Selection as Selection,
)
from .sets.comparing import (
    Compared as Compared,
    Difference as Difference,
    compare as compare,
)
from .sets.decision import (
    StatusDecision as StatusDecision,
    resolve_status as resolve_status,
)
from .sets.events import (
    Event as Event,
    EventCursor as EventCursor,
    Follower as Follower,
    begin_log as begin_log,
    end_log as end_log,
    read_events as read_events,
    trim_events as trim_events,
)
from .sets.listing import (
    ListedSet as ListedSet,
    list_sets as list_sets,
)
from .sets.materialize import (
    materialize_outputs as materialize_outputs,
)
from .sets.origin import (
    Dataset as Dataset,
    Resources as Resources,
)
from .sets.outcome import (
    MaterializeOutcome as MaterializeOutcome,
)
from .sets.record import (
    ExecutionRecord as ExecutionRecord,
    publish_record as publish_record,
)
from .sets.release import (
    Alias as Alias,
    Release as Release,
    ReleaseDiff as ReleaseDiff,
    list_aliases as list_aliases,
    list_releases as list_releases,
    point_alias as point_alias,
    read_release as read_release,
)
from .sets.releasing import (
    ReleaseCheck as ReleaseCheck,
    check_release as check_release,
    create_release as create_release,
)
from .sets.repair import (
    RepairReport as RepairReport,
    repair as repair,
)
from .sets.result import (
    ExecutionResult as ExecutionResult,
)
from .sets.retraction import (
    Retraction as Retraction,
    read_retraction as read_retraction,
    retract as retract,
    unretract as unretract,
)
from .sets.schema import (
    record_schema as record_schema,
    retraction_schema as retraction_schema,
)
from .sets.transfer import (
    plan_transfer as plan_transfer,
    transfer as transfer,
)
from .sets.verify import (
    VerifyInterrupted as VerifyInterrupted,
    VerifyReport as VerifyReport,
    verify as verify,
)
from .stores import (
    ArtifactInfo as ArtifactInfo,
    ArtifactStore as ArtifactStore,
    AzureArtifactStore as AzureArtifactStore,
    FsspecArtifactStore as FsspecArtifactStore,
    GoogleArtifactStore as GoogleArtifactStore,
    InMemoryArtifactStore as InMemoryArtifactStore,
    LocalArtifactStore as LocalArtifactStore,
    ReadOnlyStore as ReadOnlyStore,
    S3ArtifactStore as S3ArtifactStore,
    SSHArtifactStore as SSHArtifactStore,
    open_store as open_store,
    scoped as scoped,
)
from .transfers import (
    Bandwidth as Bandwidth,
    KeyOutcome as KeyOutcome,
    SetOutcome as SetOutcome,
    TransferInterrupted as TransferInterrupted,
    TransferProgress as TransferProgress,
    TransferReport as TransferReport,
)
