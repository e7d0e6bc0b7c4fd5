"""What `--json` prints: every command's document is in one envelope, which says its layout and whether all is well."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import CLI
from tests.ensembles import GOOD


def test_every_document_says_its_layout_and_is_ok_exactly_if_the_exit_code_is_0(
    cli: CLI, demo_folder: Path, tmp_path: Path
) -> None:
    results, catalog = demo_folder / "results", demo_folder / "catalog.db"
    look = (results, "--catalog", catalog)
    cli("init")
    run = ("run", "--provider", "p", "--diagnostic", "d", "--json", "--")
    fine, broken = cli(*run, "true"), cli(*run, "false", code=1)
    one, two = (answer.json["execution"]["fragment"] for answer in (fine, broken))
    calls = {
        "init": [(0, ["init", "another"]), (2, ["init"])],
        "run": [(1, ["run", "--provider", "p", "--diagnostic", "d", "--", "false"])],
        "list": [(0, ["list"])],
        "commit": [(0, ["commit", one]), (2, ["commit"])],
        "abort": [(0, ["abort", two]), (1, ["abort", one])],
        "recover": [(0, ["recover"])],
        "gc": [(0, ["gc"]), (0, ["gc", "--yes"])],
        "db-check": [(0, ["db", "check"]), (2, ["db", "check", "--catalog", "mysql://h/x"])],
        "db-upgrade": [(0, ["db", "upgrade"])],
        "ls": [(0, ["ls", results]), (2, ["ls", "nowhere"])],
        "transfer": [
            (0, ["transfer", results, "copy"]),
            (0, ["transfer", results, "dry", "--dry-run"]),
            (1, ["transfer", results, "copy", "no/such"]),
        ],
        "sets": [(0, ["sets", results]), (2, ["sets", "nowhere"])],
        "repair": [(0, ["repair", results, GOOD, "--from", results])],
        "retract": [(0, ["retract", GOOD, "--reason", "wrong", "--results", results])],
        "unretract": [(0, ["unretract", GOOD, "--results", results])],
        "verify": [(0, ["verify", results]), (2, ["verify"])],
        "replay": [(0, ["replay", results, "--catalog", "new.db"])],
        "show": [(0, ["show", GOOD, "--catalog", catalog]), (2, ["show", "nowhere"])],
        "inputs": [(0, ["inputs", GOOD, "--catalog", catalog]), (2, ["inputs", "nowhere"])],
        "affected": [(0, ["affected", "*", "--catalog", catalog])],
        "resources": [(0, ["resources", "--catalog", catalog])],
        "export": [(0, ["export", "scalars", "-o", "x.csv", "--catalog", catalog])],
        "materialize": [(0, ["materialize", results / GOOD, "a/b/c/d", "--metric", "diagnostic.json"])],
        "report": [(0, ["report", *look, "-o", "pages"])],
        "demo": [(0, ["demo", "again", "--models", "2", "--diagnostics", "1", "--troubles", "0"])],
    }
    for name, asked in calls.items():
        for code, call in asked:
            at = call.index("--") if "--" in call else len(call)
            document = cli(*call[:at], "--json", *call[at:], code=code).json
            schema = "error" if "error" in document else name
            assert (document["schema"], document["ok"]) == (f"emdstore/{schema}/1", code == 0), call
            assert list(document)[:2] == ["schema", "ok"]
            assert schema == name or document["exit_code"] == code
