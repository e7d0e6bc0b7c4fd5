"""The settings of a workspace: ``emdstore.toml`` and the environment."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import attrs

from emdstore.errors import WorkspaceError, has_secrets, redact

_log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z][\w-]*")
CONFIG_NAME = "emdstore.toml"
_ENVIRONMENT = "EMDSTORE_"
_PLACES = ("scratch", "results", "catalog", "vocabulary")
_FLAGS = ("clean_folder", "clean_unnamed")
_STORES = "stores"
_TARGETS = "targets"
_SETTINGS = (*_PLACES, *_FLAGS, "lease_seconds", "results_options", _STORES, _TARGETS)
_DEFAULTS = {"vocabulary": None, "clean_folder": False, "clean_unnamed": False, "lease_seconds": 60.0}


def _several(given: object) -> tuple[str, ...] | None:
    if given is None:
        return None
    if not isinstance(given, list | tuple) or not all(isinstance(each, str) for each in given):
        raise TypeError(f"a list of names, not {given!r}")
    return tuple(given)


@attrs.frozen
class NamedStore:
    """A store that a file gives a name: in a workspace's ``emdstore.toml``, or the user's own.

    Attributes
    ----------
    name
        Its name; ``name:folder`` is a folder of it.
    url
        Where it is.
    options
        What `open_store` takes besides.
    file
        The file that says so.
    """

    name: str
    url: str
    options: Mapping[str, Any]
    file: Path

    def at(self, folder: str) -> str:
        """Return the place of a folder in it."""
        inside = folder.strip("/")
        return f"{self.url.rstrip('/')}/{inside}" if inside else self.url


@attrs.frozen(kw_only=True)
class Target:
    """Where results are promoted to or from; see `emdstore.gates`.

    Attributes
    ----------
    name
        Its name, which is that of the alias that points at what it stands behind.
    store
        Its results store, a place as for commands; None for the workspace's.
    protected
        Whether nothing gets there to which a check objects.
    checks
        The names of the checks; None for all that are known.
    tolerances
        The file of tolerances.
    vocabulary
        The file of the controlled vocabulary; None for the workspace's.
    contents
        Whether to look into plots, tables and text whose bytes differ.
    """

    name: str
    store: str | None = None
    protected: bool = False
    checks: tuple[str, ...] | None = attrs.field(default=None, converter=_several)
    tolerances: Path | None = None
    vocabulary: Path | None = None
    contents: bool = False


@attrs.frozen
class Setting:
    """One setting of a workspace, and where its value comes from."""

    name: str
    value: Any
    origin: str


def read_settings(path: str | os.PathLike[str] | None, *, catalog: str | None) -> tuple[dict[str, Any], str]:
    """Return the settings of a workspace, and their file; see `Workspace.open`."""
    file = _find_config(path)
    settings = _read_config(file) if file is not None else {}
    settings.pop(_STORES, None)
    settings.pop(_TARGETS, None)
    base = file.parent if file is not None else Path.cwd()
    settings = {name: _anchored(name, value, base) for name, value in settings.items()} | _from_environment()
    if catalog is not None:
        settings["catalog"] = catalog
    missing = [name for name in ("scratch", "results", "catalog") if name not in settings]
    if missing:
        raise WorkspaceError(
            f"no {', '.join(missing)} given{f' in {file}' if file else f': there is no {CONFIG_NAME} here'}; "
            "`emdstore init` writes one, or set EMDSTORE_SCRATCH, EMDSTORE_RESULTS and EMDSTORE_CATALOG"
        )
    return settings, str(file or "the environment")


def user_config() -> Path:
    """Return where a user's own file is, whether it is there or not."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "emdstore" / "config.toml"


def named_stores(path: str | os.PathLike[str] | None = None) -> dict[str, NamedStore]:
    """Return the stores that have names: those of the workspace's file, and of the user's where that has no such name.

    Raises
    ------
    WorkspaceError
        If a file cannot be read, or a store in it has no URL.
    """
    found: dict[str, NamedStore] = {}
    own, workspace = user_config(), _find_config(path)
    for file in (own if own.is_file() else None, workspace):
        if file is None:
            continue
        stores = _read_config(file).get(_STORES, {})
        for name, table in stores.items() if isinstance(stores, dict) else [("", None)]:
            if not isinstance(table, dict) or not isinstance(table.get("url"), str) or not _NAME.fullmatch(name):
                raise WorkspaceError(f"{file}: a store is a table [{_STORES}.NAME] with a url")
            url = table["url"] if "://" in table["url"] else os.fspath(file.parent / Path(table["url"]).expanduser())
            options = {option: value for option, value in table.items() if option != "url"}
            found[name] = NamedStore(name, url, options, file)
    return found


def named_targets(path: str | os.PathLike[str] | None = None) -> dict[str, Target]:
    """Return the targets that the workspace's file has: its tables ``[targets.NAME]``.

    Raises
    ------
    WorkspaceError
        If the file cannot be read, or a target in it is not as it should be.
    """
    file = _find_config(path)
    tables = {} if file is None else _read_config(file).get(_TARGETS, {})
    found: dict[str, Target] = {}
    for name, table in tables.items() if isinstance(tables, dict) else [("", None)]:
        assert file is not None
        if not isinstance(table, dict) or not _NAME.fullmatch(name):
            raise WorkspaceError(f"{file}: a target is a table [{_TARGETS}.NAME]")
        try:
            found[name] = Target(name=name, **{each: _of_target(each, value, file) for each, value in table.items()})
        except TypeError as error:
            known = ", ".join(field.name for field in attrs.fields(Target) if field.name != "name")
            raise WorkspaceError(f"{file}: [{_TARGETS}.{name}] has {known}, and nothing else: {error}") from None
    return found


def _of_target(name: str, value: Any, file: Path) -> Any:
    kind: type[Any] = bool if name in ("protected", "contents") else list if name == "checks" else str
    if not isinstance(value, kind):
        raise TypeError(f"{name} is {kind.__name__}, not {value!r}")
    if name in ("tolerances", "vocabulary"):
        return file.parent / Path(value).expanduser()
    is_name = ":" in value if isinstance(value, str) else False  # a URL, or a named store
    return os.fspath(file.parent / Path(value).expanduser()) if name == "store" and not is_name else value


def explained_settings(path: str | os.PathLike[str] | None = None) -> list[Setting]:
    """Return every setting of the workspace, with where its value comes from: environment, file or default."""
    file = _find_config(path)
    said = _read_config(file) if file is not None else {}
    explained = []
    for name in (*_PLACES, *_FLAGS, "lease_seconds", "results_options"):
        variable = _ENVIRONMENT + name.upper()
        if name != "results_options" and (value := os.environ.get(variable)):
            explained.append(Setting(name, value, variable))
        elif name in said:
            explained.append(Setting(name, said[name], str(file)))
        else:
            explained.append(Setting(name, _DEFAULTS.get(name), "default"))
    return explained


def write_config(path: Path, *, scratch: str, results: str, catalog: str, vocabulary: str | None = None) -> Path:
    """Write the file that `Workspace.open` reads.

    Parameters
    ----------
    path
        The folder for ``emdstore.toml``; created if necessary.
    scratch, results, catalog, vocabulary
        Paths, relative to the folder, or URLs.

    Returns
    -------
    Path
        The file. If it contains a password, only its owner may read it; otherwise it follows the umask.

    Raises
    ------
    WorkspaceError
        If the file exists already. It was left alone.
    """
    file = path / CONFIG_NAME
    lines = ["# An emdstore workspace; EMDSTORE_SCRATCH, EMDSTORE_RESULTS and EMDSTORE_CATALOG come before these."]
    settings = {"scratch": scratch, "results": results, "catalog": catalog, "vocabulary": vocabulary}
    lines += [f"{name} = {_toml_text(value)}" for name, value in settings.items() if value is not None]
    path.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if any(map(_holds_secret, settings.values())) else 0o666
    try:
        # The mode is set from the start: a file that is protected a moment later was readable until then.
        with open(file, "x", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as stream:
            stream.write("\n".join(lines) + "\n")
    except FileExistsError:
        raise WorkspaceError(f"{file} is there already; edit it, or remove it first") from None
    return file


def _holds_secret(value: object, name: str = "") -> bool:
    if isinstance(value, dict):
        return any(_holds_secret(each, key) for key, each in value.items())
    return isinstance(value, str) and (has_secrets(value) or redact(f"{name}={value}") != f"{name}={value}")


def _warn_if_open(file: Path, settings: dict[str, Any]) -> None:
    """Warn of a file with a password that others may read."""
    if _holds_secret(settings) and file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        _warn_once(file)


@cache
def _warn_once(file: Path) -> None:
    _log.warning("%s holds a password, and others may read it: chmod 600 %s", file, shlex.quote(str(file)))


def _toml_text(value: str) -> str:
    # A TOML basic string takes the escapes of JSON.
    return json.dumps(value, ensure_ascii=False)


def _find_config(path: str | os.PathLike[str] | None) -> Path | None:
    if path is not None:
        path = Path(path).expanduser()
        file = path / CONFIG_NAME if path.is_dir() else path
        if not file.is_file():
            raise WorkspaceError(f"there is no {file}; `emdstore init` writes one")
        return file.resolve()
    if named := os.environ.get(_ENVIRONMENT + "CONFIG"):
        return _find_config(named)
    here = Path.cwd()
    return next((file for folder in (here, *here.parents) if (file := folder / CONFIG_NAME).is_file()), None)


def _read_config(file: Path) -> dict[str, Any]:
    try:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
        _warn_if_open(file, settings)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise WorkspaceError(f"{file}: {error}") from None
    if unknown := [name for name in settings if name not in _SETTINGS]:
        raise WorkspaceError(f"{file}: unknown setting {unknown[0]!r}; there are {', '.join(_SETTINGS)}")
    for name, kind in (*((name, str) for name in _PLACES), *((name, bool) for name in _FLAGS)):
        if name in settings and not isinstance(settings[name], kind):
            raise WorkspaceError(f"{file}: {name} is {kind.__name__}, not {settings[name]!r}")
    return settings


def _anchored(name: str, value: Any, base: Path) -> Any:
    """Return a setting, with a relative path resolved against its file."""
    if name not in _PLACES:
        return value
    if value.startswith("sqlite:///") and not value.startswith("sqlite:////"):
        return "sqlite:///" + os.fspath(base / Path(value.removeprefix("sqlite:///")).expanduser())
    return value if "://" in value else os.fspath(base / Path(value).expanduser())


def _from_environment() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in _PLACES:
        if value := os.environ.get(_ENVIRONMENT + name.upper()):
            found[name] = value if "://" in value else os.path.expanduser(value)
    for name in _FLAGS:
        if value := os.environ.get(_ENVIRONMENT + name.upper()):
            if value.lower() not in ("1", "true", "yes", "0", "false", "no"):
                raise WorkspaceError(f"{_ENVIRONMENT}{name.upper()} is true or false, not {value!r}")
            found[name] = value.lower() in ("1", "true", "yes")
    if value := os.environ.get(_ENVIRONMENT + "LEASE_SECONDS"):
        try:
            found["lease_seconds"] = float(value)
        except ValueError:
            raise WorkspaceError(f"EMDSTORE_LEASE_SECONDS is a number, not {value!r}") from None
    return found
