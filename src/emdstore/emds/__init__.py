"""The EMDS format of an execution's results: read, check and write bundles, and decide which files make up a set.

The names are listed in ``__init__.pyi`` beside this file, and imported when they are first used: a transfer needs few.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
