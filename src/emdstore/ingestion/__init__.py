"""From the results store into the catalog.

The room is not called ``ingest``: a package of that name would take the place of the function `emdstore.ingest`.
"""
