"""Spans and metrics of OpenTelemetry for the client's calls, with the extra `[otel]`.

To turn them on::

    from runtimeuse_sync.opentelemetry import RuntimeUseInstrumentor

    RuntimeUseInstrumentor().instrument()

Nothing of the client imports this package, and until `instrument` is called, nothing of it runs. `_instrumentor.py`
takes the places in the client where a call begins, `_runs.py` and `_operations.py` follow a call, `_telemetry.py` makes
its span and its metrics, `_attributes.py` says what these show, and `_propagation.py` puts the span's context into the
environment of what runs in the sandbox. In these modules `opentelemetry` is the package of that name, not this one.

Threads: spans begin and end in the threads that make the calls.
"""

try:
    from ._instrumentor import RuntimeUseInstrumentor
except ModuleNotFoundError as _error:
    if (_error.name or "").split(".", maxsplit=1)[0] not in ("opentelemetry", "wrapt"):
        raise
    raise ImportError(
        f"the instrumentation needs the module {_error.name!r}, which is not installed: "
        'pip install "runtimeuse-sync[otel]"',
        name=_error.name,
    ) from _error

__all__ = ["RuntimeUseInstrumentor"]
