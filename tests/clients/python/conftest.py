from collections.abc import Iterator

import pytest

from fakes.speech_server import running_fake_server


@pytest.fixture(scope="session")
def speech_server() -> Iterator[str]:
    with running_fake_server() as url:
        yield url
