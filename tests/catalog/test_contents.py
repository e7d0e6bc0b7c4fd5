"""What two files show is compared: pictures as people see them, tables by cells, text without what always differs."""

from __future__ import annotations

import io

import pytest

from emdstore import Workspace
from emdstore.catalog.comparing import Item, Rules, Side, Tolerance, compare_results
from emdstore.catalog.contents import Seen, compare_contents

NEAR = Tolerance(relative=0.1).allows
EXACT = Tolerance().allows


def compared(key: str, a: str | bytes, b: str | bytes, **how: object) -> Seen:
    one, other = (each.encode() if isinstance(each, str) else each for each in (a, b))
    return compare_contents(key, one, other, **{"close": EXACT, **how})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "moment",
    ["2025-11-03", "2025-11-03T12:00:01.5Z", "2025-11-03 12:00:01 +0200", "12:00:01", "Mon Nov  3 12:00:01 UTC 2025",
     "3 November 2025", "/scratch/ann/run 1/", "1b4e28ba-2fa1-11d2-883f-0016d3cca427"],
)  # fmt: skip
def test_text_is_equal_whenever_and_wherever_it_was_written(moment: str) -> None:
    other = moment.replace("3", "4").replace("ann", "bob").replace("1b4e", "2c5f")
    texts = f"made {moment} on node7: 1.5 K\n", f"made {other} on laptop: 1.5 K\n"
    assert compared("a.html", *texts, hosts=["node7", "laptop"]) == Seen("equal")


def test_text_that_says_something_else_has_changed() -> None:
    seen = compared("plots/a.svg", "<g>\n<text>1.5 K</text>", "<g>\n<text>1.6 K</text>")
    assert (seen.closeness, seen.detail) == ("changed", "line 2: <text>1.5 K</text> → <text>1.6 K</text>")
    assert compared("a.txt", "on node7", "on node8").closeness == "changed"
    assert compared("a.txt", "a", "a\nb").detail == "line 2:  → b"
    for key, data in {"a.nc": b"CDF", "a": b"x", "a.txt": b"\xff"}.items():
        assert compared(key, data, data + b"\xff") == Seen("unknown")


def test_tables_are_compared_by_their_cells() -> None:
    one, other = "model,bias\nMIROC6,1.0\nCESM2,2.00\n", "model,bias\nMIROC6,1.05\nCESM2,2.0\n"
    seen = compared("a.csv", one, other, close=NEAR)
    assert (seen.closeness, seen.distance) == ("within", pytest.approx(0.05))
    seen = compared("a.csv", one, other)
    assert (seen.closeness, seen.detail) == ("changed", "1 cell differs; row 2, bias: 1.0 → 1.05")
    assert compared("a.tsv", "a\tb\n1\t2\n", "a\tb\n1\t2\n3\t4\n").detail == "2 rows and 3"
    assert compared("a.csv", "a,b\n", "a\n").detail == "other columns"
    assert compared("a.csv", "a\nx\n", "a\ny\n", close=NEAR).closeness == "changed"


@pytest.mark.needs("pictures")
def test_pictures_are_compared_as_people_see_them() -> None:
    from PIL import Image, ImageDraw

    def picture(shift: int = 0, *, note: str = "", fmt: str = "PNG", **options: object) -> bytes:
        image = Image.new("RGB", (200, 120), "white")
        draw = ImageDraw.Draw(image)
        draw.rectangle((20 + shift, 20, 120 + shift, 90), fill="navy")
        draw.text((150, 105), note, fill="black")
        data = io.BytesIO()
        image.save(data, fmt, **options)  # type: ignore[arg-type]
        return data.getvalue()

    assert compared("a.png", picture(), picture(compress_level=1)) == Seen("equal")  # other bytes, the same pixels
    moved = compared("a.png", picture(), picture(60))
    assert moved.closeness == "changed"
    assert moved.distance is not None
    assert moved.distance > 20
    assert "of 256 bits of the perceptual hash differ" in moved.detail
    noted = compared("a.png", picture(note="10:00"), picture(note="11:30"), bits=20)
    assert noted.closeness == "within"
    assert compared("a.png", b"\x89PNG", picture()) == Seen("unknown")


def test_executions_are_compared_by_what_their_files_show() -> None:
    with Workspace.in_memory() as workspace:
        for name, value, day in (("v1", "1.0", "2025-01-01"), ("v2", "1.5", "2025-02-02")):
            with workspace.start_execution(provider="p", diagnostic="d", group="g", name=name) as execution:
                execution.add_scalar(1.0, metric="m")
                files = {"table.csv": f"bias\n{value}\n", "page.html": f"<p>made {day}</p>", "field.nc": name}
                for file, text in files.items():
                    (execution.output_directory / file).write_text(text)
                    (execution.add_html if file.endswith("html") else execution.add_data)(file, long_name=file)
            execution.commit_output_assets()
        catalog, store = workspace.catalog, workspace.results
        one, other = (Side(catalog, {"fragment": f"p/d/g/{name}", "latest": False}, store) for name in ("v1", "v2"))

        def items(rules: Rules) -> list[Item]:
            (pair,) = compare_results(one, other, rules)
            return list(pair.items)

        assert items(Rules()) == []
        assert items(Rules(contents=True)) == [
            Item("artifact", "changed", "table.csv", distance=0.5, detail="1 cell differs; row 2, bias: 1.0 → 1.5")
        ]
        assert [each.verdict for each in items(Rules(Tolerance(absolute=1.0), contents=True))] == ["within"]
        assert {each.name for each in items(Rules(artifacts=True, contents=True))} == {"field.nc", "table.csv"}
        store.delete("p/d/g/v2/table.csv")  # type: ignore[attr-defined]
        assert "cannot be read" in items(Rules(contents=True))[0].detail
