"""`RuntimeUseInstrumentor`: turns spans and metrics on and off.

It takes the place of three things: what makes the runs of clients and sessions, what performs an operation on files,
and what runs a command with a large input. Each is one attribute of a class, replaced in one step; without the
instrumentation they are the client's own, so it costs nothing. Calls in progress end as they have begun.

Threads: any thread may turn it on and off; a lock keeps two from doing so at once.
"""

import threading
from typing import TYPE_CHECKING, Any, Collection, List, Tuple

from opentelemetry.metrics import get_meter
from opentelemetry.trace import get_tracer

from .. import __version__
from .._call_methods.base import RunsRequests
from .._call_methods.commands import ShellCommands
from ..files._operation import Operation
from ._attributes import SCHEMA_URL
from ._operations import traced_inputs, traced_operations, traced_runs
from ._telemetry import Telemetry

if TYPE_CHECKING:

    class _BaseInstrumentor:
        """What type checkers know of the base class, whose module tells them to look away."""

        @property
        def is_instrumented_by_opentelemetry(self) -> bool:
            """Whether the instrumentation is on."""
            raise NotImplementedError

        def instrument(self, **kwargs: Any) -> Any:
            """Turns it on."""

        def uninstrument(self, **kwargs: Any) -> Any:
            """Turns it off."""

else:
    from opentelemetry.instrumentation.instrumentor import BaseInstrumentor as _BaseInstrumentor

#: The name of the tracer and the meter.
_SCOPE = "runtimeuse_sync.opentelemetry"

_lock = threading.RLock()

#: What has been replaced: the class, the attribute's name, and what it was.
_replaced: List[Tuple[type, str, Any]] = []


class RuntimeUseInstrumentor(_BaseInstrumentor):
    """Makes a span of each call of each client and session, and measures how long it takes.

    `RuntimeUseInstrumentor().instrument()` turns that on for the whole process, `uninstrument()` off again; each only
    warns if it is so already. All instances are one object.

    Queries have the span `invoke_agent`, as the GenAI conventions have it, with the model and, where the runtime tells
    it, the tokens; commands have `execute_commands`, with their number, the names of the programs and the exit codes;
    operations on files have `files.read` and so on. What was asked, answered, run or printed appears nowhere, and of an
    error only its type. The span's context is in the environment of the agent and of the commands, as `TRACEPARENT` and
    `traceparent`.

    A call's own thread begins and ends its span; callbacks run with the span as the current one. Nothing that a
    processor, an exporter or a reader raises breaks a call.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """Returns nothing: what is instrumented is the package that this class is in."""
        return ()

    def instrument(self, **kwargs: Any) -> None:
        """Turns spans and metrics on, for all calls that begin from now on.

        Args:
            **kwargs: `tracer_provider`, where spans go, and `meter_provider`, where metrics go. Default: the global
                ones. Others are ignored, so that a program can pass the same ones to all instrumentors.

        Raises:
            TypeError: A provider is none.
        """
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            provider = kwargs.get(name)
            if provider is not None and not callable(getattr(provider, method, None)):
                raise TypeError(f"{name} must be a provider, which has {method}, not {type(provider).__name__}")
        with _lock:
            super().instrument(**kwargs)

    def uninstrument(self, **kwargs: Any) -> None:
        """Turns spans and metrics off. Calls in progress still end theirs.

        Args:
            **kwargs: Ignored.
        """
        with _lock:
            super().uninstrument(**kwargs)

    def _instrument(self, **kwargs: Any) -> None:
        tracer = get_tracer(_SCOPE, __version__, kwargs.get("tracer_provider"), SCHEMA_URL)
        meter = get_meter(_SCOPE, __version__, kwargs.get("meter_provider"), SCHEMA_URL)
        telemetry = Telemetry(tracer, meter)
        _replace(RunsRequests, "_new_run", traced_runs(telemetry))
        _replace(Operation, "perform", traced_operations(telemetry, Operation.perform))
        _replace(ShellCommands, "_run_after_writing", traced_inputs(telemetry, ShellCommands._run_after_writing))

    def _uninstrument(self, **_: Any) -> None:
        while _replaced:
            owner, name, original = _replaced.pop()
            setattr(owner, name, original)


def _replace(owner: type, name: str, replacement: Any) -> None:
    _replaced.append((owner, name, vars(owner)[name]))
    setattr(owner, name, replacement)
