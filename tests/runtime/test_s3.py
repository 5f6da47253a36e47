"""Artifacts go to a server of S3 by presigned URLs, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest
import requests

from runtimeuse_sync import ArtifactUploadError, RuntimeUseClient
from runtimeuse_sync.artifacts import s3_uploads

from ..support.servers import PATIENCE
from .conftest import StartRuntime

boto3 = pytest.importorskip("boto3", reason="needs boto3, Python 3.10 or later")
moto_server = pytest.importorskip("moto.server", reason="needs moto and flask, Python 3.10 or later")

BUCKET = "artifacts"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server on loopback."""
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@pytest.fixture
def s3(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A client of it, with an empty bucket."""
    # Neither an account of whoever runs the tests, nor a proxy.
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    client.create_bucket(Bucket=BUCKET)
    try:
        yield client
    finally:
        client.close()
        # What is stored is the process's, not the server's, and large objects are open files.
        requests.post(endpoint + "/moto-api/reset", timeout=PATIENCE).close()


def stored(s3: Any) -> Any:
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    return {key: s3.get_object(Bucket=BUCKET, Key=key) for key in keys}


def test_files_arrive_byte_for_byte(start: StartRuntime, s3: Any, tmp_path: Path) -> None:
    large = os.urandom(5 * 1024 * 1024)
    contents = {
        "empty.bin": b"",
        "one": b"1",
        "large.bin": large,
        "two words.txt": b"blanks",
        "grüße & co + 100%.txt": "häßlich\n".encode(),
        "日本語.json": b"{}",
        "sub dir/näher.csv": b"a,b\r\n",
    }
    out = tmp_path / "out"
    for name, content in contents.items():
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(content)
    announced = []
    sign = s3_uploads(s3, BUCKET, prefix="runs/7/")

    def on_artifact_upload_request(request: Any) -> Any:
        announced.append(os.path.relpath(request.filepath, str(out)))
        return sign(request)

    RuntimeUseClient(start().ws_url, model="m").execute_commands(
        ["printf late > 'out/last one.txt'"],
        artifacts_dirs=["out"],
        on_artifact_upload_request=on_artifact_upload_request,
    )
    expected = {**contents, "last one.txt": b"late"}
    # An empty file is no artifact: it is not even announced.
    del expected["empty.bin"]
    assert sorted(announced) == sorted(expected)
    prefix = "runs/7" + str(out) + "/"
    objects = stored(s3)
    assert {key[len(prefix) :]: item["Body"].read() for key, item in objects.items()} == expected
    types = {key[len(prefix) :]: item["ContentType"] for key, item in objects.items()}
    assert types["日本語.json"] == "application/json"
    assert types["large.bin"] == "application/octet-stream"


def test_a_changed_file_is_stored_again(start: StartRuntime, s3: Any) -> None:
    options: Any = {"artifacts_dirs": ["out"], "on_artifact_upload_request": s3_uploads(s3, BUCKET)}
    with RuntimeUseClient(start().ws_url, model="m").session() as session:
        session.execute_commands(["echo 1 > out/a"], **options)
        session.execute_commands(["sleep 0.5; echo 2 >> out/a"], **options)
    [item] = stored(s3).values()
    assert item["Body"].read() == b"1\n2\n"


def test_a_refused_upload_is_logged_without_the_signature(
    start: StartRuntime, s3: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sign = s3_uploads(s3, "no-such-bucket")
    with pytest.raises(ArtifactUploadError, match=r"1 artifact was not uploaded: a \(HTTP status 404\)") as caught:
        RuntimeUseClient(start().ws_url, model="m").execute_commands(
            ["echo 1 > out/a"], artifacts_dirs=["out"], on_artifact_upload_request=sign
        )
    assert caught.value.result.results[0].exit_code == 0
    assert "failed: HTTP status 404" in caplog.text
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("runtimeuse"))
    assert "Signature" not in own
    assert stored(s3) == {}
