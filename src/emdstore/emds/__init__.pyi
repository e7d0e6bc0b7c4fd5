"""The public names, and where each is at home; see ``__init__.py``."""

from .bundle import (
    Bundle as Bundle,
    BundleRole as BundleRole,
    read_bundle as read_bundle,
    remembering as remembering,
)
from .checking import (
    BundleCheck as BundleCheck,
    BundleKind as BundleKind,
    bundle_schema as bundle_schema,
    check_bundle as check_bundle,
)
from .curating import (
    RECORD_NAME as RECORD_NAME,
    RETRACTION_NAME as RETRACTION_NAME,
    ArtifactRef as ArtifactRef,
    ArtifactSet as ArtifactSet,
    RejectedName as RejectedName,
    Rejection as Rejection,
    ResolvedOutput as ResolvedOutput,
    Role as Role,
    artifact_set as artifact_set,
    media_type as media_type,
    resolve_name as resolve_name,
)
from .jsontext import duplicate_keys as duplicate_keys
from .metric import (
    MetricBundle as MetricBundle,
    Scalar as Scalar,
    ScalarRow as ScalarRow,
    decode_metric_bundle as decode_metric_bundle,
    encode_metric_bundle as encode_metric_bundle,
)
from .output import (
    OutputBundle as OutputBundle,
    OutputEntry as OutputEntry,
    OutputKind as OutputKind,
    decode_output_bundle as decode_output_bundle,
    encode_output_bundle as encode_output_bundle,
)
from .series import (
    Series as Series,
    decode_series as decode_series,
    encode_series as encode_series,
)
from .vocabulary import (
    Dimension as Dimension,
    DimensionValue as DimensionValue,
    Vocabulary as Vocabulary,
    load_vocabulary as load_vocabulary,
)
from .warning import BundleWarning as BundleWarning
from .writer import (
    OutputWriter as OutputWriter,
    WrittenBundles as WrittenBundles,
)
