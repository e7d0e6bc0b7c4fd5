"""``python -m tests.simulation``; see `tests.simulation.commands`."""

import sys

from tests.simulation.commands import main

if __name__ == "__main__":
    sys.exit(main())
