"""These tests run beside a real Climate-REF, in environments that ``test_environments.py`` builds for them."""

from __future__ import annotations

import importlib.util

# Inside such an environment everything but the building of it, elsewhere nothing else.
_inside = importlib.util.find_spec("climate_ref") is not None
collect_ignore_glob = ["test_environments.py"] if _inside else ["test_[!e]*.py"]
