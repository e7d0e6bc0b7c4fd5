"""Comparing results by what they mean: what did a new run, a new release or another site change?

Executions are paired by what they are of (provider, diagnostic, group), the latest of each, and their values by
dimensions, so that neither folders nor times nor the order in files matter. `emdstore.sets.comparing` compares bytes.
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs
import msgspec

from emdstore.catalog.catalog import Catalog
from emdstore.catalog.contents import Seen, compare_contents
from emdstore.catalog.query import Query
from emdstore.catalog.rows import ExecutionRow
from emdstore.catalog.values import HeldValues, Labels
from emdstore.errors import EmdstoreError, QueryError
from emdstore.stores.checksums import sha256_of
from emdstore.stores.port import ArtifactStore
from emdstore.stores.views import scoped

Verdict = Literal["missing", "new", "changed", "within", "equal"]
VERDICTS: tuple[Verdict, ...] = ("missing", "new", "changed", "within", "equal")
ItemKind = Literal["execution", "scalar", "series", "artifact"]

Identity: TypeAlias = "tuple[str, str, str]"
"""Provider, diagnostic and group."""

_AT_ONCE = 200  # pairs whose values are in memory together
_METRIC = "metric"
_MOST_BYTES = 64 * 1024 * 1024  # of an artifact that is looked into


@attrs.frozen
class Tolerance:
    """How far apart two numbers may be and still be as good as equal.

    Attributes
    ----------
    relative
        To the larger one of them.
    absolute
        In their own unit; either is enough.
    """

    relative: float = attrs.field(default=0.0, validator=[attrs.validators.ge(0)])
    absolute: float = attrs.field(default=0.0, validator=[attrs.validators.ge(0)])

    def allows(self, a: float | None, b: float | None) -> bool:
        """Tell whether two numbers are close enough; two that are missing are, and one that is missing is not."""
        gone_a, gone_b = a is None or a != a, b is None or b != b
        if gone_a or gone_b:
            return gone_a and gone_b
        assert a is not None
        assert b is not None
        return a == b or math.isclose(a, b, rel_tol=self.relative, abs_tol=self.absolute)


@attrs.frozen
class Rules:
    """How results are compared.

    Attributes
    ----------
    tolerance
        Of all values, but for those of the metrics in `of_metric`.
    of_metric
        By the value of the dimension ``metric``.
    artifacts
        Whether an artifact with other bytes has changed. They often have times in them, so that is not so by default:
        then only those that are missing or new count.
    contents
        Whether to look into artifacts with other bytes, where both sides have a store: pictures by a perceptual hash,
        tables by their cells, text without dates, hosts and paths. What nobody can look into is as `artifacts` says.
    bits
        In how many of 256 bits the hashes of two pictures may differ.
    """

    tolerance: Tolerance = Tolerance()
    of_metric: Mapping[str, Tolerance] = attrs.field(factory=dict)
    artifacts: bool = False
    contents: bool = False
    bits: int = attrs.field(default=0, validator=[attrs.validators.ge(0)])

    def tolerance_of(self, labels: Labels) -> Tolerance:
        """Return the tolerance of a value with these dimensions."""
        own = (self.of_metric[value] for name, value in labels if name == _METRIC and value in self.of_metric)
        return next(own, self.tolerance)


_OTHERS = "*"


def read_tolerances(file: Path, rules: Rules = Rules()) -> Rules:
    """Return rules with the tolerances of metrics that a file has; ``*`` is for all that are not named.

    Parameters
    ----------
    file
        JSON, or TOML if its name ends so: ``{"rmse": {"relative": 1e-6, "absolute": 0}, "*": {"relative": 1e-9}}``.
    rules
        What else holds.

    Raises
    ------
    QueryError
        If the file cannot be read, or says something else.
    """
    try:
        data = file.read_bytes()
        told = tomllib.loads(data.decode()) if file.suffix == ".toml" else msgspec.json.decode(data)
        of_metric = msgspec.convert(told, dict[str, Tolerance])
    except OSError as error:
        raise QueryError(f"the tolerances in {str(file)!r} cannot be read: {error.strerror}") from error
    except ValueError as error:  # JSON, TOML, UTF-8, and numbers below 0
        raise QueryError(f"the tolerances in {str(file)!r} cannot be read: {error}") from error
    return attrs.evolve(rules, tolerance=of_metric.pop(_OTHERS, rules.tolerance), of_metric=of_metric)


@attrs.frozen
class Side:
    """What is compared: the executions of a catalog that some filters select; see `Catalog.executions`.

    Attributes
    ----------
    catalog, filters
        The catalog, and the filters.
    store
        Its results store, to look into artifacts; None if nobody knows it.
    """

    catalog: Catalog
    filters: Mapping[str, Any] = attrs.field(factory=dict)
    store: ArtifactStore | None = None

    def executions(self) -> Query[ExecutionRow]:
        """Return its executions: all of a release, otherwise the latest of each group."""
        chosen: dict[str, Any] = {**self.filters}
        if "release" not in chosen:
            chosen.setdefault("latest", True)
        return self.catalog.executions(**chosen)

    def count_retracted(self) -> int:
        """Return how many sets of a release are no part of it any more, because they were retracted."""
        if "release" not in self.filters:
            return 0
        chosen: dict[str, Any] = {**self.filters, "retracted": True}
        return self.catalog.executions(**chosen).count()


RELEASE = "release:"
"""What the name of a side that is a release begins with."""


def side_of(catalog: Catalog, name: str, filters: Mapping[str, Any], store: ArtifactStore | None = None) -> Side:
    """Return what the name of a side means in a catalog.

    Parameters
    ----------
    catalog
        The catalog.
    name
        A release, ``release:2026.1``; or an execution or a folder, ``pmp/enso_tel``, ``""`` for all.
    filters
        What else chooses.
    store
        The results store of the catalog.
    """
    if name.startswith(RELEASE):
        return Side(catalog, {**filters, "release": name.removeprefix(RELEASE)}, store)
    folder = name.removesuffix("/")
    chosen = {**filters, "fragment": folder} if folder else {**filters}
    single = catalog.executions(fragment=folder, retracted=None).first() if folder else None
    if single is not None and single.fragment == folder:
        chosen |= {"latest": False, "retracted": None}  # this very one, whatever was said of it since
    return Side(catalog, chosen, store)


@attrs.frozen
class Item:
    """One thing that was compared, and is not equal.

    Attributes
    ----------
    kind
        ``scalar``, ``series``, ``artifact``, or ``execution`` for all of one.
    verdict
        ``missing``: only the first side has it; ``new``: only the second; ``changed``; ``within`` the tolerance.
    name
        Of an artifact its key; of a series what it runs along.
    dimensions
        Of a scalar or a series.
    a, b
        The values of a scalar.
    distance
        How far apart numbers are, at most: the absolute difference; None where that cannot be told.
    detail
        What is different, where that is not the numbers.
    """

    kind: ItemKind
    verdict: Verdict
    name: str = ""
    dimensions: Mapping[str, str] = attrs.field(factory=dict)
    a: float | None = None
    b: float | None = None
    distance: float | None = None
    detail: str = ""

    def __str__(self) -> str:
        """Say in a line what is different, without the verdict."""
        if self.kind in ("execution", "artifact"):
            return f"{self.name}{': ' + self.detail if self.detail else ''}"
        of = ", ".join(f"{name}={value}" for name, value in self.dimensions.items())
        if self.kind == "series":
            told = self.detail or ("" if self.distance is None else f"up to {self.distance:.6g} apart")
            return f"series over {self.name}{', ' + of if of else ''}{': ' + told if told else ''}"
        if self.verdict in ("missing", "new"):
            return f"{of}: {_number_text(self.a if self.verdict == 'missing' else self.b)}"
        return f"{of}: {_number_text(self.a)} → {_number_text(self.b)}"


def _number_text(value: float | None) -> str:
    return "none" if value is None or value != value else repr(value) if abs(value) < 1e15 else f"{value:g}"


def worst_of(counts: Mapping[Verdict, int]) -> Verdict:
    """Return the worst verdict that occurs."""
    for each in VERDICTS:
        if counts.get(each):
            return each
    return "equal"


@attrs.frozen
class Pair:
    """Two executions of the same, or one that has no other.

    Attributes
    ----------
    provider, diagnostic, group
        What they are of.
    a, b
        Their fragments; None on the side that has none.
    counts
        How many things there are of each verdict.
    items
        Those that are not equal.
    """

    provider: str
    diagnostic: str
    group: str
    a: str | None
    b: str | None
    counts: Mapping[Verdict, int]
    items: tuple[Item, ...] = ()

    @property
    def title(self) -> str:
        """What they are of, and where they are."""
        fragments = " → ".join(each for each in (self.a, self.b) if each is not None)
        return f"{self.provider}/{self.diagnostic}/{self.group} ({fragments})"

    @property
    def verdict(self) -> Verdict:
        """The worst of all."""
        return worst_of(self.counts)


def compare_results(
    a: Side, b: Side, rules: Rules = Rules(), *, on_progress: Callable[[int, int], object] | None = None
) -> Iterator[Pair]:
    """Compare what two catalogs, or two selections of one, hold.

    Parameters
    ----------
    a, b
        What was before, and what is now. Where both select a single execution these two are compared, whatever they
        are of.
    rules
        What is close enough.
    on_progress
        Called with the numbers of pairs that are done and of all.

    Yields
    ------
    Pair
        First executions that only the first side has, then those that only the second has, then pairs in the order of
        provider, diagnostic and group. In bounded memory: some pairs' values at a time.

    Raises
    ------
    CatalogError
        If a catalog cannot be read; `QueryError` for filters that mean nothing.
    """
    before, after = list(a.executions()), list(b.executions())
    if len(before) == len(after) == 1:
        paired = [(before[0], after[0])]
        alone: list[Pair] = []
    else:
        of_a, of_b = ({_identity(row): row for row in rows} for rows in (before, after))
        alone = [_alone(of_a[each], None) for each in sorted(of_a.keys() - of_b.keys())]
        alone += [_alone(None, of_b[each]) for each in sorted(of_b.keys() - of_a.keys())]
        paired = [(of_a[each], of_b[each]) for each in sorted(of_a.keys() & of_b.keys())]
    yield from alone
    done, remaining = len(alone), iter(paired)
    total = done + len(paired)
    while some := list(islice(remaining, _AT_ONCE)):
        held_a = a.catalog.values_of([one.execution_id for one, _ in some])
        held_b = b.catalog.values_of([other.execution_id for _, other in some])
        for one, other in some:
            yield _pair(one, other, held_a, held_b, rules, _Looking.into(a, one, b, other, rules))
            done += 1
            if on_progress is not None:
                on_progress(done, total)


def _identity(row: ExecutionRow) -> Identity:
    return row.provider, row.diagnostic, row.group


def _alone(one: ExecutionRow | None, other: ExecutionRow | None) -> Pair:
    row = one or other
    assert row is not None
    verdict: Verdict = "missing" if other is None else "new"
    fragments = (None if one is None else one.fragment, None if other is None else other.fragment)
    return Pair(*_identity(row), *fragments, {verdict: 1}, (Item("execution", verdict, row.fragment),))


def _pair(
    one: ExecutionRow, other: ExecutionRow, a: HeldValues, b: HeldValues, rules: Rules, looking: _Looking | None
) -> Pair:
    items: list[Item] = []
    counts: Counter[Verdict] = Counter()

    def settle(
        kind: ItemKind, of_a: Mapping[Any, Any], of_b: Mapping[Any, Any], judge: Callable[..., Item | None]
    ) -> None:
        for name in dict.fromkeys((*of_a, *of_b)):
            if name in of_a and name in of_b:
                found = judge(name, of_a[name], of_b[name])
            else:
                verdict: Verdict = "missing" if name in of_a else "new"
                value = of_a.get(name, of_b.get(name))
                found = _one_sided(kind, verdict, name, value)
            counts[found.verdict if found is not None else "equal"] += 1
            if found is not None:
                items.append(found)

    def held(part: str) -> tuple[Mapping[Any, Any], Mapping[Any, Any]]:
        return getattr(a, part).get(one.execution_id, {}), getattr(b, part).get(other.execution_id, {})

    settle("scalar", *held("scalars"), lambda *told: _judge_scalar(rules, *told))
    settle("series", *held("series"), lambda *told: _judge_series(rules, *told))
    settle("artifact", *held("artifacts"), lambda *told: _judge_artifact(rules, looking, *told))
    items.sort(key=lambda item: VERDICTS.index(item.verdict))
    return Pair(*_identity(other), one.fragment, other.fragment, dict(counts), tuple(items))


def _one_sided(kind: ItemKind, verdict: Verdict, name: tuple[Any, ...], value: Any) -> Item:
    if kind == "artifact":
        return Item(kind, verdict, name[0])
    if kind == "series":
        return Item(kind, verdict, name[1], dict(name[0]))
    sides = {"a": value} if verdict == "missing" else {"b": value}
    return Item(kind, verdict, "", dict(name[0]), **sides)


def _judge_scalar(rules: Rules, name: tuple[Labels, int], a: float | None, b: float | None) -> Item | None:
    if Tolerance().allows(a, b):
        return None
    verdict: Verdict = "within" if rules.tolerance_of(name[0]).allows(a, b) else "changed"
    distance = None if a is None or b is None else abs(a - b)
    return Item("scalar", verdict, "", dict(name[0]), a, b, distance)


def _judge_series(rules: Rules, name: tuple[Labels, str, int], a: tuple[Any, Any], b: tuple[Any, Any]) -> Item | None:
    (index_a, values_a), (index_b, values_b) = a, b
    about = ("series", name[1], dict(name[0]))
    if index_a != index_b:
        detail = f"{len(index_a)} points and {len(index_b)}" if len(index_a) != len(index_b) else "other points"
        return Item("series", "changed", about[1], about[2], detail=detail)
    numbers = [(_number(x), _number(y)) for x, y in zip(values_a, values_b, strict=True)]
    if all(Tolerance().allows(x, y) for x, y in numbers):
        return None
    tolerance = rules.tolerance_of(name[0])
    apart = [abs(x - y) for x, y in numbers if x is not None and y is not None]
    verdict: Verdict = "within" if all(tolerance.allows(x, y) for x, y in numbers) else "changed"
    return Item("series", verdict, about[1], about[2], distance=max(apart, default=None))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)  # infinity is a word in JSON


@attrs.frozen
class _Looking:
    """Where the artifacts of two executions are."""

    a: ArtifactStore
    b: ArtifactStore
    rules: Rules
    hosts: tuple[str, ...]

    @classmethod
    def into(cls, a: Side, one: ExecutionRow, b: Side, other: ExecutionRow, rules: Rules) -> _Looking | None:
        if not rules.contents or a.store is None or b.store is None:
            return None
        hosts = tuple({row.host for row in (one, other) if row.host})
        return cls(scoped(a.store, one.fragment), scoped(b.store, other.fragment), rules, hosts)

    def compare(self, key: str, *digests: str | None) -> Seen:
        try:
            one, other = self.a.read_bytes(key), self.b.read_bytes(key)
        except EmdstoreError as error:
            return Seen("changed", detail=f"it cannot be read: {error}")
        for store, data, digest in zip((self.a, self.b), (one, other), digests, strict=True):
            if digest is not None and sha256_of(data) != digest:
                return Seen("changed", detail=f"in {store!r} it is not as recorded")
        rules = self.rules
        return compare_contents(key, one, other, close=rules.tolerance.allows, bits=rules.bits, hosts=self.hosts)


def _judge_artifact(
    rules: Rules,
    looking: _Looking | None,
    name: tuple[str, int],
    a: tuple[int | None, str | None],
    b: tuple[int | None, str | None],
) -> Item | None:
    if a == b or (None not in (a[1], b[1]) and a[1] == b[1]):
        return None
    size = max(a[0] or 0, b[0] or 0)
    seen = looking.compare(name[0], a[1], b[1]) if looking is not None and size <= _MOST_BYTES else Seen("unknown")
    if seen.closeness == "equal":
        return None
    if seen.closeness != "unknown":
        return Item("artifact", seen.closeness, name[0], distance=seen.distance, detail=seen.detail)
    if not rules.artifacts or (None in (a[1], b[1]) and a[0] == b[0]):
        return None  # of a bare set nobody knows more than the size
    return Item("artifact", "changed", name[0], detail=f"{a[0]} bytes and {b[0]}" if a[0] != b[0] else "other bytes")
