"""How durations are written. `static/runs/site.js` writes those of running runs the same way."""

import datetime

from django import template

register = template.Library()


@register.filter
def duration(took: datetime.timedelta) -> str:
    """Returns such as `0.4 s`, `12 s`, `3 min 05 s` or `2 h 07 min`."""
    seconds = max(0.0, took.total_seconds())
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
