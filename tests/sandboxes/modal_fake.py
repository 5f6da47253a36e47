"""Modal: its API is gRPC by the SDK's own client, so the SDK's functions are answered, and their signatures checked."""

from __future__ import annotations

from typing import Any, Dict, List
from unittest import mock

import modal
from modal import Tunnel

from .provider import PORT, Provider, checked, event_of_program

provider = Provider(event_of_program(), "*.modal.test")
# The tunnel is there before anything listens: it closes the connection.
provider.cold_status = ""


class Box:
    """Stands in for a `modal.Sandbox`; has of its methods those that the examples call."""

    def __init__(self) -> None:
        tunnel = Tunnel("box.modal.test", provider.port, "", 0)
        self.tunnels = checked(modal.Sandbox.tunnels, lambda timeout=50: {PORT: tunnel}, bound=True)
        self.terminate = checked(modal.Sandbox.terminate, self._terminate, bound=True)

    def _terminate(self, *, wait: bool = False) -> None:  # the signature of the SDK
        provider.killed()


def create(*command: str, **options: Any) -> Box:
    provider.asked.append("create")
    assert options["encrypted_ports"] == [PORT]
    assert options["timeout"] == 600
    assert isinstance(options["app"], modal.App)
    assert isinstance(options["image"], modal.Image)
    (secret,) = options["secrets"]
    assert isinstance(secret, modal.Secret)
    provider.start_runtime(" ".join(command), secrets[-1])
    return Box()


def from_dict(environment: Dict[str, str]) -> modal.Secret:
    secrets.append(environment)
    return make_secret({**environment})


secrets: List[Dict[str, str]] = []
make_secret = modal.Secret.from_dict
for owner, name, answer in [
    (modal.Secret, "from_dict", from_dict),
    (modal.App, "lookup", lambda name, **_: modal.App(name)),
    (modal.Sandbox, "create", create),
]:
    mock.patch.object(owner, name, checked(getattr(owner, name), answer)).start()
provider.run_example("on_modal")
