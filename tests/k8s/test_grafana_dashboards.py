"""The dashboards are what the tables say, can be laid out, and ask for what is served."""

from __future__ import annotations

import itertools

import pytest

from k8s import dashboards
from k8s.check.monitoring_rules import query_faults, relabelled, served_names
from k8s.dashboards import COLUMNS, DASHBOARDS, Dashboard, as_json
from serve_app.telemetry.families import FAMILIES


def test_the_committed_files_are_up_to_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert dashboards.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_panels_are_apart_and_within_the_width(dashboard: Dashboard) -> None:
    panels = as_json(dashboard)["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in itertools.combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (one, other)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_queries_ask_for_what_is_served(dashboard: Dashboard) -> None:
    for panel in as_json(dashboard)["panels"]:
        for target in panel.get("targets", ()):
            assert list(query_faults(target["expr"])) == []


def test_every_query_aggregates() -> None:
    """So that a replica's own series, and one series of the whole cluster, draw the same line."""
    for dashboard in DASHBOARDS:
        for _, panels in dashboard.rows:
            for panel in panels:
                for query, _ in panel.queries:
                    assert query.startswith(("sum", "max", "histogram_quantile(")), query


def test_every_family_is_on_a_dashboard() -> None:
    text = str([as_json(dashboard) for dashboard in DASHBOARDS])
    assert [family.name for family in FAMILIES if family.name not in text] == []


def test_quantiles_are_of_the_buckets() -> None:
    panel = dashboards.quantiles("t", "stt_decode_duration_seconds", '{job_type="final"}', (0.5, 0.95))
    assert [legend for _, legend in panel.queries] == ["p50", "p95"]
    assert panel.queries[1][0] == (
        "histogram_quantile(0.95, sum by (le) "
        '(rate(stt_decode_duration_seconds_bucket{job_type="final"}[$__rate_interval])))'
    )


def test_names_in_strings_are_no_metrics() -> None:
    assert list(query_faults('sum(stt_active_connections{reason="stt_nothing"})')) == []


def test_histograms_are_served_as_samples() -> None:
    assert "stt_decode_duration_seconds_bucket" in served_names()
    assert "stt_decode_duration_seconds" not in served_names()
    assert "ray_serve_deployment_replica_healthy" in served_names()
    assert "ray_node_mem_used" in served_names()


@pytest.mark.parametrize(
    ("rules", "shown"),
    [
        ([], "ray_stt_x"),
        ([{"sourceLabels": ["__name__"], "regex": "stt_.+", "action": "keep"}], None),
        ([{"sourceLabels": ["__name__"], "regex": "ray_stt_.", "action": "drop"}], None),
        ([{"sourceLabels": ["__name__"], "regex": "ray_st", "action": "drop"}], "ray_stt_x"),
        (
            [{"sourceLabels": ["__name__"], "regex": "ray_(.+)", "targetLabel": "__name__"}],
            "stt_x",
        ),
        (
            [
                {
                    "sourceLabels": ["__name__"],
                    "regex": "ray_(.+)",
                    "targetLabel": "__name__",
                    "replacement": "sotto_${1}",
                }
            ],
            "sotto_stt_x",
        ),
        ([{"sourceLabels": ["pod"], "regex": ".*", "action": "drop"}], "ray_stt_x"),
        ([{"regex": "SessionName", "action": "labeldrop"}], "ray_stt_x"),
    ],
)
def test_relabelling_is_prometheus_own(rules: list[dict[str, object]], shown: str | None) -> None:
    assert relabelled("ray_stt_x", rules) == shown


GRAFANA_KINDS = {"row", "timeseries", "stat"}
GRAFANA_UNITS = {"short", "s", "ops", "reqps", "bytes", "percent", "percentunit", "celsius", "watt"} | {
    "dateTimeFromNow"
}
"""Of `@grafana/data`'s value formats, those that are used here; an unknown one is shown as a suffix."""


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda each: each.uid)
def test_grafanas_model_is_kept_to(dashboard: Dashboard) -> None:
    model = as_json(dashboard)
    assert len(model["uid"]) <= 40
    assert {"title", "schemaVersion", "panels", "time", "templating"} <= model.keys()
    variables = {each["name"] for each in model["templating"]["list"]}
    for panel in model["panels"]:
        assert panel["type"] in GRAFANA_KINDS
        if panel["type"] == "row":
            continue
        assert panel["datasource"]["uid"] in {f"${{{name}}}" for name in variables}
        assert panel["fieldConfig"]["defaults"]["unit"] in GRAFANA_UNITS, panel["title"]
        refs = [target["refId"] for target in panel["targets"]]
        assert refs == sorted(set(refs))
        for target in panel["targets"]:
            assert target["expr"]
            assert target["legendFormat"]


def test_every_card_is_on_the_dashboard_with_its_heat_and_power() -> None:
    text = str([as_json(dashboard) for dashboard in DASHBOARDS])
    assert "stt_gpu_temperature_celsius" in text
    assert "stt_gpu_power_watts" in text
