"""Commands on configuration: what is set, where it comes from, and whether it can be used."""

from __future__ import annotations

from collections.abc import Mapping

from emdstore.cli.exit_codes import FAILED, OK, exit_code
from emdstore.cli.options import ANY, PLAIN, Access, Config, Output, open_existing
from emdstore.cli.render import say, show_document, show_table, sum_up
from emdstore.errors import EmdstoreError, redact, redact_url
from emdstore.executions.settings import explained_settings, named_stores


def show(*, config: Config = None, output: Output = PLAIN) -> int:
    """Show every setting of the workspace, and every named store, with where it comes from. Secrets are not shown."""
    settings = [
        {"name": each.name, "value": None if each.value is None else _shown(each.value), "origin": each.origin}
        for each in explained_settings(config)
    ]
    for store in named_stores(config).values():
        value = f"{redact_url(store.url)} {_shown(store.options)}".strip()
        settings.append({"name": f"stores.{store.name}", "value": value, "origin": str(store.file)})
    if output.json:
        return show_document("config show", {"settings": settings})
    show_table(("setting", "value", "from"), [(each["name"], each["value"], each["origin"]) for each in settings])
    return OK


def check(*, config: Config = None, access: Access = ANY, output: Output = PLAIN) -> int:
    """Read the configuration, and try to list each named store. Exit code 1 if one cannot be used, 3 if not reached."""
    checked = []
    code = OK
    for store in named_stores(config).values():
        try:
            next(iter(open_existing(f"{store.name}:", access).iter_keys()), None)
        except (EmdstoreError, TypeError, ValueError) as error:
            found = exit_code(error) if isinstance(error, EmdstoreError) else FAILED
            code = max(code, found)
            checked.append({"name": store.name, "ok": False, "detail": redact(str(error))})
        else:
            checked.append({"name": store.name, "ok": True, "detail": redact_url(store.url)})
    explained_settings(config)
    if output.json:
        return show_document("config check", {"stores": checked}, code)
    for each in checked:
        word, style = ("ok", None) if each["ok"] else ("not usable", "red")
        say(f"{word}  {each['name']}: {each['detail']}", style=style)
    sum_up("the files can be read" if not checked else f"{len(checked)} named stores")
    return code


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return redact(" ".join(f"{name}={_shown(one)}" for name, one in value.items()))
    text = str(value)
    return redact_url(text) if "://" in text else redact(text)
