"""The three files that describe a run's results (metric bundle, output bundle, series): read, check and write."""

from __future__ import annotations

from emdstore.emds.metric import MetricBundle, Scalar, ScalarRow, decode_metric_bundle, encode_metric_bundle
from emdstore.emds.output import OutputBundle, OutputEntry, OutputKind, decode_output_bundle, encode_output_bundle
from emdstore.emds.series import Series, decode_series, encode_series
from emdstore.emds.warning import BundleWarning

__all__ = [
    "BundleWarning",
    "MetricBundle",
    "OutputBundle",
    "OutputEntry",
    "OutputKind",
    "Scalar",
    "ScalarRow",
    "Series",
    "decode_metric_bundle",
    "decode_output_bundle",
    "decode_series",
    "encode_metric_bundle",
    "encode_output_bundle",
    "encode_series",
]
