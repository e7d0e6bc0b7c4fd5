"""emdstore.emds."""
