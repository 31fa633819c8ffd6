"""In which field each door's errors are."""


def shape_of(path: str) -> str:
    """The field that an error of the HTTP door or WebSocket at `path` has."""
    if path in ("/v1/listen", "/v1/auth/grant"):
        return "err_code"
    return "error" if path.startswith("/v1") or path == "/api/transcribe" else "detail"
