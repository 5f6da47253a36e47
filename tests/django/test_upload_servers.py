"""`storage_uploads` with a real runtime that uploads to a real server: this site, by its URLs, or one of S3."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from django.core.files.storage import default_storage
from django.http import JsonResponse
from django.test import LiveServerTestCase, override_settings
from django.urls import include, path

from runtimeuse_sync import ArtifactUploadError
from runtimeuse_sync.django import RuntimeUseTestMixin, get_client, storage_uploads
from runtimeuse_sync.runtime import LocalRuntime

from ..support.servers import PATIENCE

#: One of the files is received in several pieces.
WRITE = "mkdir -p out/charts && echo '1,2' > 'out/a report.csv' && head -c 200000 /dev/zero > out/charts/big"
EXPECTED = {"a report.csv": 4, "charts/big": 200_000}

urls: List[str] = []


def build(request: Any) -> JsonResponse:
    uploads = storage_uploads(request, prefix="runs/1", max_size=int(request.GET.get("max_size", 10**6)))

    def noted(upload: Any) -> Any:
        answer = uploads(upload)
        urls.append(answer.presigned_url)
        return answer

    try:
        with uploads:
            get_client().execute_commands([WRITE], artifacts_dirs=["out"], on_artifact_upload_request=noted)
    except ArtifactUploadError as error:
        return JsonResponse({"said": str(error), "why": [failure.reason for failure in uploads.failures]})
    return JsonResponse({file.name: file.size for file in uploads.files})


urlpatterns = [path("build", build), path("runtimeuse/", include("runtimeuse_sync.django.urls"))]


class ThroughTheSite(RuntimeUseTestMixin, LiveServerTestCase):
    """The view waits for the run while other threads of the server receive what the run uploads."""

    runtimeuse_agent = "shell"
    runtimeuse_settings = {"artifact_settle": 0.2, "artifact_scan_interval": 0.03, "end_session_delay": 0.3}  # noqa: RUF012

    def setUp(self) -> None:
        super().setUp()
        media = tempfile.mkdtemp(prefix="runtimeuse-test-")
        self.addCleanup(shutil.rmtree, media)
        changed = override_settings(ROOT_URLCONF=__name__, MEDIA_ROOT=media)
        changed.enable()
        self.addCleanup(changed.disable)
        del urls[:]

    def get(self, view: str) -> Any:
        with urllib.request.urlopen(f"{self.live_server_url}/{view}", timeout=PATIENCE) as response:
            return json.loads(response.read())

    def test_files_arrive(self) -> None:
        assert self.get("build") == EXPECTED
        with default_storage.open("runs/1/a report.csv") as file:
            assert file.read() == b"1,2\n"
        assert default_storage.size("runs/1/charts/big") == 200_000
        # Whoever finds one of the URLs can do nothing with it any more.
        assert len(urls) >= len(EXPECTED)
        for url in urls:
            assert url.startswith(self.live_server_url)
            request = urllib.request.Request(url, b"other", method="PUT")
            with pytest.raises(urllib.error.HTTPError) as caught:
                urllib.request.urlopen(request, timeout=PATIENCE)
            with caught.value as refused:
                assert refused.code == 410
        assert default_storage.size("runs/1/a report.csv") == 4

    def test_what_is_too_large_is_told(self) -> None:
        answer = self.get("build?max_size=1000")
        assert "1 artifact was not uploaded: big (HTTP status 413)" in answer["said"]
        assert answer["why"] == ["it has 200000 bytes, and 1000 are allowed"]


@pytest.fixture
def s3_storage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A storage of django-storages in a bucket of a server on loopback."""
    s3 = pytest.importorskip("storages.backends.s3", reason="needs django-storages, on the newest Python")
    moto_server = pytest.importorskip("moto.server", reason="needs moto and flask, Python 3.10 or later")
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        storage = s3.S3Storage(
            bucket_name="artifacts",
            location="media",
            endpoint_url=f"http://{host}:{port}",
            region_name="us-east-1",
            access_key="testing",
            secret_key="testing",
            addressing_style="path",
        )
        storage.connection.create_bucket(Bucket="artifacts")
        yield storage
        storage.connection.meta.client.close()
        urllib.request.urlopen(
            urllib.request.Request(f"http://{host}:{port}/moto-api/reset", b"", method="POST"), timeout=PATIENCE
        ).close()
    finally:
        server.stop()


@pytest.mark.leaks_allowed("the server of S3 keeps a socket")
def test_a_storage_in_s3_gets_presigned_urls(s3_storage: Any, tmp_path: Path) -> None:
    quick: Any = ThroughTheSite.runtimeuse_settings
    with LocalRuntime(root=str(tmp_path), **quick) as runtime:
        with override_settings(RUNTIMEUSE={"default": {"WS_URL": runtime.ws_url}}):
            # No URL of this site is needed, so there may be none.
            with override_settings(ROOT_URLCONF="django.contrib.auth.urls"):
                uploads = storage_uploads(None, s3_storage, "runs/1")
                with uploads:
                    get_client().execute_commands([WRITE], artifacts_dirs=["out"], on_artifact_upload_request=uploads)
    assert {file.name: file.size for file in uploads.files} == EXPECTED
    assert uploads.failures == []
    found = next(file for file in uploads.check(0) if file.name == "a report.csv")
    assert found.key == "runs/1/a report.csv"
    with s3_storage.open(found.key) as file:
        assert file.read() == b"1,2\n"
    assert s3_storage.connection.meta.client.head_object(Bucket="artifacts", Key="media/runs/1/a report.csv")
