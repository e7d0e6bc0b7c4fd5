from __future__ import annotations

import subprocess
import sys

import pytest

_SCRIPT = """
import json, sys, threading
from emdstore.emds import decode_output_bundle, decode_series
from emdstore.sets.record import ExecutionRecord, decode_record, encode_record

provenance = {"environment": {}, "modeldata": [], "obsdata": {}, "log": ""}
entry = {"filename": "a.png", "long_name": "", "description": ""}
output = json.dumps({"provenance": provenance, "plots": {"a": entry}}).encode()
series = json.dumps([{"dimensions": {}, "index_name": "time", "index": [0], "values": [1.0]}]).encode()
record = encode_record(ExecutionRecord.at("a/b/c/d"))
together = threading.Barrier(16)

def decode():
    together.wait()
    decode_record(record), decode_output_bundle(output), decode_series(series)

sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=decode) for _ in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


@pytest.mark.parametrize("attempt", range(6))
def test_the_first_decoding_may_happen_in_many_threads_at_once(attempt: int) -> None:
    """Msgspec learns a class at its first use, and two threads that had theirs together ended the process."""
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, b"")
