"""Transports: how messages reach a runtime and come back."""

from .base import ConnectedTransport, PersistentTransport, Transport
from .websocket import ConnectedWebSocketTransport, WebSocketTransport

__all__ = [
    "ConnectedTransport",
    "ConnectedWebSocketTransport",
    "PersistentTransport",
    "Transport",
    "WebSocketTransport",
]
