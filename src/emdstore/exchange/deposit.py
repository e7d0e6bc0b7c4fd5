"""A folder to hand on: published sets, whole and verified, with what archives want to know of them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import attrs

from emdstore import system
from emdstore.emds import RECORD_NAME
from emdstore.errors import ArtifactExistsError, IncompleteSetError, MissingExtraError
from emdstore.exchange.chosen import Chosen, choose_records
from emdstore.exchange.citing import as_bibtex, as_cff
from emdstore.exchange.crate import write_crate
from emdstore.exchange.provenance import as_prov_json
from emdstore.sets.transfer import transfer
from emdstore.stores.local import LocalArtifactStore
from emdstore.stores.urls import StoreLike, as_source
from emdstore.transfers import ProgressCallback

_OTHERS = {
    "provenance.json": "Which run made which file, from which datasets, by which software: PROV-JSON",
    "CITATION.cff": "What to cite",
    "CITATION.bib": "What to cite, as BibTeX",
}


@attrs.frozen
class Deposit:
    """What was packed.

    Attributes
    ----------
    folder
        Where it is.
    sets, artifacts, size
        How many sets and artifacts, and the bytes of these.
    left
        The chosen sets that are not in it, each with its state, or ``retracted``.
    bag
        Whether it is a BagIt bag.
    """

    folder: str
    sets: int
    artifacts: int
    size: int
    left: Mapping[str, str]
    bag: bool


def deposit(
    store: StoreLike,
    folder: str | os.PathLike[str],
    *,
    chosen: Chosen | None = None,
    bag: bool = False,
    title: str | None = None,
    description: str | None = None,
    license: str = "https://spdx.org/licenses/CC-BY-4.0",
    on_progress: ProgressCallback | None = None,
) -> Deposit:
    """Pack published sets for an archive: as a Process Run Crate (RO-Crate 1.1), in a BagIt bag if wished.

    Sets that are not published and complete, or were retracted, are left out and named. Every byte is compared with its
    record on the way.

    Parameters
    ----------
    store
        The results store, a path or a URL.
    folder
        A folder of this machine, which must not be there yet. It appears when everything is in it.
    chosen
        Which sets; see `choose_records`. By default all.
    bag
        Whether to make it a bag: everything in ``data/``, with manifests of SHA-256 beside it.
    title, description, license
        Of the whole; the license as a URL.
    on_progress
        See `emdstore.transfer`.

    Raises
    ------
    ArtifactExistsError
        If the folder is there. It was not touched.
    IncompleteSetError
        If there is nothing to pack, or something that was chosen did not arrive. Nothing is left behind.
    MissingExtraError
        If the extra ``exchange`` is not installed.
    """
    target = Path(folder).absolute()
    if os.path.lexists(target):
        raise ArtifactExistsError(f"{str(target)!r} is there already: give the deposit a folder of its own")
    source = as_source(store)
    chosen = choose_records(source) if chosen is None else chosen
    if not chosen.records:
        told = ", ".join(f"{name} ({why})" for name, why in chosen.left.items())
        raise IncompleteSetError(f"no published set to pack in {source!r}" + (f": {told}" if told else ""))
    size = sum(each.size for record in chosen.records.values() for each in record.artifacts)
    providers = sorted({record.provider for record in chosen.records.values()})
    name = title or (f"Release {chosen.release}" if chosen.release else f"Results of {', '.join(providers)}")
    partial = target.with_name(f".{target.name}-{system.current().token(6)}")
    try:
        packed = LocalArtifactStore(partial)
        keys = [f"{place}/{each.key}" for place, record in chosen.records.items() for each in record.artifacts]
        keys += [f"{place}/{RECORD_NAME}" for place in chosen.records]
        transfer(source, packed, keys, on_progress=on_progress).raise_for_failures()
        packed.write_bytes("provenance.json", as_prov_json(chosen.records).encode())
        packed.write_bytes("CITATION.cff", as_cff(chosen.records, title=name).encode())
        packed.write_bytes("CITATION.bib", as_bibtex(chosen.records).encode())
        records = {f"{place}/{RECORD_NAME}": "The record of this set" for place in chosen.records}
        words = description or f"{len(chosen.records)} executions, with their inputs and software"
        write_crate(partial, chosen.records, title=name, description=words, license=license, others=_OTHERS | records)
        if bag:
            _make_bag(partial, name, words)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Deposit(str(target), len(chosen.records), len(keys), size, chosen.left, bag)


def _make_bag(folder: Path, title: str, description: str) -> None:
    try:
        import bagit
    except ImportError as error:
        raise MissingExtraError.of("BagIt", "exchange") from error
    about = {"External-Identifier": title, "External-Description": description}
    bagit.make_bag(str(folder), about, checksums=["sha256"])
