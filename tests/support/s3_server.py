"""A fixture: an S3 server of this machine's (moto's)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of moto's S3 server, which this process and those that it starts find as they would find AWS."""
    s3fs = pytest.importorskip("s3fs", reason="recgen[s3] is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed").ThreadedMotoServer(
        "127.0.0.1", 0, verbose=False
    )
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request
    server.start()
    host, port = server.get_host_and_port()
    told = {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    told |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in told.items():
            patch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().makedirs("bucket", exist_ok=True)  # moto keeps what it has from server to server
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
