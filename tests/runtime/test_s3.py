"""Artifacts go to a server of S3 by presigned URLs, byte for byte."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator

import pytest
import requests

from runtimeuse_sync import ArtifactUploadError, RuntimeUseClient
from runtimeuse_sync.artifacts import S3Uploads, s3_uploads

from ..support.builders import CONFIRM, Serve, text, until_end, upload
from ..support.servers import PATIENCE, Peer
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
    objects = stored(s3)
    assert {key: item["Body"].read() for key, item in objects.items()} == {
        f"runs/7/{name}": content for name, content in expected.items()
    }
    assert objects["runs/7/日本語.json"]["ContentType"] == "application/json"
    assert objects["runs/7/large.bin"]["ContentType"] == "application/octet-stream"
    assert sign.failures == []
    assert {file.name: (file.size, file.key, file.filepath) for file in sign.files} == {
        name: (len(content), f"runs/7/{name}", str(out / name)) for name, content in expected.items()
    }


def test_a_changed_file_is_stored_again(start: StartRuntime, s3: Any) -> None:
    options: Any = {"artifacts_dirs": ["out"], "on_artifact_upload_request": s3_uploads(s3, BUCKET)}
    with RuntimeUseClient(start().ws_url, model="m").session() as session:
        session.execute_commands(["echo 1 > out/a"], **options)
        session.execute_commands(["sleep 0.5; echo 2 >> out/a"], **options)
    [item] = stored(s3).values()
    assert item["Body"].read() == b"1\n2\n"


def test_a_bucket_that_does_not_exist(start: StartRuntime, s3: Any) -> None:
    client = RuntimeUseClient(start().ws_url, model="m")
    uploads = s3_uploads(s3, "no-such-bucket")
    with pytest.raises(ArtifactUploadError, match="the bucket 'no-such-bucket' does not exist") as caught:
        client.execute_commands(["echo 1 > out/a"], artifacts_dirs=["out"], on_artifact_upload_request=uploads)
    assert caught.value.result.results[0].exit_code == 0
    # Used as a context manager, it says so before anything runs.
    with pytest.raises(ArtifactUploadError, match="the bucket 'no-such-bucket' does not exist"):
        uploads.__enter__()


def test_an_upload_that_the_storage_refuses(start: StartRuntime, s3: Any, caplog: pytest.LogCaptureFixture) -> None:
    uploads = s3_uploads(s3, BUCKET)

    def to_no_bucket(request: Any) -> Any:
        answer = uploads(request)
        answer.presigned_url = answer.presigned_url.replace(f"/{BUCKET}/", "/no-such-bucket/")
        return answer

    with pytest.raises(ArtifactUploadError, match=r"1 artifact was not uploaded: a \(HTTP status 404\)") as caught:
        RuntimeUseClient(start().ws_url, model="m").execute_commands(
            ["echo 1 > out/a"], artifacts_dirs=["out"], on_artifact_upload_request=to_no_bucket
        )
    assert caught.value.result.results[0].exit_code == 0
    assert "failed: HTTP status 404" in caplog.text
    own = "\n".join(record.getMessage() for record in caplog.records if record.name.startswith("runtimeuse"))
    assert "Signature" not in own
    assert stored(s3) == {}
    assert [(failure.name, failure.reason) for failure in uploads.failures] == [("a", "it is not there")]


def use(uploads: S3Uploads, url: str, script: str) -> None:
    with uploads:
        RuntimeUseClient(url, model="m").query(script, artifacts_dirs=["/out"], on_artifact_upload_request=uploads)


def test_a_runtime_that_says_nothing_about_its_uploads(serve: Serve, s3: Any) -> None:
    """As the protocol has it: it asks, uploads or fails to, and confirms the end."""

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        for name in ("a", "b"):
            peer.send(upload(f"/out/x/{name}"))
        for status in (200, 0):
            answer = peer.expect("artifact_upload_response_message")
            if status:
                headers = {"Content-Type": answer["content_type"]}
                put = requests.put(answer["presigned_url"], data=b"123", headers=headers, timeout=PATIENCE)
                assert put.status_code == status
                put.close()
        peer.send(CONFIRM)

    uploads = s3_uploads(s3, BUCKET, prefix="runs")
    client = RuntimeUseClient(serve(script).url, model="m")
    with pytest.raises(ArtifactUploadError, match=r"did not arrive in .*: x/b \(it is not there\)") as caught:
        client.query("hi", artifacts_dirs=["/out"], on_artifact_upload_request=uploads)
    assert caught.value.filepaths == ["/out/x/b"]
    assert caught.value.result.text == "done"
    assert [(file.name, file.size, file.key) for file in uploads.files] == [("x/a", 3, "runs/x/a")]


def test_an_older_object_does_not_count(serve: Serve, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    s3.put_object(Bucket=BUCKET, Key="a", Body=b"of an earlier run")
    # As if it had been stored a minute ago.
    monkeypatch.setattr("runtimeuse_sync.artifacts.s3._CLOCK_SLACK", -60.0)

    def script(peer: Peer) -> None:
        until_end(peer, text("done"))
        peer.send(upload("/out/a"))
        peer.expect("artifact_upload_response_message")
        peer.send(CONFIRM)

    with pytest.raises(ArtifactUploadError, match=r"a \(only an older object is there\)"):
        use(s3_uploads(s3, BUCKET), serve(script).url, "hi")
