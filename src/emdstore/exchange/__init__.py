"""Published sets in the formats of others: RO-Crate, BagIt, PROV, citations, intake-esm.

Everything is made from records, and so says what was published and no more. Each format is written by the library of
its own field, which comes with the extra ``exchange``; citations and datastores need none.
"""

from __future__ import annotations

from emdstore.exchange.chosen import Chosen, choose_records
from emdstore.exchange.citing import as_bibtex, as_cff
from emdstore.exchange.datastore import write_datastore
from emdstore.exchange.deposit import Deposit, deposit
from emdstore.exchange.provenance import as_prov_json

__all__ = [
    "Chosen",
    "Deposit",
    "as_bibtex",
    "as_cff",
    "as_prov_json",
    "choose_records",
    "deposit",
    "write_datastore",
]
