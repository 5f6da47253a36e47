"""`RuntimeUseTestMixin`: a runtime for each test of a Django project.

Threads: the runtime has threads of its own, which have ended when the test has. Callbacks run in the thread that makes
the call, as always: in the test's own, or in the one of the live server that serves the request.
"""

import contextlib
import inspect
import tempfile
import types
import unittest
from typing import TYPE_CHECKING, Any, ClassVar, Dict, Iterator, Optional
from urllib.parse import quote

from ..client import RuntimeUseClient
from ..testing import FakeRuntime, use_runtime
from ._clients import get_client, lead_to

if TYPE_CHECKING:
    from ..runtime import LocalRuntime

    _Base = unittest.TestCase
else:
    _Base = object

#: How many arguments an agent has that is a method of the test's class: `(self, invocation, sender)`.
_OF_A_METHOD = 3


class RuntimeUseTestMixin(_Base):
    """Gives each test of a class a runtime of its own, and leads `get_client` to it. Put it before Django's class.

    Without `runtimeuse_agent`, the runtime is a `FakeRuntime`, whose script the test writes. The test fails if other
    requests came than these, or not all of them. With `runtimeuse_agent` it is a `LocalRuntime` (extra `[runtime]`),
    and its root, where commands and agents run, is a temporary folder.

    During the test, all aliases of `RUNTIMEUSE` lead to this runtime, whatever their URL. Of their settings, those of
    calls are in force, such as `MODEL` and `TIMEOUT`; headers, proxy, TLS context and transport are not. The
    environment's `RUNTIMEUSE_WS_URL` leads to it, too. It works with all of Django's classes, from `SimpleTestCase` to
    `LiveServerTestCase`. A `setUp` of your own has to call `super().setUp()`.

    Raises:
        TypeError: Making a subclass: it has Django's class before this one. Setting up a test: `runtimeuse_settings`
            have one that `LocalRuntime` does not know, or the agent is none.
        ValueError: Setting up a test: a setting is invalid.
        ImportError: Setting up a test: the extra `[runtime]` is not installed.

    Examples:
        >>> class ScriptedTests(RuntimeUseTestMixin, TestCase):
        ...     def test_the_answer(self):
        ...         self.runtimeuse_fake.expect_query("What is 2 + 2?", "4")
        ...         response = self.client.post("/ask", {"question": "What is 2 + 2?"})
        ...         self.assertContains(response, "4")
        >>> class WithAnAgent(RuntimeUseTestMixin, TransactionTestCase):
        ...     def runtimeuse_agent(self, invocation, sender):
        ...         return invocation.user_prompt.upper()
    """

    runtimeuse_agent: ClassVar[Any] = None
    """The agent, as `LocalRuntime` takes it: `"shell"`, `"echo"`, an object, a function or a method.

    `None`, the default, is no agent, but the fake runtime.
    """

    runtimeuse_settings: ClassVar[Dict[str, Any]] = {}
    """Further arguments of `LocalRuntime`. Default: none."""

    _runtimeuse_fake: Optional[FakeRuntime] = None
    _runtimeuse_runtime: "Optional[LocalRuntime]" = None

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        order = cls.__mro__
        if unittest.TestCase in order and order.index(unittest.TestCase) < order.index(RuntimeUseTestMixin):
            raise TypeError(f"{cls.__name__}: put RuntimeUseTestMixin before the class of Django")

    @property
    def runtimeuse_fake(self) -> FakeRuntime:
        """The fake runtime, whose script the test writes.

        Raises:
            AttributeError: The class has an agent, or its `setUp` was not called.
        """
        if self._runtimeuse_fake is None:
            raise AttributeError("there is a runtimeuse_fake only without runtimeuse_agent, and after super().setUp()")
        return self._runtimeuse_fake

    @property
    def runtimeuse_runtime(self) -> "LocalRuntime":
        """The embedded runtime.

        Raises:
            AttributeError: The class has no agent, or its `setUp` was not called.
        """
        if self._runtimeuse_runtime is None:
            raise AttributeError("there is a runtimeuse_runtime only with runtimeuse_agent, and after super().setUp()")
        return self._runtimeuse_runtime

    @property
    def runtimeuse_client(self) -> RuntimeUseClient:
        """The client of the alias `"default"`."""
        return get_client()

    def setUp(self) -> None:
        """Starts the runtime; it is stopped in the test's cleanup."""
        super().setUp()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        stack.enter_context(self._fake() if type(self).runtimeuse_agent is None else self._embedded())

    @contextlib.contextmanager
    def _fake(self) -> Iterator[None]:
        fake = FakeRuntime()
        with use_runtime(fake) as url, lead_to(url):
            self._runtimeuse_fake = fake
            yield
        self._runtimeuse_fake = None
        fake.stop()

    @contextlib.contextmanager
    def _embedded(self) -> Iterator[None]:
        from ..runtime import LocalRuntime

        settings = dict(self.runtimeuse_settings)
        with tempfile.TemporaryDirectory(prefix="runtimeuse-test-") as root:
            with LocalRuntime(**{"agent": self._agent(), "root": root, **settings}) as runtime:
                token = settings.get("token")
                url = f"{runtime.ws_url}/?token={quote(token, safe='')}" if token else runtime.ws_url
                with use_runtime(url), lead_to(url):
                    self._runtimeuse_runtime = runtime
                    yield
                self._runtimeuse_runtime = None

    def _agent(self) -> Any:
        agent: Any = inspect.getattr_static(type(self), "runtimeuse_agent")
        if isinstance(agent, types.FunctionType):
            # A function is a method here, if it has the arguments of one.
            return types.MethodType(agent, self) if len(inspect.signature(agent).parameters) == _OF_A_METHOD else agent
        return self.runtimeuse_agent

    def _callTestMethod(self, method: Any) -> None:  # noqa: N802  # unittest's name
        # Here, as a test that fails or is skipped need not make all of its requests: nothing is to be said of them.
        super()._callTestMethod(method)  # type: ignore[misc]
        if self._runtimeuse_fake is not None:
            problems = self._runtimeuse_fake.problems()
            if problems:
                raise self.failureException(problems)
