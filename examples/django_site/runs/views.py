"""The pages: past runs, a new one, one run, its events; Cancel; and artifacts. All of them show only the user's own.

What belongs to somebody else is not found, so that nobody learns what there is.
"""

import uuid
from typing import Any

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.core.files.storage import default_storage
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from runtimeuse_sync.django import request_cancel

from . import transcript
from .forms import StartForm
from .models import Artifact, Run
from .watching import stream_of
from .work import Job, start

PAGE = 20


@login_required
@never_cache
@require_GET
def runs(request: Any) -> Any:
    Run.objects.mark_lost()
    page = Paginator(Run.objects.filter(owner=request.user), PAGE).get_page(request.GET.get("page"))
    return render(request, "runs/list.html", {"page": page})


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: Any) -> Any:
    if request.method != "POST":
        return render(request, "runs/new.html", {"form": StartForm(initial=_again(request))})
    form = StartForm(request.POST, request.FILES)
    if form.is_valid():
        if Run.objects.running().filter(owner=request.user).count() >= settings.RUNS["AT_ONCE"]:
            form.add_error(
                None,
                f"You have {settings.RUNS['AT_ONCE']} runs at once, which is the most. Wait for one, or cancel it.",
            )
        else:
            return redirect(_start(request, form))
    return render(request, "runs/new.html", {"form": form}, status=400)


def _start(request: Any, form: StartForm) -> Run:
    given = form.cleaned_data
    run = Run(
        owner=request.user,
        kind=given["kind"],
        prompt=given["prompt"],
        goes_on_alone=given["goes_on_alone"],
        inputs=form.described_files(),
    )
    files = [(file.name, file.read()) for file in given["files"]]
    start(Job(run, files, settings.SITE_URL or request.build_absolute_uri("/")))
    return run


def _again(request: Any) -> Any:
    """Returns what the form begins with: what an earlier run was asked, if one is named."""
    try:
        earlier = Run.objects.get(pk=uuid.UUID(request.GET.get("like", "")), owner=request.user)
    except (ValueError, Run.DoesNotExist):
        return {}
    return {"kind": earlier.kind, "prompt": earlier.prompt, "goes_on_alone": earlier.goes_on_alone}


@login_required
@never_cache
@require_GET
def run(request: Any, run_id: uuid.UUID) -> Any:
    found = _own(request, run_id)
    if found.is_silent and Run.objects.mark_lost():
        found.refresh_from_db()
    events = list(found.events.all())
    context = {
        "run": found,
        "blocks": transcript.blocks(events),
        "result": transcript.result(events),
        "last": events[-1].number if events else 0,
        "artifacts": found.artifacts.all(),
    }
    return render(request, "runs/run.html", context)


@login_required
@require_GET
def events(request: Any, run_id: uuid.UUID) -> Any:
    found = _own(request, run_id)
    after = request.headers.get("Last-Event-ID") or request.GET.get("after") or "0"
    if not (after.isascii() and after.isdigit() and len(after) <= 9):
        return HttpResponseBadRequest("the number of the last event must be a number", content_type="text/plain")
    return stream_of(request, found, int(after))


@login_required
@require_POST
def cancel(request: Any, run_id: uuid.UUID) -> Any:
    found = _own(request, run_id)
    if found.is_running:
        # For the page. What has an effect, in whatever process the run is, is the request.
        Run.objects.running().filter(pk=found.pk).update(cancel_requested_at=timezone.now())
        request_cancel(found.cancel_key, request.user)
    return redirect(found)


@login_required
@require_GET
def artifact(request: Any, run_id: uuid.UUID, artifact_id: int) -> Any:
    found = get_object_or_404(Artifact, pk=artifact_id, run_id=run_id, run__owner=request.user)
    try:
        file = default_storage.open(found.stored_as)
    except FileNotFoundError:
        raise Http404("the file is no longer there") from None
    # Whatever it is, it is saved and not shown: a page that an agent has made must not run as one of this site.
    response = FileResponse(
        file, as_attachment=True, filename=found.name.split("/")[-1], content_type="application/octet-stream"
    )
    response.headers["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response.headers["Cache-Control"] = "private, no-store"
    return response


def _own(request: Any, run_id: uuid.UUID) -> Run:
    found: Run = get_object_or_404(Run, pk=run_id, owner=request.user)
    return found
