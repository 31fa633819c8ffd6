"""Every alert fires on what it is for and keeps quiet on a healthy service, by Prometheus' tests of rules."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

COMPOSE = Path(__file__).parents[2] / "deploy" / "compose" / "prometheus"
RULES = COMPOSE / "rules" / "sotto.yml"
PROMTOOL = shutil.which("promtool") or ""

pytestmark = pytest.mark.skipif(not PROMTOOL, reason="promtool is not installed (package prometheus)")

MINUTES = 60
CARD = '{gpu_uuid="u",gpu_name="n",gpu_id="0"}'
ON_CARD = '{gpu_uuid="u",gpu_id="0",deployment_name="FinalAsr",replica_id="r"}'
OURS = '{application="sotto",deployment="FinalAsr"}'

HEALTHY = {
    "stt_active_connections": "3",
    'stt_queue_depth{queue_type="final"}': "2",
    "stt_backpressure_level": "0",
    'stt_jobs_processed_total{job_type="final",status="success"}': "0+60",
    'stt_jobs_processed_total{job_type="final",status="error"}': "0+1",
    'stt_sessions_ended_total{reason="completed"}': "0+60",
    'stt_sessions_ended_total{reason="timeout"}': "0+1",
    'whisper_transcription_requests_total{status="success",cached="false"}': "0+60",
    'whisper_transcription_requests_total{status="error",cached="false"}': "0+1",
    'stt_texts_dropped_total{job_type="final",reason="noise"}': "0+1",
    'stt_refused_total{request_type="session",reason="max_sessions"}': "0",
    'stt_text_latency_seconds_bucket{job_type="final",le="0.5"}': "0+60",
    'stt_text_latency_seconds_bucket{job_type="final",le="2.5"}': "0+60",
    'stt_text_latency_seconds_bucket{job_type="final",le="+Inf"}': "0+60",
    'whisper_real_time_factor_bucket{le="0.5"}': "0+60",
    'whisper_real_time_factor_bucket{le="2"}': "0+60",
    'whisper_real_time_factor_bucket{le="+Inf"}': "0+60",
    f"ray_serve_deployment_replica_healthy{OURS}": "1",
    f"ray_serve_autoscaling_target_replicas{OURS}": "1",
    f"stt_gpu_memory_used_bytes{CARD}": "50",
    f"stt_gpu_memory_total_bytes{CARD}": "100",
    f"stt_gpu_temperature_celsius{CARD}": "60",
    f"stt_replica_gpu_memory_used_bytes{ON_CARD}": "20",
    f"stt_replica_gpu_memory_share_bytes{ON_CARD}": "35",
}
"""What a minute adds (`0+60`), or what a gauge says, of a service that is well."""

TROUBLE = {
    "SottoFinalsLate": {'stt_text_latency_seconds_bucket{job_type="final",le="0.5"}': "0"},
    "SottoRefuses": {'stt_refused_total{request_type="session",reason="max_sessions"}': "0+5"},
    "SottoFinalQueueFull": {'stt_queue_depth{queue_type="final"}': "80"},
    "SottoBackpressureCritical": {"stt_backpressure_level": "2"},
    "SottoBackpressureHigh": {"stt_backpressure_level": "1"},
    "SottoDecodesFail": {'stt_jobs_processed_total{job_type="final",status="error"}': "0+5"},
    "SottoSessionsFail": {'stt_sessions_ended_total{reason="timeout"}': "0+10"},
    "SottoUploadsFail": {'whisper_transcription_requests_total{status="error",cached="false"}': "0+20"},
    "SottoUploadsSlowerThanRealTime": {'whisper_real_time_factor_bucket{le="0.5"}': "0"},
    "SottoTextsDropped": {'stt_texts_dropped_total{job_type="final",reason="noise"}': "0+30"},
    "SottoNoReadyReplica": {
        f"ray_serve_deployment_replica_healthy{OURS}": "0",
        f"ray_serve_autoscaling_target_replicas{OURS}": "0",
    },
    "SottoReplicasMissing": {f"ray_serve_autoscaling_target_replicas{OURS}": "2"},
    "SottoGpuMemoryFull": {f"stt_gpu_memory_used_bytes{CARD}": "96"},
    "SottoReplicaOverItsShare": {f"stt_replica_gpu_memory_used_bytes{ON_CARD}": "40"},
    "SottoGpuHot": {f"stt_gpu_temperature_celsius{CARD}": "88"},
    "SottoNotScraped": {"stt_active_connections": "_"},
}
"""Alert to what is other than healthy."""

ALSO = {"SottoBackpressureCritical": {"SottoBackpressureHigh"}}
"""What goes with it."""


def case(name, series, firing):
    values = {
        series_name: f"{start}x{MINUTES}" if "+" in start or start == "_" else f"{start}+0x{MINUTES}"
        for series_name, start in series.items()
    }
    return {
        "name": name,
        "interval": "1m",
        "input_series": [{"series": one, "values": value} for one, value in values.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{MINUTES}m",
                "exp_samples": [
                    {"labels": f'{{alertname="{alert}"}}', "value": 1} for alert in sorted(firing)
                ],
            }
        ],
    }


def promtool(*arguments):
    return subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=120)


def run(tmp_path, *cases):
    path = tmp_path / "alerts.test.yml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": list(cases)})
    )
    return promtool("test", "rules", str(path))


def alert_names():
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}


def test_prometheus_takes_rules_and_configuration():
    rules = promtool("check", "rules", str(RULES))
    assert rules.returncode == 0, rules.stdout + rules.stderr
    config = promtool("check", "config", "--syntax-only", str(COMPOSE / "prometheus.yml"))
    assert config.returncode == 0, config.stdout + config.stderr


def test_every_alert_has_its_trouble():
    assert TROUBLE.keys() == alert_names()


def test_a_healthy_service_alerts_no_one(tmp_path):
    result = run(tmp_path, case("healthy", HEALTHY, set()))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("alert", TROUBLE)
def test_each_fires_and_no_other(tmp_path, alert):
    result = run(tmp_path, case(alert, HEALTHY | TROUBLE[alert], {alert} | ALSO.get(alert, set())))
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_case_that_is_wrong_fails(tmp_path):
    assert run(tmp_path, case("wrong", HEALTHY, {"SottoGpuHot"})).returncode != 0
