"""An upload of one recording, answered with subtitles."""

import sys
from pathlib import Path

from sotto_client.blocking import transcribe_file_as
from sotto_client.errors import SottoClientError


def main(file: str, url: str = "http://127.0.0.1:8000") -> None:
    try:
        print(transcribe_file_as(Path(file), "srt", url=url))
    except SottoClientError as error:
        sys.exit(str(error))


main(*sys.argv[1:])
