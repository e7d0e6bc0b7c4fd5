"""Climate-REF's command line with emdstore's handler: ``python -m emdstore.integrations.climate_ref solve``."""

from __future__ import annotations

import os

from climate_ref.cli import app

from emdstore.integrations.climate_ref import install
from emdstore.stores import open_store

place = os.environ.get("EMDSTORE_RESULTS")
install(open_store(place) if place else None)
app()
