"""A recording, played in real time to a live session: interims as they come, then finals with their times."""

import sys
from pathlib import Path

from sotto_client.blocking import stream_file
from sotto_client.live import SessionConfig
from sotto_client.messages import FinalTranscript, PartialTranscript


def main(file: str, url: str = "http://127.0.0.1:8000", speed: str = "1") -> None:
    config = SessionConfig(lang_code="en")
    for message in stream_file(Path(file), url=url, config=config, speed=float(speed)):
        if isinstance(message, PartialTranscript):
            print(f"... {message.text}")
        elif isinstance(message, FinalTranscript):
            print(f"{message.start_ms / 1000:7.2f} s  {message.text}")


main(*sys.argv[1:])
