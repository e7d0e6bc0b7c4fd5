"""emdstore.lifecycle."""
