"""``python -m emdstore`` is ``emdstore``."""

import sys

from emdstore.cli import main

if __name__ == "__main__":
    sys.exit(main())
