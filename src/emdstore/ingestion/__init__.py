"""From the results store into the catalog.

The package is not called ``ingest``, because that would replace the function `emdstore.ingest`.
"""
