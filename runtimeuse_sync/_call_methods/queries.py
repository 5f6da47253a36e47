"""`query` of clients and sessions, and its other forms: `stream` and `submit`.

Threads: everything here runs in the calling thread; what `submit` returns has a thread of its own (`futures.py`).
"""

from typing import TYPE_CHECKING, Any, Dict, Optional, Type, TypeVar, overload

from .._call import shortened
from .._wire.late_types import late_class
from .._wire.request import QUERY_OPTIONS, query_request
from ..keywords import QueryKeywords, Unpack, lists_keywords
from ..options import QueryOptions
from ..results import QueryResult, TypedQueryResult
from ..run import Run, complete
from .base import RunsRequests, completing_shown

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from ..futures import RunFuture
else:
    # `concurrent.futures` is imported by the first call of `submit`.
    RunFuture = late_class("runtimeuse_sync", "RunFuture")

_Output = TypeVar("_Output")


class Queries(RunsRequests):
    """Queries; each is one run."""

    # A class comes first, as checkers take the first overload for an argument that they do not know. `TypeForm`, which
    # older checkers do not know, is for unions and literals.
    @overload
    def query(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: Type[_Output],
        show: bool = False,
        **keywords: "Unpack[QueryKeywords]",
    ) -> "TypedQueryResult[_Output]": ...

    @overload
    def query(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: None = None,
        show: bool = False,
        **keywords: "Unpack[QueryKeywords]",
    ) -> QueryResult: ...

    @overload
    def query(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: "TypeForm[_Output]",
        show: bool = False,
        **keywords: "Unpack[QueryKeywords]",
    ) -> "TypedQueryResult[_Output]": ...

    @lists_keywords(QueryKeywords, QUERY_OPTIONS)
    def query(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: Any = None,
        show: bool = False,
        **keywords: "Unpack[QueryKeywords]",
    ) -> QueryResult:
        """Sends a prompt to the agent and returns the result.

        A client opens a connection for each call; on a session, calls share its connection, and each waits for its
        turn.

        Args:
            prompt: The user prompt.
            options: The options; default: none set.
            output_type: The type of the answer: a pydantic model, a dataclass, a `TypedDict`, or anything else that
                `pydantic.TypeAdapter` takes, such as `List[Finding]`. Its JSON schema is sent to the agent, and the
                result's `parsed` is an instance of it. Default: none. Needs the extra `[pydantic]`.
            show: Whether to show the agent's messages and the output of commands as they come: as text on stdout, or in
                a notebook as a display that is updated. The callbacks run as well. Default: `False`.
            **keywords: Single options by name; they override those of `options`.

        Returns:
            The agent's result; with an `output_type` a `TypedQueryResult`.

        Raises:
            AgentRuntimeError: The runtime answered with an error, or `idle_timeout` or a callback's timeout passed.
            CommandFailedError: A pre- or post-agent command exited non-zero. This is an `AgentRuntimeError`, too.
            OutputValidationError: The answer does not fit the `output_type`. This is an `AgentRuntimeError`, too.
            CancelledException: `abort` was called, or `cancel_when` returned a true value.
            RunTimeoutError: The call did not end within `timeout`, or its session within `end_session_timeout`. This is
                a `TimeoutError`, too.
            RuntimeConnectionError: The runtime could not be reached; as a `ConnectionLostError`, the connection was
                lost during the call.
            ProtocolError: The runtime broke the protocol.
            ArtifactUploadError: A one-shot's runtime did not wait for all answers to its upload requests.
            SessionStateError: The session is not open, was opened in another process, or is called from inside one of
                its own callbacks or runs.
            ImportError: There is an `output_type`, but pydantic 2 is not installed; nothing was sent.
            TypeError: An argument has the wrong type; nothing was sent. Or a callback returned something invalid.
            ValueError: An argument has an invalid value; nothing was sent.
            Exception: Whatever a callback, `cancel_when`, or a validator of the `output_type` raised.
        """
        run = self._query_run("query()", prompt, options, output_type, dict(keywords))
        try:
            finish = complete if show is False else completing_shown(show)
        except TypeError as error:
            raise shortened(error)  # noqa: B904  # the same exception
        return finish(run)

    @overload
    def stream(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: Type[_Output],
        **keywords: "Unpack[QueryKeywords]",
    ) -> "Run[TypedQueryResult[_Output]]": ...

    @overload
    def stream(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: None = None,
        **keywords: "Unpack[QueryKeywords]",
    ) -> "Run[QueryResult]": ...

    @overload
    def stream(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: "TypeForm[_Output]",
        **keywords: "Unpack[QueryKeywords]",
    ) -> "Run[TypedQueryResult[_Output]]": ...

    @lists_keywords(QueryKeywords, QUERY_OPTIONS)
    def stream(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: Any = None,
        **keywords: "Unpack[QueryKeywords]",
    ) -> "Run[QueryResult]":
        """Returns the run of a query: iterate over its messages as they arrive, then read its result.

        Use it as a context manager; entering sends the request. Entering, iterating and `result` raise what ends the
        run, as documented there.

        Args:
            prompt: The user prompt.
            options: The options; default: none set.
            output_type: The type of the answer, as in `query`.
            **keywords: Single options by name; they override those of `options`.

        Raises:
            ImportError: There is an `output_type`, but pydantic 2 is not installed.
            TypeError: An argument has the wrong type.
            ValueError: An argument has an invalid value.
        """
        return self._query_run("stream()", prompt, options, output_type, dict(keywords))

    @overload
    def submit(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: Type[_Output],
        **keywords: "Unpack[QueryKeywords]",
    ) -> "RunFuture[TypedQueryResult[_Output]]": ...

    @overload
    def submit(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: None = None,
        **keywords: "Unpack[QueryKeywords]",
    ) -> "RunFuture[QueryResult]": ...

    @overload
    def submit(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: "TypeForm[_Output]",
        **keywords: "Unpack[QueryKeywords]",
    ) -> "RunFuture[TypedQueryResult[_Output]]": ...

    @lists_keywords(QueryKeywords, QUERY_OPTIONS)
    def submit(
        self,
        prompt: str,
        options: Optional[QueryOptions] = None,
        *,
        output_type: Any = None,
        **keywords: "Unpack[QueryKeywords]",
    ) -> "RunFuture[Any]":
        """Starts a query in a thread of its own, and returns the future of its result.

        The callbacks run in that thread, with a copy of this thread's context. On a session, runs take their turns in
        the order in which they were submitted, with the calls of other threads.

        Args:
            prompt: The user prompt.
            options: The options; default: none set.
            output_type: The type of the answer, as in `query`.
            **keywords: Single options by name; they override those of `options`.

        Returns:
            A `concurrent.futures.Future` that also has `abort`. It raises what `query` raises.

        Raises:
            ImportError: There is an `output_type`, but pydantic 2 is not installed.
            RuntimeConnectionError: The system cannot start another thread.
            SessionStateError: The session is not open, or the interpreter is shutting down.
            TypeError: An argument has the wrong type; nothing was sent.
            ValueError: An argument has an invalid value; nothing was sent.
        """
        from .. import futures

        run = self._query_run("submit()", prompt, options, output_type, dict(keywords))
        return futures.RunFuture(run, complete).begin()

    def _query_run(
        self, call: str, prompt: str, options: Optional[QueryOptions], output_type: Any, keywords: Dict[str, Any]
    ) -> Run[QueryResult]:
        """Returns the run of a query, not yet started; `call` is the method that was called, as errors name it."""
        try:
            return self._run(query_request(prompt, options, keywords, self._defaults, call, output_type))
        except BaseException as error:
            raise shortened(error)  # noqa: B904  # the same exception
