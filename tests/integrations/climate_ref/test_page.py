"""What docs/climate-ref.md shows of an installation is what these commands say there."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from climate_ref.cli import app
from climate_ref.config import Config, DiagnosticProviderConfig
from climate_ref_core.logging import remove_log_handler

from emdstore.cli import main
from emdstore.integrations.climate_ref import install

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "climate-ref.md").read_text()
SHOWN = "\n".join(re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
SAME = re.findall(r"It was run with climate-ref (0\.\d+)", PAGE)
MOMENT = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC|\b\d+\.\d k?[sB]\b|_[0-9a-f]{8}\b|─+")


@pytest.fixture
def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up what the page begins with: a configuration, and two datasets."""
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REF_CONFIGURATION", str(tmp_path / "ref"))
    monkeypatch.setenv("COLUMNS", "100")
    from climate_ref_adoption import write_datasets

    write_datasets(tmp_path / "cmip6")
    (tmp_path / "ref").mkdir()
    config = Config.default()
    config.diagnostic_providers = [DiagnosticProviderConfig(provider="climate_ref_example")]
    config.executor.executor = "climate_ref.executor.SynchronousExecutor"
    config.ignore_datasets_file = tmp_path / "ref" / "nothing-to-ignore.yaml"  # the default is fetched
    config.ignore_datasets_file.write_text("{}\n")
    config.save()


@pytest.mark.skipif(not version("climate-ref").startswith(f"{SAME[0]}."), reason="it is not shown in this version")
@pytest.mark.usefixtures("installation")
def test_what_the_page_shows_is_what_is_said() -> None:
    said: list[str] = []
    for command in re.findall(r"^\$ (.*)$", SHOWN, re.MULTILINE):
        said += [f"$ {command}", *_run(command)]
    assert [_plain(line) for line in said] == [_plain(line) for line in SHOWN.splitlines() if line.strip()], "\n".join(
        said
    )


def _run(command: str) -> list[str]:
    """Run a command of the page in this process, which is quicker; return what it says on stdout."""
    line = command.replace("$PWD", str(Path.cwd()))
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(sys.__stderr__):
        match shlex.split(line.removesuffix(" > /dev/null")):
            case ["rm", "-r", *folders]:
                for folder in folders:
                    shutil.rmtree(folder)
            case ["ref", *rest]:
                _ref(rest)
            case ["python", "-m", "emdstore.integrations.climate_ref", *rest]:
                with install():
                    _ref(rest)
            case ["emdstore", *rest]:
                with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
                    patch.setattr(sys, "argv", ["emdstore", *rest])
                    main()
            case other:
                raise AssertionError(other)
    return [] if line.endswith("> /dev/null") else [each for each in out.getvalue().splitlines() if each.strip()]


def _ref(command: list[str]) -> None:
    app(command, standalone_mode=False)
    remove_log_handler()


def _plain(line: str) -> str:
    return " ".join(MOMENT.sub("*", line).split())
