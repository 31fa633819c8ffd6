from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fakes.local_metrics import LocalInstruments
from serve_app.telemetry.exposition import merge_expositions
from serve_app.telemetry.families import FAMILIES, Kind
from serve_app.telemetry.metrics import Metrics

RAY = (Path(__file__).parents[2] / "golden" / "ray_exporter.txt").read_text()


def samples(text):
    """(name, labels) -> value; two samples of one series would be an error."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found
            found[key] = sample.value
    return found


def test_a_real_exporter_of_ray_becomes_our_families():
    found = samples(merge_expositions([RAY]))
    assert found[("stt_active_connections", ())] == 3.0
    assert found[("stt_queue_depth", (("queue_type", "final"),))] == 3.0
    assert found[("stt_jobs_processed_total", (("job_type", "final"), ("status", 'o"k\\n')))] == 3.0
    assert found[("whisper_cache_hits_total", ())] == 2.0
    final = ("job_type", "final")
    assert found[("stt_decode_duration_seconds_bucket", (final, ("le", "0.5")))] == 1.0
    assert found[("stt_decode_duration_seconds_bucket", (final, ("le", "+Inf")))] == 2.0
    assert found[("stt_decode_duration_seconds_count", (final,))] == 2.0
    assert found[("stt_decode_duration_seconds_sum", (final,))] == 1.05


def test_nothing_of_ray_is_left():
    text = merge_expositions([RAY, RAY])
    assert "ray_" not in text
    assert "otel" not in text
    assert "NodeAddress" not in text
    assert samples(text)[("stt_active_connections", ())] == 6.0


def test_every_family_is_announced_once_in_its_own_words():
    lines = merge_expositions([RAY, RAY]).splitlines()
    for family in FAMILIES:
        assert lines.count(f"# HELP {family.name} {family.help}") == 1
        assert lines.count(f"# TYPE {family.name} {family.kind}") == 1


def test_plain_counters_and_gauges_are_there_from_the_start():
    found = samples(merge_expositions([]))
    assert found[("whisper_cache_misses_total", ())] == 0.0
    assert found[("whisper_active_requests", ())] == 0.0
    assert len(found) == sum(f.kind is not Kind.HISTOGRAM and not f.labels for f in FAMILIES)


def test_a_level_is_the_worst_one():
    node = '# TYPE stt_backpressure_level gauge\nray_stt_backpressure_level{WorkerId="%s"} %d\n'
    text = merge_expositions([node % ("a", 1), node % ("b", 2), node % ("c", 0)])
    assert samples(text)[("stt_backpressure_level", ())] == 2.0


def test_what_cannot_be_read_is_left_out():
    broken = 'stt_active_connections{a="b 3\nstt_active_connections 2\nstt_active_connections two\n\x00\n{}\n'
    assert samples(merge_expositions([broken]))[("stt_active_connections", ())] == 2.0


def test_a_bucket_without_a_readable_bound_is_left_out():
    line = 'stt_decode_duration_seconds_bucket{job_type="final",le="%s"} 1\n'
    found = samples(merge_expositions([line % "often" + line % "0.5"]))
    assert [key[1] for key in found if "bucket" in key[0]] == [(("job_type", "final"), ("le", "0.5"))]


def test_two_processes_add_up_to_what_one_would_have_counted():
    one, first, second = LocalInstruments(), LocalInstruments(), LocalInstruments()
    whole = Metrics(one)
    for part, seconds in ((Metrics(first), (0.2, 0.7)), (Metrics(second), (3.0, 40.0))):
        for duration_s in seconds:
            for recorder in (part, whole):
                recorder.job_processed("final", "success", duration_s)
                recorder.request_done(duration_s, 2 * duration_s)
        part.request_failed()
        whole.request_failed()
    merged = merge_expositions([first.exposition(), second.exposition()])
    assert samples(merged) == samples(merge_expositions([one.exposition()]))


@given(st.lists(st.text() | st.text('ray_stt_queue_depth{}="\\,final \n0123.eNa'), max_size=3))
def test_any_text_gives_valid_output(texts):
    samples(merge_expositions(texts))


@given(st.text())
def test_any_label_value_survives(value):
    local = LocalInstruments()
    Metrics(local).job_processed(value, "success", 0.1)
    found = samples(merge_expositions([local.exposition()]))
    expected = (("job_type", value), ("status", "success"))
    assert ("stt_jobs_processed_total", expected) in found
