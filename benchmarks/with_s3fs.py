"""Copies a folder with s3fs, in the environment of the peers: ``with_s3fs.py SOURCE DEST HOW_MANY_AT_ONCE``."""

import json
import os
import sys
import time

import s3fs


def main(source: str, dest: str, at_once: int) -> None:
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    files = s3fs.S3FileSystem(endpoint_url=endpoint, use_listings_cache=False)
    started = time.perf_counter()
    if not source.startswith("s3://"):
        files.put(source + "/", dest + "/", recursive=True, batch_size=at_once)
    elif not dest.startswith("s3://"):
        files.get(source + "/", dest + "/", recursive=True, batch_size=at_once)
    else:
        files.copy(source + "/", dest + "/", recursive=True, batch_size=at_once)
    print(json.dumps({"inside_seconds": time.perf_counter() - started}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
