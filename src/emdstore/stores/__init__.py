"""The port for artifacts, and one adapter per module."""
