"""One header of every response: what a page of this site may load, and from where."""

from typing import Any, Callable

from asgiref.sync import iscoroutinefunction
from django.utils.decorators import sync_and_async_middleware

#: Everything comes from the site itself, and nothing is written into the pages: no script of a message can run.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@sync_and_async_middleware
def content_security_policy(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Sets the header, unless the view has set a stricter one."""
    if iscoroutinefunction(get_response):

        async def asynchronous(request: Any) -> Any:
            return _with_policy(await get_response(request))

        return asynchronous

    def synchronous(request: Any) -> Any:
        return _with_policy(get_response(request))

    return synchronous


def _with_policy(response: Any) -> Any:
    response.headers.setdefault("Content-Security-Policy", POLICY)
    return response
