import io
import json
import logging

import pytest
import structlog

from serve_app.telemetry.logs import SPOKEN_FIELDS, configure_logs


@pytest.fixture
def stream():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    out = io.StringIO()
    yield out
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_object_a_line_with_level_name_and_time(stream):
    configure_logs("INFO", stream)
    structlog.get_logger("door").info("session opened", session_id="s", num_samples=3)
    (line,) = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "session opened",
        "level": "info",
        "logger": "door",
        "session_id": "s",
        "num_samples": 3,
    }


def test_libraries_log_in_the_same_shape(stream):
    configure_logs("INFO", stream)
    logging.getLogger("third.party").warning("port %d taken", 8000)
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("port 8000 taken", "warning", "third.party")


def test_the_request_id_is_on_every_line(stream):
    configure_logs("INFO", stream)
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        structlog.get_logger("a").info("one")
        logging.getLogger("b").info("two")
    structlog.get_logger("a").info("three")
    assert [line.get("request_id") for line in lines(stream)] == ["r1", "r1", None]


def test_levels_below_are_silent(stream):
    configure_logs("warning", stream)
    structlog.get_logger("a").info("quiet")
    logging.getLogger("b").info("quiet")
    structlog.get_logger("a").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]


def test_an_unknown_level_is_refused(stream):
    with pytest.raises(ValueError, match="unknown log level 'LOUD'"):
        configure_logs("LOUD", stream)


def test_configuring_twice_does_not_double_the_lines(stream):
    configure_logs("INFO", stream)
    configure_logs("INFO", stream)
    structlog.get_logger("a").info("once")
    assert len(lines(stream)) == 1


@pytest.mark.parametrize("field", sorted(SPOKEN_FIELDS))
def test_what_was_said_never_reaches_the_log(stream, field):
    configure_logs("INFO", stream)
    structlog.get_logger("a").info("decoded", **{field: "the patient said"})
    assert "patient" not in stream.getvalue()
    assert lines(stream)[0][field] == "<16 hidden>"


def test_exceptions_are_one_line_too(stream):
    configure_logs("INFO", stream)
    try:
        raise ValueError("bad")
    except ValueError:
        structlog.get_logger("a").exception("failed")
    (line,) = lines(stream)
    assert "ValueError: bad" in line["exception"]
