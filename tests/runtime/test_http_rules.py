"""Which way the runtime's own HTTP takes, and what it says on it: proxies, authentication, redirects."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from runtimeuse_sync import (
    AgentRuntimeError,
    ArtifactUploadResult,
    RuntimeEnvironmentDownloadableInterface,
    RuntimeUseClient,
)

from ..support.storage import Answer, Storage
from .conftest import StartRuntime

Client = RuntimeUseClient


@pytest.fixture
def client(start: StartRuntime) -> Client:
    # Not the wire of the other tests, which would obey the environment's proxy itself.
    return Client(start(artifact_settle=0.05, end_session_delay=0.05).ws_url, model="m")


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Storage]:
    """What the environment calls the proxy for HTTP: a server that knows what it was asked for."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    proxy = Storage()
    monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:word@"))
    yield proxy
    proxy.close()


def download(client: Client, url: str) -> None:
    client.execute_commands(["true"], pre_execution_downloadables=[RuntimeEnvironmentDownloadableInterface(url, "in")])


def upload(client: Client, url: str) -> None:
    """Has one file uploaded; returns when that is done with, well or not."""

    def sign(_: Any) -> ArtifactUploadResult:
        return ArtifactUploadResult(url, "text/css")

    client.execute_commands(["echo content > out/file"], artifacts_dirs=["out"], on_artifact_upload_request=sign)


def answer(status: int, header: str, seen: List[Any], **headers: str) -> Answer:
    """Returns what answers a GET, and notes down what this header said."""

    def handler(request: BaseHTTPRequestHandler) -> None:
        seen.append(request.headers[header])
        request.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            request.send_header(name, value)
        request.end_headers()

    return handler


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_this_machine_is_reached_without_a_proxy(client: Client, storage: Storage, proxy: Storage, host: str) -> None:
    storage.files["/file"] = b"content"
    url = storage.url.replace("127.0.0.1", host)
    download(client, url + "/file")
    upload(client, url + "/up")
    assert [put.body for put in storage.received] == [b"content\n"]
    assert proxy.received == []


def test_other_hosts_are_reached_by_the_environments_rules(
    client: Client, proxy: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.files["http://elsewhere.invalid/file"] = b"content"
    download(client, "http://elsewhere.invalid/file")
    upload(client, "http://elsewhere.invalid/up")
    assert [put.path for put in proxy.received] == ["http://elsewhere.invalid/up"]
    monkeypatch.setenv("no_proxy", ".invalid")
    with pytest.raises(AgentRuntimeError, match="Download failed: ConnectionError"):
        download(client, "http://elsewhere.invalid/file")


def test_a_redirect_to_this_machine_leaves_the_proxy_and_its_password(
    client: Client, storage: Storage, proxy: Storage
) -> None:
    seen: List[Any] = []
    proxy.handlers["http://elsewhere.invalid/file"] = answer(
        302, "Proxy-Authorization", seen, Location=storage.url + "/file"
    )
    storage.handlers["/file"] = answer(200, "Proxy-Authorization", seen)
    download(client, "http://elsewhere.invalid/file")
    assert seen == ["Basic dXNlcjp3b3Jk", None]


def test_nothing_of_netrc_is_sent(
    client: Client, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hush\ndefault login me password hush\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    seen: List[Any] = []
    storage.handlers["/first"] = answer(302, "Authorization", seen, Location="/second")
    storage.handlers["/second"] = answer(200, "Authorization", seen)
    download(client, storage.url + "/first")
    upload(client, storage.url + "/up")
    assert seen == [None, None]
    assert "Authorization" not in storage.received[0].headers


def test_what_a_url_says_of_user_and_password_is_for_its_host_alone(client: Client, storage: Storage) -> None:
    seen: List[Any] = []
    elsewhere = storage.url.replace("127.0.0.1", "localhost") + "/third"
    storage.handlers["/first"] = answer(302, "Authorization", seen, Location="/second")
    storage.handlers["/second"] = answer(302, "Authorization", seen, Location=elsewhere)
    storage.handlers["/third"] = answer(200, "Authorization", seen)
    url = storage.url.replace("//", "//user:word@")
    download(client, url + "/first")
    upload(client, url + "/up")
    assert seen == ["Basic dXNlcjp3b3Jk", "Basic dXNlcjp3b3Jk", None]
    assert storage.received[0].headers["Authorization"] == "Basic dXNlcjp3b3Jk"


@pytest.mark.parametrize("host", ["a..b", "a" * 300, "[::1", "h:99999"])
def test_what_is_no_url_is_a_failed_download(client: Client, storage: Storage, host: str) -> None:
    storage.handlers["/file"] = answer(302, "Host", [], Location=f"http://{host}/file?sig=hidden")
    for url in (f"http://{host}/file?sig=hidden", storage.url + "/file?sig=hidden"):
        with pytest.raises(AgentRuntimeError, match="Download failed: ") as caught:
            download(client, url)
        assert "hidden" not in caught.value.error
