"""Commands that hand published sets on in the formats of others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import attrs
from cyclopts import Parameter

from emdstore.cli.choosing import ANYTHING, Choosing, refuse_unmatched
from emdstore.cli.options import ANY, PLAIN, Access, Folder, NothingMatchedError, Output, open_dest, open_existing
from emdstore.cli.render import note, show_document, size_text, sum_up
from emdstore.exchange.chosen import Chosen, choose_records
from emdstore.exchange.citing import as_bibtex, as_cff
from emdstore.exchange.datastore import write_datastore
from emdstore.exchange.deposit import deposit as pack
from emdstore.exchange.provenance import as_prov_json
from emdstore.stores.port import ArtifactStore, SupportsPath
from emdstore.web.text import count_text


@Parameter(name="*")
@attrs.frozen
class Which:
    """Which published sets are meant, and how to reach them."""

    release: Annotated[
        str | None, Parameter(help="Only the sets of this release, or of what this alias points at.")
    ] = None
    choosing: Choosing = ANYTHING
    access: Access = ANY


ANY_SETS = Which()


def deposit(
    store: str,
    prefix: Folder = "",
    /,
    *,
    folder: Annotated[Path, Parameter(name=("--output", "-o"))],
    bag: bool = False,
    title: str | None = None,
    description: str | None = None,
    license: str = "https://spdx.org/licenses/CC-BY-4.0",
    which: Which = ANY_SETS,
    output: Output = PLAIN,
) -> int:
    """Pack published sets for an archive: a Process Run Crate (RO-Crate 1.1), in a BagIt bag if wished.

    The folder appears when everything is in it, and every byte was compared with its record. It also holds the
    provenance (PROV-JSON), and what to cite. Sets that failed, are incomplete or were retracted are left out
    and named; sets that are damaged or in flux, too, and then the exit code is 1.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    folder
        A folder of this machine that is not there yet.
    bag
        Make it a BagIt bag: everything in data/, with manifests of SHA-256 beside it.
    title
        What it is called; by default after its release, or its providers.
    description
        What is in it.
    license
        The license of the data, as a URL.
    """
    source = open_existing(store, which.access)
    chosen = _chosen(source, prefix, which)
    made = pack(source, folder, chosen=chosen, bag=bag, title=title, description=description, license=license)
    code = 1 if chosen.doubtful else 0
    if output.json:
        return show_document("deposit", {"deposit": made}, code)
    _tell_left(chosen)
    what = "a BagIt bag with a Process Run Crate" if bag else "a Process Run Crate"
    sum_up(f"{count_text(made.sets, 'set')} ({size_text(made.size)}) in {made.folder}, {what}")
    return code


def cite(
    store: str,
    prefix: Folder = "",
    /,
    *,
    format: Literal["bibtex", "cff"] = "bibtex",
    which: Which = ANY_SETS,
    output: Output = PLAIN,
) -> int:
    """Print what to cite for published sets: the datasets that they read, and the software.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    format
        BibTeX, or a CITATION.cff.
    """
    chosen = _chosen(open_existing(store, which.access), prefix, which)
    text = as_bibtex(chosen.records) if format == "bibtex" else as_cff(chosen.records, title=which.release or store)
    code = 1 if chosen.doubtful else 0
    if output.json:
        return show_document("cite", {"format": format, "text": text, "left": chosen.left}, code)
    _tell_left(chosen)
    print(text, end="")
    return code


def provenance(
    store: str,
    prefix: Folder = "",
    /,
    *,
    which: Which = ANY_SETS,
    output: Output = PLAIN,
) -> int:
    """Print which run made which file, from which datasets, by which software, as PROV-JSON.

    Parameters
    ----------
    store
        The results store.
    prefix
        Only sets in this folder.
    """
    chosen = _chosen(open_existing(store, which.access), prefix, which)
    text, code = as_prov_json(chosen.records), 1 if chosen.doubtful else 0
    if output.json:
        return show_document("provenance", {"provenance": json.loads(text), "left": chosen.left}, code)
    _tell_left(chosen)
    print(text)
    return code


def datastore(
    store: str,
    prefix: Folder = "",
    /,
    *,
    folder: Annotated[str, Parameter(name=("--output", "-o"))],
    name: str = "emdstore",
    which: Which = ANY_SETS,
    output: Output = PLAIN,
) -> int:
    """Write a datastore that intake-esm opens: a table of the NetCDF files and Zarr groups of published sets.

    Parameters
    ----------
    store
        The results store, as whoever opens the files reaches it.
    prefix
        Only sets in this folder.
    folder
        Where to write NAME.csv and NAME.json: a folder or another store.
    name
        What it is called.
    """
    source = open_existing(store, which.access)
    chosen = _chosen(source, prefix, which)
    place = str(source.local_path()) if isinstance(source, SupportsPath) else store
    files = write_datastore(chosen.records, open_dest(folder, which.access), place=place, name=name)
    code = 1 if chosen.doubtful else 0
    if output.json:
        document = {"name": name, "folder": folder, "sets": len(chosen.records), "files": files, "left": chosen.left}
        return show_document("datastore", document, code)
    _tell_left(chosen)
    sum_up(f"{count_text(files, 'file')} of {count_text(len(chosen.records), 'set')} in {folder}/{name}.json")
    return code


def _chosen(source: ArtifactStore, prefix: str, which: Which) -> Chosen:
    selection = which.choosing.of_sets()
    chosen = choose_records(source, prefix, selection=selection, release=which.release)
    refuse_unmatched(len(chosen.records) + len(chosen.left), selection, "set", store=repr(source))
    if not chosen.records:
        told = "".join(f"; {name} is {why}" for name, why in chosen.left.items())
        where = f"below {prefix!r} in {source!r}" if prefix else f"in {source!r}"
        raise NothingMatchedError(f"no published set {where}{told}", key=prefix or None)
    return chosen


def _tell_left(chosen: Chosen) -> None:
    for name, why in chosen.left.items():
        note(f"left out: {name} ({why})")
