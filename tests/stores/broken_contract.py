"""The contract over the stores of `broken.py`. `test_teeth.py` runs it; pytest does not collect it by itself."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import broken  # beside this file, which is run from its own folder
import pytest

from emdstore.testing import StoreContract, StoreHarness


class Contract(StoreContract):
    """The contract over a store of this file, looked at by plain file operations."""

    bite: ClassVar[broken.Bite]

    @pytest.fixture
    def harness(self, tmp_path: Path) -> StoreHarness:
        root = tmp_path / "some" / "place"

        def put(key: str, data: bytes) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)

        def link(key: str, target: str) -> None:
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).symlink_to(target)

        options = dict(self.bite.options)
        if (plant := options.pop("strangers", None)) is not None:
            options["plant_strangers"] = lambda: plant(root)
        if (damaging := options.pop("damaging", None)) is not None:
            options["damaging"] = lambda: damaging(root)

        return StoreHarness(
            lambda: self.bite.make(root),
            raw_put=put,
            raw_get=lambda key: (root / key).read_bytes() if (root / key).is_file() else None,
            raw_keys=lambda: {path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir()},
            link=link,
            secrets=[broken.SECRET],
            **{"rounds": 8} | options,
        )


def _test_of(bite: broken.Bite) -> type[Contract]:
    return type("TestStore", (Contract,), {"bite": bite, "__module__": __name__})


TestGoodStore = _test_of(broken.GOOD)
for _name, _bite in broken.BITES.items():
    globals()[f"Test{_name}"] = _test_of(_bite)
