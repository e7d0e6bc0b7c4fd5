"""Print what each kind of store can do, as a table, from the stores themselves: ``nox -s capabilities``."""

from __future__ import annotations

import sys

from emdstore.stores.urls import open_store
from emdstore.testing.contract.capabilities import CAPABILITIES, claims

KINDS = {
    "local folder": "/data/results",
    "memory": "memory://results",
    "S3 (obstore)": "s3://bucket",
    "Google (obstore)": "gs://bucket",
    "Azure (obstore)": "az://container",
    "SSH": "ssh://host/results",
    "SFTP": "sftp://host/results",
    "WebDAV": "dav://host/results",
    "HTTP": "https://host/results",
    "zip": "zip::/data/results.zip",
}
OPTIONS = {"az": {"account": "account"}}


def matrix() -> str:
    """Return the table."""
    found = {name: claims(open_store(url, **OPTIONS.get(url[:2], {}))) for name, url in KINDS.items()}
    lines = [f"| | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for capability in CAPABILITIES:
        cells = ("yes" if capability in has else "–" for has in found.values())
        lines.append(f"| `{capability.__name__}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(matrix())
