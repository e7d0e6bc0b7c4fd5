"""Reading and writing JSON as in EMDS files, and spelling positions in it.

Frameworks write these files with Python's json, which has its own dialect: ``NaN``, ``Infinity`` and ``-Infinity`` as
bare words. msgspec reads standard JSON; what it refuses is read again by Python's json, which either accepts
the dialect or gives line and column of the mistake. NaN means "no value" and becomes None here, so that the rest of
the code has only one such value.

Written files are standard JSON: None and NaN are ``null``, and an infinite number is ``1e999``, which the grammar
allows and which Python, JavaScript and others read as infinity.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any, NoReturn, TypeVar

import msgspec

from emdstore.emds.warning import BundleWarning
from emdstore.errors import BundleError

T = TypeVar("T")

# Real files nest a dozen levels. Later readers of the values may recurse, and Python's limit for that differs
# between versions; this one does not.
_MAX_DEPTH = 100
_MOST_DUPLICATES = 100

_WORDS = {"NaN": None, "Infinity": math.inf, "-Infinity": -math.inf}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]").search
_SPACE = b" \t\n\r"
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z").match
_BELOW = re.compile(r"(?P<what>.*) - at `\$(?P<below>.*)`\Z", re.DOTALL).match

_JSON_NAMES = {type(None): "null", bool: "a boolean", str: "text", int: "a number", float: "a number"}
_JSON_NAMES |= {dict: "an object", list: "a list"}


def place(*steps: str | int) -> str:
    """Spell a JSON path: ``place("plots", "fig 1", "filename")`` is ``$.plots["fig 1"].filename``."""
    return "$" + "".join(
        f".{step}" if isinstance(step, str) and _BARE(step) else f"[{json.dumps(step, ensure_ascii=False)}]"
        for step in steps
    )


def json_name(value: object) -> str:
    """Return the JSON name of a value's type."""
    return _JSON_NAMES.get(type(value), type(value).__name__)


def reject(name: str, at: str, why: str) -> NoReturn:
    """Raise the error that names the file, the position in it and the reason."""
    raise BundleError(f"{name}: at {at}: {why}", key=name)


def parse(data: bytes, name: str) -> Any:
    """Read JSON text in either dialect; see `parse_counting`."""
    return parse_counting(data, name)[0]


def parse_counting(data: bytes, name: str) -> tuple[Any, int]:
    """Read JSON text in either dialect; also return how many keys the value has.

    Raises
    ------
    BundleError
        The text is empty, not UTF-8, starts with a byte-order mark, is truncated, malformed, or nested too deep.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BundleError(f"{name}: not UTF-8, see byte {error.start} in line {line}", key=name) from None
    if text.startswith("\ufeff"):
        raise BundleError(f"{name}: starts with a byte-order mark; write it as plain UTF-8", key=name)
    if not text or text.isspace():
        raise BundleError(f"{name}: the file is empty", key=name)
    try:
        value = _read(data, text, name)
        keys = _count_keys(value)
    except RecursionError:
        value = keys = None
    if keys is None:
        raise BundleError(f"{name}: nested more than {_MAX_DEPTH} levels deep", key=name)
    return value, keys


def as_object(value: Any, name: str) -> dict[str, Any]:
    """Return what was read from a JSON text, which must be one object; `BundleError` if it is not."""
    if not isinstance(value, dict):
        reject(name, "$", f"the file must hold one object, not {json_name(value)}")
    return value


def duplicate_keys(data: bytes, *, name: str) -> tuple[BundleWarning, ...]:
    """Find keys that occur more than once in one object of a JSON text. Readers keep the last one.

    Parameters
    ----------
    data
        A file that `parse` accepts.
    name
        The file's name in the warnings.

    Returns
    -------
    tuple of BundleWarning
        One for each such key, with its position; at most a hundred, then the number of the others.
    """
    return repeated_keys(data, _count_keys(_read(data, data.decode(), name)), name)


def repeated_keys(data: bytes, keys: int | None, name: str) -> tuple[BundleWarning, ...]:
    """Find keys that occur more than once in a JSON text of which that many are left; see `duplicate_keys`."""
    # Every key is followed by a colon; a quote inside text may be, too. With as many matches as keys, none is repeated.
    if data.translate(None, _SPACE).count(b'":') == keys:
        return ()
    text = data.decode()
    tree = json.loads(text, parse_constant=_WORDS.__getitem__, object_pairs_hook=_Object)
    found: list[BundleWarning] = []
    left = 0
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), tree)]
    while waiting:
        steps, value = waiting.pop()
        if isinstance(value, _Object):
            for key, times in value.repeated.items():
                if len(found) == _MOST_DUPLICATES:
                    left += 1
                    continue
                message = f"{name}: the key {key!r} occurs {times} times (a duplicate): only the last one counts"
                found.append(BundleWarning("duplicate-key", message, place(*steps, key)))
        children = value.items() if isinstance(value, dict) else enumerate(value)
        waiting += [((*steps, at), one) for at, one in children if type(one) in (_Object, list)]
    if left:
        found.append(BundleWarning("duplicate-key", f"{name}: {left} more keys occur more than once (duplicates)"))
    return tuple(found)


class _Object(dict[str, Any]):
    """An object that knows which keys occurred more than once, and how often."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: Mapping[str, int] = {}
        if len(pairs) != len(self):
            self.repeated = {key: times for key, times in Counter(key for key, _ in pairs).items() if times > 1}


def learnt(cls: type[T]) -> type[T]:
    """Register a class with msgspec when its module is imported.

    msgspec would do so at first use, and crash if several threads use it first at the same time.
    """
    msgspec.json.Decoder(cls)
    return cls


def convert(value: object, to: type[T], name: str, at: str) -> T:
    """Check a value strictly against a type, and raise `BundleError` with its position in the whole file."""
    try:
        return msgspec.convert(value, to)
    except msgspec.ValidationError as error:
        found = _BELOW(str(error))
        what, below = (found["what"], found["below"]) if found else (str(error), "")
        reject(name, at + below, what.replace("`", "'"))


def render(value: object, name: str) -> bytes:
    """Write standard JSON, indented, with keys in the given order: equal values give equal bytes.

    Raises
    ------
    BundleError
        Something in the value cannot be written as JSON.
    """
    try:
        text = msgspec.json.encode(_standard(value, name, ()))
    except RecursionError:
        raise BundleError(f"{name}: nested too deep to be written", key=name) from None
    except UnicodeEncodeError as error:
        raise BundleError(f"{name}: holds text that cannot be written as UTF-8: {error.object!r}", key=name) from None
    return msgspec.json.format(text, indent=2) + b"\n"


def _read(data: bytes, text: str, name: str) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        pass  # it may hold NaN or Infinity, which JSON does not have; the slower reader says what is wrong
    try:
        value = json.loads(text, parse_constant=_WORDS.__getitem__)
        if _SURROGATE(text):
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        why = f"{error.msg}: line {error.lineno}, column {error.colno}"
        if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
            why += "; the file looks truncated"
        raise BundleError(f"{name}: not valid JSON: {why}", key=name) from None
    except UnicodeEncodeError:
        raise BundleError(
            f"{name}: not valid JSON: text with half of a surrogate pair (\\ud800 ...)", key=name
        ) from None
    except ValueError as error:  # an integer with thousands of digits
        raise BundleError(f"{name}: not valid JSON: {error}", key=name) from None
    return value


_CONTAINERS = frozenset({dict, list})


def _count_keys(value: object) -> int | None:
    """Return how many keys there are; None if the value is nested too deep."""
    level: list[Any] = [value]
    count = 0
    for _ in range(_MAX_DEPTH + 1):
        below: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                count += len(node)
                children: Collection[Any] = node.values()
            elif isinstance(node, list):
                children = node
            else:
                continue
            if not _CONTAINERS.isdisjoint(map(type, children)):  # skips the numbers of a long list
                below += children
        if not below:
            return count
        level = below
    return None


def _standard(value: object, name: str, steps: tuple[str | int, ...]) -> object:
    """Return the value in types that msgspec always writes as standard JSON."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # plain text, also for a subclass such as an enum member
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return msgspec.Raw(b"1e999" if value > 0 else b"-1e999") if math.isinf(value) else float(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                reject(name, place(*steps), f"keys are text, not {key!r}")
        return {key: _standard(inner, name, (*steps, key)) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_standard(inner, name, (*steps, i)) for i, inner in enumerate(value)]
    if isinstance(value, Real):  # numpy's numbers, among others
        return int(value) if isinstance(value, Integral) else _standard(float(value), name, steps)
    reject(name, place(*steps), f"{type(value).__name__} cannot be JSON; use text, numbers, lists and dicts")
