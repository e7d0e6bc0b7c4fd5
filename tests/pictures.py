"""Pictures that a browser can decode, each its own."""

from __future__ import annotations

import struct
import zlib


def picture(seed: str, width: int = 160, height: int = 100) -> bytes:
    """Draw a picture that is nobody else's: a PNG of a smooth field, the same for the same seed."""
    shade = zlib.crc32(seed.encode())
    red, green = 90 + shade % 100, 90 + shade // 100 % 100
    across = [bytes((min(255, red + x), 0, 190)) for x in range(width)]
    rows = b"".join(b"\0" + b"".join(across).replace(b"\0", bytes([min(255, green + y)])) for y in range(height))
    parts = [
        (b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    chunks = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)
