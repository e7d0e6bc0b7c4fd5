"""Which files of a fragment make up one artifact set, and under which keys.

These are pure functions from names to keys and rejections; they read no files. A name in a bundle is text from some
program, perhaps on another machine. It becomes a key only if it names a file inside the fragment; otherwise it is
reported, and nothing outside the fragment is ever accessed. Names are taken literally: percent signs are not decoded
and Unicode is not normalised, so only a plain ``..`` means "up", and it is resolved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal

import attrs

from emdstore.emds.jsontext import place
from emdstore.emds.output import SECTIONS, OutputBundle, OutputKind
from emdstore.emds.warning import BundleWarning
from emdstore.errors import InvalidKeyError
from emdstore.keys import validate_key

Role = Literal["log", "metric", "output", "plot", "data", "html", "series"]
RejectionCode = Literal["outside-fragment", "unmatched-path", "invalid-name", "reserved-name"]

RECORD_NAME = "execution.json"
"""The key of a set's record. No artifact may use it: a set is published if and only if its record is there."""

RETRACTION_NAME = "retraction.json"
"""The key of a set's retraction. No artifact may use it, either."""

_USUAL_DEPTH = 4

_MEDIA_TYPES = {
    "bib": "application/x-bibtex",
    "bibtex": "application/x-bibtex",
    "css": "text/css",
    "csv": "text/csv",
    "gif": "image/gif",
    "geojson": "application/geo+json",
    "gz": "application/gzip",
    "htm": "text/html",
    "html": "text/html",
    "jpeg": "image/jpeg",
    "jpg": "image/jpeg",
    "js": "text/javascript",
    "json": "application/json",
    "log": "text/plain",
    "md": "text/markdown",
    "nc": "application/x-netcdf",
    "nc4": "application/x-netcdf",
    "parquet": "application/vnd.apache.parquet",
    "pdf": "application/pdf",
    "png": "image/png",
    "ps": "application/postscript",
    "svg": "image/svg+xml",
    "tif": "image/tiff",
    "tiff": "image/tiff",
    "txt": "text/plain",
    "webp": "image/webp",
    "xml": "application/xml",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "zip": "application/zip",
}


@attrs.frozen
class Rejection:
    """Why a name does not become a key.

    Attributes
    ----------
    code
        ``"outside-fragment"``: it points outside the fragment. ``"unmatched-path"``: an absolute path of another
        place that does not contain the fragment. ``"invalid-name"``: no store accepts it. ``"reserved-name"``: it is
        the name of the set's record or retraction.
    reason
        An explanation for people.
    """

    code: RejectionCode
    reason: str


@attrs.frozen
class ArtifactRef:
    """One file of the set.

    Attributes
    ----------
    key
        Its key, relative to the fragment.
    role
        What it is. Of several roles, log and bundles come first, then the order of `ArtifactSet.artifacts`.
    description
        The entry's description, or its long name where that is empty; ``""`` for the log, bundles and series.
    media_type
        Its MIME type, by its suffix.
    """

    key: str
    role: Role
    description: str
    media_type: str


@attrs.frozen
class ResolvedOutput:
    """One entry of the output bundle, with the key for its file name.

    Attributes
    ----------
    position
        Its number in the bundle: plots, then data, then html, from 0.
    kind, name, filename, long_name, description, dimensions
        As in the bundle.
    key
        The artifact, or the folder of artifacts; None if the name was rejected.
    """

    position: int
    kind: OutputKind
    name: str
    key: str | None
    filename: str
    long_name: str
    description: str
    dimensions: Mapping[str, str]


@attrs.frozen
class RejectedName:
    """A name that did not become a key.

    Attributes
    ----------
    role
        The role that the file would have had.
    name
        The entry's name in the output bundle; ``""`` for the log, bundles and series.
    filename
        The name as written.
    code, reason
        As in `Rejection`.
    """

    role: Role
    name: str
    filename: str
    code: RejectionCode
    reason: str


@attrs.frozen
class ArtifactSet:
    """The files of one execution's set.

    Attributes
    ----------
    artifacts
        Log, metric bundle, output bundle, plots, data, html, series; each key once.
    outputs
        Every entry of the output bundle; several may share an artifact.
    rejected
        The names that are not followed.
    """

    artifacts: tuple[ArtifactRef, ...]
    outputs: tuple[ResolvedOutput, ...] = ()
    rejected: tuple[RejectedName, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """The artifacts' keys, in the same order."""
        return tuple(artifact.key for artifact in self.artifacts)

    @property
    def warnings(self) -> tuple[BundleWarning, ...]:
        """Warnings about rejected names, and about files that several entries name."""
        return (*(_warning(name) for name in self.rejected), *self._shared())

    def _shared(self) -> Iterator[BundleWarning]:
        first: dict[str, ResolvedOutput] = {}
        for output in self.outputs:
            if output.key is not None and (other := first.setdefault(output.key, output)) is not output:
                message = (
                    f"{output.kind} {output.name!r} names {output.key!r}, as {other.kind} {other.name!r} does: it is "
                    "one artifact, described by the first"
                )
                yield BundleWarning("shared-artifact", message, place(SECTIONS[output.kind], output.name, "filename"))


def artifact_set(
    *,
    log: str = "out.log",
    metric: str | None = None,
    output: str | None = None,
    series: str | None = None,
    bundle: OutputBundle | None = None,
    ran_in: str | tuple[str, ...] | None = None,
    fragment: str | None = None,
    files_below: Callable[[str], Iterable[str]] | None = None,
) -> ArtifactSet:
    """Decide which files make up one set.

    Parameters
    ----------
    log, metric, output, series
        The names in the execution's result; None for those that it lacks.
    bundle
        The output bundle, if there is one.
    ran_in, fragment
        As in `resolve_name`.
    files_below
        Returns the keys in a folder: an output may be a folder of many files, such as a zarr store, each of which is an
        artifact. None if folders cannot be listed.

    Returns
    -------
    ArtifactSet
        Names that cannot be followed are in `ArtifactSet.rejected`; nothing is raised for them.
    """
    artifacts: dict[str, ArtifactRef] = {}
    outputs: list[ResolvedOutput] = []
    rejected: list[RejectedName] = []

    def add(role: Role, filename: str, name: str = "", description: str = "") -> str | None:
        key = resolve_name(filename, ran_in=ran_in, fragment=fragment)
        if isinstance(key, Rejection):
            rejected.append(RejectedName(role, name, filename, key.code, key.reason))
            return None
        below = sorted(files_below(key)) if files_below is not None and role in SECTIONS else []
        for each in below or [key]:
            artifacts.setdefault(each, ArtifactRef(each, role, description, media_type(each)))
        return key

    add("log", log)
    if metric is not None:
        add("metric", metric)
    if output is not None:
        add("output", output)
    for position, entry in enumerate(bundle.entries if bundle else ()):
        key = add(entry.kind, entry.filename, entry.name, entry.description or entry.long_name)
        outputs.append(
            ResolvedOutput(
                position=position,
                kind=entry.kind,
                name=entry.name,
                key=key,
                filename=entry.filename,
                long_name=entry.long_name,
                description=entry.description,
                dimensions=entry.dimensions,
            )
        )
    for entry in bundle.metrics if bundle else ():
        add("data", entry.filename, entry.name, entry.description or entry.long_name)
    if series is not None:
        key = add("series", series)
        # An entry that names the series file determines its position, but not its role.
        if key in artifacts and artifacts[key].role in SECTIONS:
            artifacts[key] = attrs.evolve(artifacts[key], role="series")
    return ArtifactSet(tuple(artifacts.values()), tuple(outputs), tuple(rejected))


def resolve_name(
    filename: str, *, ran_in: str | tuple[str, ...] | None = None, fragment: str | None = None
) -> str | Rejection:
    """Turn a file name in a bundle or a result into a key inside the fragment.

    Parameters
    ----------
    filename
        Relative to the fragment, or absolute. It is normalised: ``plots/../plots/a.png`` is ``plots/a.png``.
    ran_in
        The absolute path of the directory that the diagnostic ran in, or all of its paths; absolute names are made
        relative to it.
    fragment
        The fragment's path in its store. An absolute name from another machine is searched for it, in whole
        segments; the last match that leaves a name counts. If the tree now lies in further folders, leading
        segments may be missing in the name, down to the usual four (provider, diagnostic, group, execution).

    Returns
    -------
    str or Rejection
        A valid key, or why there is none.
    """
    segments = _normalised(filename)
    if filename.startswith("/"):
        inside = _inside(segments, ran_in, fragment)
        if inside is None and _inside(filename.split("/"), ran_in, fragment) is None:
            return Rejection("unmatched-path", "an absolute path of another place that does not contain the fragment")
        segments = inside if inside is not None else [".."]  # it started inside and then went up
    if segments[:1] == [".."]:
        return Rejection("outside-fragment", "it points outside the fragment")
    if not segments:
        return Rejection("invalid-name", "it names the fragment itself, not a file")
    key = "/".join(segments)
    try:
        validate_key(key)
    except InvalidKeyError as error:
        return Rejection("invalid-name", str(error))
    if key in (RECORD_NAME, RETRACTION_NAME):
        what = "record" if key == RECORD_NAME else "retraction"
        return Rejection("reserved-name", f"{key} is the set's own {what}")
    return key


def media_type(key: str) -> str:
    """Return the MIME type for a key's suffix, the same on every machine; ``application/octet-stream`` if unknown."""
    _, dot, suffix = key.rpartition("/")[2].rpartition(".")
    return _MEDIA_TYPES.get(suffix.lower() if dot else "", "application/octet-stream")


def _normalised(path: str) -> list[str]:
    """Split a path and resolve ``.`` and ``..`` by name alone; a relative path that leaves its folder keeps ``..``."""
    segments: list[str] = []
    for segment in path.split("/"):
        if segment in ("", "."):
            continue
        if segment != "..":
            segments.append(segment)
        elif segments and segments[-1] != "..":
            segments.pop()
        elif not path.startswith("/"):
            segments.append("..")
    return segments


def _inside(segments: list[str], ran_in: str | tuple[str, ...] | None, fragment: str | None) -> list[str] | None:
    """Return the part of an absolute path below the fragment; None if it is not known to lie there."""
    segments = [segment for segment in segments if segment not in ("", ".")]
    for known in (ran_in,) if isinstance(ran_in, str) else ran_in or ():
        base = _normalised(known)
        if known.startswith("/") and segments[: len(base)] == base:
            return segments[len(base) :]
    wanted = _normalised(fragment or "")
    for first in range(max(1, len(wanted) - _USUAL_DEPTH + 1)) if wanted else ():
        tail = wanted[first:]
        for start in range(len(segments) - len(tail) - 1, -1, -1):
            if segments[start : start + len(tail)] == tail:
                return segments[start + len(tail) :]
    return None


def _warning(rejected: RejectedName) -> BundleWarning:
    message = f"{rejected.role} {rejected.filename!r} is not followed: {rejected.reason}"
    at = ""
    if rejected.role in ("plot", "data", "html"):
        at = place(SECTIONS[rejected.role], rejected.name, "filename")
    return BundleWarning(rejected.code, message, at)
