"""`RuntimeUseTestMixin`: a runtime for each test of a Django project.

Threads: the runtime has threads of its own, which have ended when the test has. Callbacks run in the test's thread.
"""

from typing import Any, ClassVar, Dict

from ..testing import FakeRuntime


class RuntimeUseTestMixin:
    """Leads `get_client`, in each test of a class, to a runtime of the test's own; put it before Django's class.

    class AnswerTests(RuntimeUseTestMixin, TestCase):
        runtimeuse_agent = staticmethod(my_agent)      # the embedded runtime

    class ScriptedTests(RuntimeUseTestMixin, TestCase):
        def test_it(self):
            self.fake.expect_query("…", reply="4")     # the fake one, without `runtimeuse_agent`
    """

    runtimeuse_agent: ClassVar[Any] = None
    runtimeuse_settings: ClassVar[Dict[str, Any]] = {}
    fake: FakeRuntime
