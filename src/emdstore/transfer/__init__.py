"""emdstore.transfer."""
