"""`X-Request-ID` once in every answer.

The server of a Serve replica adds the header to all answers by a middleware of its own (`RequestIdMiddleware`
in Ray 2.60), whether the application has set it or not, echoes what the client sent unchecked, and leaves
WebSockets without one. Ours does the same right, so it takes that middleware's place.
"""

from __future__ import annotations

from ray.serve._private import http_util

from serve_app.web.request_ids import RequestIds


def name_requests_once() -> None:
    """Use `RequestIds` in every server of this process that has not been started yet."""
    http_util.RequestIdMiddleware = RequestIds
