"""emdstore.cli."""
