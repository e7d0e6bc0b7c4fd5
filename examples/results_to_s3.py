"""Copy a results tree to S3, and load a catalog from there.

    python results_to_s3.py [s3://BUCKET/PREFIX]

Server, region and credentials come from the environment (AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, ...). Without
a URL it starts its own server on this machine (moto; `pip install 'emdstore[test]'`).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from emdstore import Catalog, LocalArtifactStore, open_store, replay, transfer, verify
from emdstore.demo import Ensemble, write_ensemble


@contextlib.contextmanager
def own_server() -> Iterator[str]:
    """Run an S3 server and yield the URL of a bucket on it."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "example",
            "AWS_SECRET_ACCESS_KEY": "example",
        }
        client = boto3.client("s3", endpoint_url=os.environ["AWS_ENDPOINT_URL"], region_name="us-east-1")
        client.create_bucket(Bucket="example")
        yield "s3://example/results"
    finally:
        server.stop()


def main(url: str, root: Path) -> None:
    write_ensemble(root, Ensemble(models=5, diagnostics=3))  # made-up results; use your own
    results = LocalArtifactStore(root / "results")
    bucket = open_store(url)

    # Run again, this copies only what is new or changed.
    report = transfer(results, bucket)
    report.raise_for_failures()
    print(f"{report.counts['copied']} copied, {report.counts['unchanged']} unchanged, {report.bytes_copied} bytes")

    # The bucket alone is enough: neither scratch nor the machine that ran the diagnostics is needed.
    print("as recorded" if verify(bucket).ok else "damaged")
    with Catalog(root / "from-s3.db") as catalog:
        replayed = replay(bucket, catalog)
        print(f"{replayed.counts['ingested']} executions, {catalog.scalars().count()} scalars")


if __name__ == "__main__":
    with contextlib.ExitStack() as stack:
        url = sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(own_server())
        main(url, Path(stack.enter_context(tempfile.TemporaryDirectory())))
