"""One execution's life: materialize, decide, ingest, commit. Each verb can be called alone, and again.

The names that people use are in `emdstore`; here each verb is a module.
"""
