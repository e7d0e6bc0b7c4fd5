"""Looking at what was ingested: a site over a catalog and a results store, served or written to files.

A page is a frozen value that says what it shows (`executions`, `execution`, `compare`, `values`); `site` renders it.
`app` serves pages over HTTP and `report` writes the same ones to a folder; they differ in where things are (`places`),
and in nothing else. Needs the extra ``web``.
"""
