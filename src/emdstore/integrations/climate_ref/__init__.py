"""Climate-REF on emdstore: results are published whole, and the database is loaded from what was published.

::

    from emdstore.integrations.climate_ref import install

    install()  # from here on, Climate-REF's executors handle results through emdstore

Needs the extra ``climate-ref``. `docs/climate-ref.md` says what changes, and how to go back.
"""

from __future__ import annotations

from emdstore.errors import MissingExtraError

try:
    import climate_ref as _  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError.of("the integration with Climate-REF", "climate-ref") from error

from emdstore.integrations.climate_ref.handling import handle_execution_result
from emdstore.integrations.climate_ref.installing import Installation, install, uninstall
from emdstore.integrations.climate_ref.materializing import materialize_execution
from emdstore.integrations.climate_ref.reingesting import reingest_execution
from emdstore.integrations.climate_ref.replaying import replay
from emdstore.integrations.climate_ref.retracting import CarriedRetractions, NotCarried, carry_retractions

__all__ = [
    "CarriedRetractions",
    "Installation",
    "NotCarried",
    "carry_retractions",
    "handle_execution_result",
    "install",
    "materialize_execution",
    "reingest_execution",
    "replay",
    "uninstall",
]
