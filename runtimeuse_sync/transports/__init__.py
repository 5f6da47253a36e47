"""Transports: the interface that moves messages to a runtime and back, and the built-in one by WebSocket."""

from .base import ConnectedTransport, PersistentTransport, Transport
from .websocket import ConnectedWebSocketTransport, WebSocketTransport

__all__ = [
    "ConnectedTransport",
    "ConnectedWebSocketTransport",
    "PersistentTransport",
    "Transport",
    "WebSocketTransport",
]
