"""Promote the artifacts of climate diagnostics, whole and verified, and load a database from what was published.

The public names are listed once, in ``__init__.pyi`` beside this file. Each is imported when it is first used, so that
importing the package loads no engine and no database library.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
