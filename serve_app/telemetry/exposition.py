"""Several exporters' texts to one: our families only, under their own names, each series once.

Pure. Of a sample's labels only the family's own are kept, so that whatever the exporter adds (session,
node, worker, replica, scope) falls away; series that become equal are merged: counters, histograms and
gauges add up, a level is the highest (`Family.merge`). Counters and gauges without labels are shown from
the start, as 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from serve_app.telemetry.families import FAMILIES, Family, Kind, Merge

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
EXPORTER_PREFIX = "ray_"

_Labels = tuple[tuple[str, str], ...]
_Series = dict[tuple[str, _Labels], float]

_HISTOGRAM_SUFFIXES = ("_bucket", "_sum", "_count")


def merge_expositions(texts: Iterable[str], families: Sequence[Family] = FAMILIES) -> str:
    """The exposition text (version 0.0.4) of `families` over all `texts`; unreadable lines are left out."""
    by_sample = {name: family for family in families for name in _sample_names(family)}
    series: dict[str, _Series] = {family.name: _initial(family) for family in families}
    for text in texts:
        for sample in _samples(text, by_sample):
            name = sample.name.removeprefix(EXPORTER_PREFIX)
            family = by_sample[name]
            key = (name, _own_labels(sample, family))
            merged = series[family.name]
            merged[key] = _merge(family.merge, merged.get(key), sample.value)
    return "".join(line for family in families for line in _family_lines(family, series[family.name]))


def _sample_names(family: Family) -> tuple[str, ...]:
    if family.kind is Kind.HISTOGRAM:
        return tuple(family.name + suffix for suffix in _HISTOGRAM_SUFFIXES)
    return (family.name,)


def _initial(family: Family) -> _Series:
    return {(family.name, ()): 0.0} if family.kind is not Kind.HISTOGRAM and not family.labels else {}


def _samples(text: str, wanted: dict[str, Family]) -> Iterator[Sample]:
    # An exporter says 4,000 lines of other things: they are dropped before the slow parser sees them.
    for line in text.split("\n"):
        name = line.partition("{")[0].partition(" ")[0].removeprefix(EXPORTER_PREFIX)
        if name not in wanted:
            continue
        try:
            for family in text_string_to_metric_families(line + "\n"):
                yield from family.samples
        except ValueError:
            continue


def _own_labels(sample: Sample, family: Family) -> _Labels:
    labels = [(name, sample.labels.get(name, "")) for name in family.labels]
    if sample.name.endswith("_bucket"):
        labels.append(("le", _bound_text(float(sample.labels.get("le", "inf")))))
    return tuple(labels)


def _merge(how: Merge, old: float | None, new: float) -> float:
    if old is None or math.isnan(old):
        return new
    if math.isnan(new):
        return old
    return max(old, new) if how is Merge.MAX else old + new


def _family_lines(family: Family, series: _Series) -> Iterator[str]:
    yield f"# HELP {family.name} {_escaped_help(family.help)}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for (name, labels), value in sorted(series.items(), key=lambda item: _order(family, *item[0])):
        inside = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        yield f"{name}{{{inside}}} {_number(value)}\n" if inside else f"{name} {_number(value)}\n"


def _order(family: Family, name: str, labels: _Labels) -> tuple[_Labels, int, float]:
    """Series by labels; within a histogram's buckets by bound, then sum, then count."""
    own = tuple(pair for pair in labels if pair[0] != "le" or family.kind is not Kind.HISTOGRAM)
    rank = _sample_names(family).index(name)
    return own, rank, float(dict(labels)["le"]) if name.endswith("_bucket") else 0.0


def _bound_text(bound: float) -> str:
    return "+Inf" if math.isinf(bound) else repr(bound)


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(float(value))


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
