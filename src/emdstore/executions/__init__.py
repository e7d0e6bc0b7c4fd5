"""One execution's life: start, run, stop, commit, and what surrounds it."""
