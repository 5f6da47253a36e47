"""The WebSocket path against public conformance suites."""
