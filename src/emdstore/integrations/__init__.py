"""emdstore.integrations."""
