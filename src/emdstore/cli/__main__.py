"""``python -m emdstore.cli`` is ``emdstore``."""

import sys

from emdstore.cli import main

if __name__ == "__main__":
    sys.exit(main())
