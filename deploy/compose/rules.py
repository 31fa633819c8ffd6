"""Prometheus' rules out of the PrometheusRule that the cluster gets, so that both alert alike.

python deploy/compose/rules.py             writes prometheus/rules/sotto.yml
python deploy/compose/rules.py --check     says whether it is up to date (exit status 1 if not)
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parent
SOURCE = HERE.parents[1] / "k8s" / "components" / "monitoring" / "alerts.yaml"
TARGET = HERE / "prometheus" / "rules" / "sotto.yml"
HEAD = "# Made by deploy/compose/rules.py from k8s/components/monitoring/alerts.yaml.\n"


def rules_file(manifests: str) -> str:
    """The groups of every PrometheusRule in `manifests`, as Prometheus reads them."""
    documents = [document for document in yaml.safe_load_all(manifests) if document]
    groups = [
        group
        for document in documents
        if document.get("kind") == "PrometheusRule"
        for group in document["spec"]["groups"]
    ]
    if not groups:
        raise ValueError("no PrometheusRule with groups")
    return HEAD + str(yaml.safe_dump({"groups": groups}, sort_keys=False, width=110, allow_unicode=True))


def main(arguments: list[str]) -> int:
    text = rules_file(SOURCE.read_text(encoding="utf-8"))
    if "--check" in arguments:
        return 0 if TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text else 1
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
