"""emdstore.testing."""
