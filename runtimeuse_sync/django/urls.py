"""The app's own URLs, for `storage_uploads`: `path("runtimeuse/", include("runtimeuse_sync.django.urls"))`.

Threads: the view runs in the server's threads.
"""

from typing import Any, List

from django.urls import path

from ._upload_view import upload

app_name = "runtimeuse"

urlpatterns: List[Any] = [path("uploads/", upload, name="upload")]
