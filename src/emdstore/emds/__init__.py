"""The EMDS format of an execution's results: read, check and write bundles, and decide which files make up a set."""

from __future__ import annotations

from emdstore.emds.artifact_set import (
    RECORD_NAME,
    RETRACTION_NAME,
    ArtifactRef,
    ArtifactSet,
    RejectedName,
    Rejection,
    ResolvedOutput,
    Role,
    artifact_set,
    media_type,
    resolve_name,
)
from emdstore.emds.bundles import (
    BundleWarning,
    MetricBundle,
    OutputBundle,
    OutputEntry,
    OutputKind,
    Scalar,
    ScalarRow,
    Series,
    decode_metric_bundle,
    decode_output_bundle,
    decode_series,
    encode_metric_bundle,
    encode_output_bundle,
    encode_series,
)
from emdstore.emds.checking import BundleCheck, BundleKind, bundle_schema, check_bundle
from emdstore.emds.jsontext import duplicate_keys
from emdstore.emds.vocabulary import Dimension, DimensionValue, Vocabulary, load_vocabulary
from emdstore.emds.writer import OutputWriter, WrittenBundles

__all__ = [
    "RECORD_NAME",
    "RETRACTION_NAME",
    "ArtifactRef",
    "ArtifactSet",
    "BundleCheck",
    "BundleKind",
    "BundleWarning",
    "Dimension",
    "DimensionValue",
    "MetricBundle",
    "OutputBundle",
    "OutputEntry",
    "OutputKind",
    "OutputWriter",
    "RejectedName",
    "Rejection",
    "ResolvedOutput",
    "Role",
    "Scalar",
    "ScalarRow",
    "Series",
    "Vocabulary",
    "WrittenBundles",
    "artifact_set",
    "bundle_schema",
    "check_bundle",
    "decode_metric_bundle",
    "decode_output_bundle",
    "decode_series",
    "duplicate_keys",
    "encode_metric_bundle",
    "encode_output_bundle",
    "encode_series",
    "load_vocabulary",
    "media_type",
    "resolve_name",
]
