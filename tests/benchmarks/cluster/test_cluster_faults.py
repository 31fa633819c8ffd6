"""What the faults are measured with: comparing sessions, variants of the config, the gateway."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from benchmarks.clips import Clip, SessionPlan
from benchmarks.cluster.faults import (
    Timeline,
    cluster_config,
    fixed_replicas,
    is_full,
    latencies,
    parse_arguments,
    small_config,
    upgraded,
)
from benchmarks.cluster.hosts import Replica
from benchmarks.cluster.network import gateway_config
from benchmarks.cluster.talkers import Talk, compare, word_changes
from serve_app.launch.cluster import SOURCE_DIR
from serve_app.launch.deploy_config import deployment, read_deploy_config
from serve_app.launch.gpu_plan import SPEAKER_LABEL, many_cards

PLAN = SessionPlan((Clip("clip", np.zeros(16_000, np.int16), "one two three"),))
FINALS = [("s1", 0.0, 900.0, "one two"), ("s2", 900.0, 1_800.0, "three")]


def talk(finals: list[tuple[str, float, float, str]], **fields: object) -> Talk:
    result = Talk(PLAN, finals=list(finals), sent_samples=32_000, counted_ms=2_000.0)
    for name, value in fields.items():
        setattr(result, name, value)
    return result


def test_the_same_words_under_another_id_are_not_the_same_session() -> None:
    moved = [FINALS[0], ("s3", *FINALS[1][1:])]
    seen = compare([talk(FINALS), talk(moved)], {"clip": talk(FINALS)})
    assert (seen["sessions_identical"], seen["words_lost"], seen["words_too_many"]) == (1, 0, 0)


def test_lost_doubled_and_changed_words_are_counted() -> None:
    assert word_changes(["a", "b", "c"], ["a", "c"]) == (1, 0)
    assert word_changes(["a", "b"], ["a", "b", "b"]) == (0, 1)
    assert word_changes(["a", "b"], ["a", "x"]) == (1, 1)
    assert word_changes([], ["a"]) == (0, 1)


def test_audio_that_was_not_counted_shows() -> None:
    seen = compare([talk(FINALS, counted_ms=1_900.0)], {"clip": talk(FINALS)})
    assert seen["audio_unaccounted_ms"] == 100.0
    assert compare([talk(FINALS, counted_ms=None)], {"clip": talk(FINALS)})["audio_unaccounted_ms"] == 2_000.0


def test_resumes_and_new_beginnings_are_told_apart() -> None:
    talks = [talk(FINALS, num_resumed=2), talk(FINALS, num_begun_anew=1), talk(FINALS, failure="GaveUp")]
    seen = compare(talks, {"clip": talk(FINALS)})
    assert (seen["sessions_resumed"], seen["resumes"], seen["begun_anew"]) == (1, 2, 1)
    assert (seen["sessions_failed"], seen["failures"]) == (1, ["GaveUp"])


def test_small_hosts_run_the_production_file() -> None:
    production, small = read_deploy_config(SOURCE_DIR / "serve_config.yaml"), small_config()
    names = [entry["name"] for entry in production["applications"][0]["deployments"]]
    assert [entry["name"] for entry in small["applications"][0]["deployments"]] == names
    for name in names:
        theirs, ours = deployment(production, name), deployment(small, name)
        shares = [entry["ray_actor_options"].get("num_gpus") for entry in (theirs, ours)]
        assert shares[0] == shares[1]
        assert ours.get("max_surge_percent") == 100, f"{name} would stop before its successor runs"
    assert small["http_options"]["host"] == "0.0.0.0"
    assert small["applications"][0]["args"]["settings"]["ticket_secret"]


def test_a_new_replica_of_the_largest_share_fits_beside_one_of_each() -> None:
    entries = read_deploy_config(SOURCE_DIR / "serve_config.yaml")["applications"][0]["deployments"]
    shares = [entry["ray_actor_options"].get("num_gpus", 0) for entry in entries]
    assert sum(shares) + max(shares) <= 1


def test_many_cards_keep_finals_and_speakers_apart_if_they_can() -> None:
    changed = many_cards(small_config())
    wishes = {
        name: deployment(changed, name)["ray_actor_options"]["label_selector"][SPEAKER_LABEL]
        for name in ("FinalAsr", "Diarization")
    }
    assert wishes == {"FinalAsr": "!true", "Diarization": "true"}
    for name in wishes:
        assert deployment(changed, name)["ray_actor_options"]["fallback_strategy"] == [{"label_selector": {}}]
    assert deployment(changed, "FinalAsr")["autoscaling_config"]["min_replicas"] == 2
    assert "label_selector" not in deployment(small_config(), "FinalAsr")["ray_actor_options"]


def test_more_replicas_than_two_stay_more() -> None:
    changed = many_cards(small_config(autoscaling=fixed_replicas(5, "FinalAsr")))
    assert deployment(changed, "FinalAsr")["autoscaling_config"]["min_replicas"] == 5
    with pytest.raises(KeyError):
        deployment(changed, "Nobody")


@pytest.mark.parametrize(
    ("which", "names"), [("model", {"FinalAsr"}), ("ingress", {"Ingress"}), ("all", set())]
)
def test_an_upgrade_changes_only_what_it_names(which: str, names: set[str]) -> None:
    config = cluster_config(parse_arguments(["--kill-host"]))
    changed = upgraded(config, which)
    differing = {
        entry["name"]
        for entry in config["applications"][0]["deployments"]
        if entry != deployment(changed, entry["name"])
    }
    assert differing == names
    assert (config["applications"][0]["args"] != changed["applications"][0]["args"]) == (which == "all")


def test_the_gateway_closes_what_a_lost_host_had_open() -> None:
    text = gateway_config("10.0.0.1", ["10.0.0.3", "10.0.0.4"])
    assert "server h1 10.0.0.3:8000" in text
    assert "server h2 10.0.0.4:8000" in text
    assert "on-marked-down shutdown-sessions" in text


def test_capacity_counts_only_living_hosts() -> None:
    replicas = [Replica("FinalAsr", str(n), "RUNNING", address, 1) for n, address in enumerate(("a", "b"))]
    assert is_full(replicas, {"FinalAsr": 2}, frozenset({"a", "b"}))
    assert not is_full(replicas, {"FinalAsr": 2}, frozenset({"a"}))
    assert not is_full(replicas, {"FinalAsr": 1, "Ingress": 1}, frozenset({"a", "b"}))


async def test_a_moment_is_noted_once_and_a_wait_ends() -> None:
    timeline = Timeline()
    assert await timeline.wait_for("now", lambda: True, timeout_s=5)
    first = timeline.moments["now"]
    await asyncio.sleep(0)
    timeline.note("now")
    assert timeline.moments == {"now": first}
    assert not await timeline.wait_for("never", lambda: False, timeout_s=0.02, poll_s=0.01)
    assert "never" not in timeline.since_began()


def test_finals_are_told_apart_by_when_they_came() -> None:
    timeline = Timeline(began_s=10.0, moments={"done": 20.0})
    one = talk(FINALS, latencies_ms=[(5.0, 1.0), (15.0, 2.0), (25.0, 3.0), (26.0, 5.0)])
    found = latencies([one], timeline, "done")
    assert [found[when]["p50"] for when in ("before", "during", "after")] == [1.0, 2.0, 4.0]
    assert latencies([one], timeline, "never")["after"]["count"] == 0
    assert timeline.began_s < time.perf_counter()


def test_senseless_choices_are_refused() -> None:
    for arguments in (["--kill-host", "--upgrade", "model"], ["--kill-host", "--sessions", "0"], []):
        with pytest.raises(SystemExit):
            parse_arguments(arguments)
