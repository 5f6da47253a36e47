"""The app's own URLs, for `storage_uploads`: `path("runtimeuse/", include("runtimeuse_sync.django.urls"))`.

Threads: views run in the server's threads.
"""

from typing import Any, List

app_name = "runtimeuse"

urlpatterns: List[Any] = []
