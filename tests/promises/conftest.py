"""The fixtures of these tests: scripted servers, embedded runtimes, a storage."""

from __future__ import annotations

from ..support.fixtures import no_proxy_settings, runtime, serve, start, storage

__all__ = ["no_proxy_settings", "runtime", "serve", "start", "storage"]
