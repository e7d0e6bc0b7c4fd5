"""Commands on configuration: what is set, where it comes from, and whether it can be used."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from emdstore.cli.exit_codes import FAILED, OK, exit_code
from emdstore.cli.options import PLAIN, Access, Output, open_existing
from emdstore.cli.render import say, show_document, show_table, sum_up
from emdstore.cli.variables import Variable, variables_set
from emdstore.cli.workspaces import OWN_AND_STORES, OwnAndStores
from emdstore.errors import EmdstoreError, redact, redact_url
from emdstore.executions.settings import explained_settings, named_stores


def show(*, own: OwnAndStores = OWN_AND_STORES, output: Output = PLAIN) -> int:
    """Show every setting, named store and variable that is set, with where it comes from. Secrets are not shown.

    Settings are those of the workspace, and how to reach stores.
    """
    variables = _variables(own.config)
    settings = [_row("config", own.config, "--config", variables)]
    settings += [
        {"name": each.name, "value": None if each.value is None else _shown(each.value), "origin": each.origin}
        for each in explained_settings(own.config)
    ]
    for field in attrs.fields(Access):
        value = getattr(own.reach, field.name)
        option = f"--{field.name.replace('_', '-')}"
        settings.append(_row(field.name, None if value == field.default else value, option, variables))
    for store in named_stores(own.config).values():
        value = f"{redact_url(store.url)} {_shown(store.options)}".strip()
        settings.append({"name": f"stores.{store.name}", "value": value, "origin": str(store.file)})
    told = {each["origin"] for each in settings}
    for variable in variables:
        if variable.name not in told:
            value = None if variable.name == "EMDSTORE_TOKEN" else _shown(variable.value)
            settings.append({"name": variable.option or "nothing", "value": value, "origin": variable.name})
    if output.json:
        return show_document("config show", {"settings": settings})
    show_table(("setting", "value", "from"), [(each["name"], each["value"], each["origin"]) for each in settings])
    return OK


def check(*, own: OwnAndStores = OWN_AND_STORES, output: Output = PLAIN) -> int:
    """Read the configuration, try to list each named store, and look for variables that nothing reads.

    Exit code 1 or 2 if something cannot be used, 3 if a store is not reached.
    """
    checked = []
    code = OK
    for store in named_stores(own.config).values():
        try:
            next(iter(open_existing(f"{store.name}:", own.reach).iter_keys()), None)
        except (EmdstoreError, TypeError, ValueError) as error:
            found = exit_code(error) if isinstance(error, EmdstoreError) else FAILED
            code = max(code, found)
            checked.append({"name": store.name, "ok": False, "detail": redact(str(error))})
        else:
            checked.append({"name": store.name, "ok": True, "detail": redact_url(store.url)})
    for variable in _variables(own.config):
        if variable.option is None:
            code = max(code, FAILED)
            meant = f": is {variable.near} meant?" if variable.near else ""
            checked.append({"name": variable.name, "ok": False, "detail": f"no option has this variable{meant}"})
    if output.json:
        return show_document("config check", {"stores": checked}, code)
    for each in checked:
        word, style = ("ok", None) if each["ok"] else ("not usable", "red")
        say(f"{word}  {each['name']}: {each['detail']}", style=style)
    sum_up("the files can be read" if code == OK else "not all can be used")
    return code


def _variables(config: Path | None) -> list[Variable]:
    from emdstore.cli.app import COMMANDS, make_app

    names = {f"EMDSTORE_{each.name.upper()}": each.name for each in explained_settings(config)}
    return list(variables_set(make_app(), COMMANDS, names))


def _row(name: str, value: object, option: str, variables: Iterable[Variable]) -> dict[str, str | None]:
    """Tell where an option's value comes from: a variable that has it, or the call."""
    if value is None:
        return {"name": name, "value": None, "origin": "default"}
    given = (each.name for each in variables if each.option in (option, f"config show {option}"))
    origin = next((each for each in given if _is(os.environ[each], value)), option)
    return {"name": name, "value": _shown(value), "origin": origin}


def _is(text: str, value: object) -> bool:
    return os.path.expanduser(text) == str(value) or (isinstance(value, float) and text == f"{value:g}")


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return redact(" ".join(f"{name}={_shown(one)}" for name, one in value.items()))
    text = str(value)
    return redact_url(text) if "://" in text else redact(text)
