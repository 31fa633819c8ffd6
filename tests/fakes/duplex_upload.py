"""An upload that is answered while it goes on: the route, and curl sending to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

from serve_app.web.duplex import Duplex


async def sizes_of_parts(request: Request) -> Response:
    """A line for each part of the body, while the rest of it is still to come."""

    async def answer() -> AsyncGenerator[bytes, None]:
        async for part in request.stream():
            if part:
                yield json.dumps({"num_bytes": len(part)}).encode() + b"\n"

    return Duplex(answer(), media_type="application/x-ndjson", max_stall_s=60, on_closed=lambda: None)


async def curl_part_by_part(curl: str, *options: str, url: str, cert: Path) -> bytes:
    """Send two parts, each after the line about the one before; what curl says after the last line."""
    process = await asyncio.create_subprocess_exec(
        *(curl, "-sS", "-N", "--noproxy", "*", "-X", "POST", "-T", ".", "--cacert", str(cert)),
        *(*options, url),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    for size in (100, 200):
        process.stdin.write(bytes(size))
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert json.loads(line)["num_bytes"] == size
    process.stdin.close()
    rest = await process.stdout.read()
    assert await process.wait() == 0
    return rest
