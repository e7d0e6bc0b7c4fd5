"""One published set: how it is written, found, read and checked."""
