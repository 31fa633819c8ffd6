"""Several exporters' texts to one: our families only, under their own names, each series once.

Pure. Of a sample's labels only the family's own are kept, so that what the exporter adds (session,
node, worker, replica, scope) falls away; series that become equal are merged: counters, histograms and
gauges add up, a level is the highest (`Family.merge`). Counters and gauges without labels are shown from
the start, as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as CONTENT_TYPE
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from serve_app.telemetry.families import FAMILIES, Family, Kind, Merge

__all__ = ["CONTENT_TYPE", "EXPORTER_PREFIX", "Figures", "merge_expositions"]

EXPORTER_PREFIX = "ray_"

_Labels = tuple[tuple[str, str], ...]
_Key = tuple[str, _Labels]
_Series = dict[_Key, float]

_HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")


def merge_expositions(texts: Iterable[str], families: Sequence[Family] = FAMILIES) -> str:
    """The exposition text (version 0.0.4) of `families` over all `texts`; unreadable lines are left out."""
    by_sample = {name: family for family in families for name in _sample_names(family)}
    series: dict[str, _Series] = {family.name: _initial(family) for family in families}
    for text in texts:
        for family, key, value in _samples(text, by_sample):
            merged = series[family.name]
            merged[key] = _merge(family.merge, merged.get(key), value)
    metrics = [_metric(family, series[family.name]) for family in families]
    return generate_latest(_Collected(metrics)).decode()


class Figures:
    """The samples of an exposition, as `merge_expositions` writes it; what is no number is left out."""

    def __init__(self, text: str) -> None:
        self._samples: dict[str, list[tuple[dict[str, str], float]]] = {}
        for metric in text_string_to_metric_families(text):
            for sample in metric.samples:
                if not math.isnan(sample.value):
                    self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, family: Family) -> list[tuple[dict[str, str], float]]:
        """Labels and values of a counter's or a gauge's series."""
        return self._samples.get(family.name, [])

    def one(self, family: Family) -> float:
        """The value of a family without labels."""
        return sum(value for _, value in self.of(family))

    def by_label(self, family: Family, label: str) -> dict[str, int]:
        """Whole numbers, of a family with this label alone."""
        return {labels[label]: round(value) for labels, value in self.of(family)}


class _Collected(Collector):
    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


def _sample_names(family: Family) -> tuple[str, ...]:
    if family.kind is Kind.HISTOGRAM:
        return tuple(family.name + suffix for suffix in _HISTOGRAM_SUFFIXES)
    return (family.name,)


def _initial(family: Family) -> _Series:
    return {(family.name, ()): 0.0} if family.kind is not Kind.HISTOGRAM and not family.labels else {}


def _samples(text: str, wanted: dict[str, Family]) -> Iterator[tuple[Family, _Key, float]]:
    # An exporter says 4,000 lines of other things: they are dropped before the slow parser sees them.
    for line in text.split("\n"):
        name = line.partition("{")[0].partition(" ")[0].removeprefix(EXPORTER_PREFIX)
        if name not in wanted:
            continue
        family = wanted[name]
        try:
            for parsed in text_string_to_metric_families(line + "\n"):
                for sample in parsed.samples:
                    yield family, (name, _own_labels(sample, family)), sample.value
        except ValueError:
            continue


def _own_labels(sample: Sample, family: Family) -> _Labels:
    labels = [(name, sample.labels.get(name, "")) for name in family.labels]
    if sample.name.endswith("_bucket"):
        bound = floatToGoString(sample.labels.get("le", "inf"))  # type: ignore[no-untyped-call]
        labels.append(("le", bound))
    return tuple(labels)


def _merge(how: Merge, old: float | None, new: float) -> float:
    if old is None or math.isnan(old):
        return new
    if math.isnan(new):
        return old
    return max(old, new) if how is Merge.MAX else old + new


def _metric(family: Family, series: _Series) -> Metric:
    metric = Metric(family.name.removesuffix("_total"), family.help, family.kind)
    for (name, labels), value in sorted(series.items(), key=lambda item: _order(family, *item[0])):
        metric.add_sample(name, dict(labels), value)
    return metric


def _order(family: Family, name: str, labels: _Labels) -> tuple[_Labels, int, float]:
    """Series by labels; within a histogram's buckets by bound, then sum, then count."""
    own = tuple(pair for pair in labels if pair[0] != "le" or family.kind is not Kind.HISTOGRAM)
    rank = _sample_names(family).index(name)
    return own, rank, float(dict(labels)["le"]) if name.endswith("_bucket") else 0.0
