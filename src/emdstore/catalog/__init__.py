"""emdstore.catalog."""
