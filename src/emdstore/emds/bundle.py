"""Reading a bundle of any role, with everything that is odd in it."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from emdstore.emds.jsontext import parse_counting, repeated_keys
from emdstore.emds.metric import MetricBundle, metric_bundle_in
from emdstore.emds.output import OutputBundle, output_bundle_in
from emdstore.emds.series import Series, series_in
from emdstore.emds.warning import BundleWarning

BundleRole: TypeAlias = Literal["metric", "output", "series"]
Bundle: TypeAlias = MetricBundle | OutputBundle | tuple[Series, ...]

_CHECK: Mapping[BundleRole, Callable[[Any, str], Bundle]] = {
    "metric": metric_bundle_in,
    "output": output_bundle_in,
    "series": series_in,
}


Read: TypeAlias = tuple[Bundle, tuple[BundleWarning, ...]]
_Key: TypeAlias = tuple[BundleRole, str, bytes]

_read: contextvars.ContextVar[dict[_Key, Read] | None]
_read = contextvars.ContextVar("emdstore_read_bundles", default=None)


@contextlib.contextmanager
def remembering() -> Iterator[None]:
    """Within the block, and in its thread, bytes that `read_bundle` has read are not parsed again."""
    token = _read.set({})
    try:
        yield
    finally:
        _read.reset(token)


def read_bundle(role: BundleRole, data: bytes, *, name: str) -> Read:
    """Read and check a bundle; its text is parsed once.

    Parameters
    ----------
    role
        Its role in the set.
    data
        The file's bytes.
    name
        The file's name in errors and warnings.

    Returns
    -------
    tuple
        The bundle, which others may have, too; and its warnings, with those about keys that occur more than once.

    Raises
    ------
    BundleError
        The bundle is not valid; the message names the file and the position.
    """
    read = _read.get()
    key: _Key = (role, name, data)
    if read is None:
        return _read_anew(*key)
    if key not in read:
        read[key] = _read_anew(*key)
    return read[key]


def _read_anew(role: BundleRole, name: str, data: bytes) -> Read:
    value, keys = parse_counting(data, name)
    bundle = _CHECK[role](value, name)
    own = () if isinstance(bundle, tuple) else bundle.warnings
    return bundle, (*own, *repeated_keys(data, keys, name))
