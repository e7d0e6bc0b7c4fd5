"""Real servers on the loopback interface, for tests that would otherwise need a mock."""
