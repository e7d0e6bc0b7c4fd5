"""A site that shows a catalog and its results store, served or written to files.

The content of a page is a frozen value (`executions`, `execution`, `compare`, `values`); `site` renders it. `app`
serves pages over HTTP and `report` writes the same ones to a folder; they differ only in their links (`places`). Needs
the extra ``web``.
"""
