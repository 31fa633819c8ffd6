"""What a number of live speakers needs: replicas, cards, machines, and how late the text will be.

Assumptions, all in `Speaking`: dense dialogue as in the live benchmark; a card is kept busy for at most
`MAX_BUSY` of its time, where the scaling policy would ask for another one; finals are computed during the
silence that ends an utterance, which hides `SPECULATION_S` of their time.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from serve_app.capacity.policy import ScalingRules
from serve_app.capacity.throughput import (
    CardCost,
    DecodeCost,
    MachineFigures,
    MeasuredCards,
    Origin,
    SessionsPoint,
    UnknownFigure,
    card_cost,
    cpu_machine,
    find_card,
)
from serve_app.models.footprint import Precision
from serve_app.models.registry import find_spec

MAX_BUSY = ScalingRules().up_share
SPECULATION_S = 0.3
DOOR_P95_MS = 105.0
"""A final that is there when its silence ends: tick, voice call and sockets (two cores, 24 speakers)."""
SPEAKERS_PER_INGRESS = 200
VOICE_S = 0.0004
"""Of a core per session and tick of 64 ms."""
GPU_SHARES = {"final": 0.35, "interim": 0.15, "voice": 0.05, "diarization": 0.1}
"""Of a card, as in serve_config.yaml: what is left is for a new replica beside the old one."""
FRACTIONS = {kind: share for kind, share in GPU_SHARES.items() if kind != "diarization"}
"""What a plan counts: speakers are told apart only where that is asked for."""
CONTEXT_GB = 1.0
MAX_SPEAKERS = 1_000_000
BURST = 2.0
"""What comes in a busy moment over what comes on average."""
SHARED_CARD = 2.0
"""What a decode takes on a card that decodes interims too, over what it takes alone."""
ROUNDS = 20
"""A batch lasts as long as it is large, and is as large as it lasts: so often around that circle."""
HOURS_PER_MONTH = 730


@dataclass(frozen=True, slots=True)
class Speaking:
    """How people talk: the share of the time that is speech, seconds of an utterance (the mean; one in twenty
    is longer than `long_utterance_s`) and of an interim's window, and how often interims are to come."""

    speech_share: float = 0.87
    utterance_s: float = 4.0
    long_utterance_s: float = 7.0
    interim_window_s: float = 3.0
    interim_interval_s: float = 1.0
    longest: float = 1.5
    """The longest item of a batch over the mean one."""

    def __post_init__(self) -> None:
        if not 0 < self.speech_share <= 1:
            raise ValueError(f"the share of speech must be over 0 and at most 1, got {self.speech_share}")
        if min(self.utterance_s, self.interim_window_s, self.interim_interval_s) <= 0 or self.longest < 1:
            raise ValueError("lengths and intervals must be over 0")

    @property
    def finals_per_s(self) -> float:
        """Of one speaker."""
        return self.speech_share / self.utterance_s

    @property
    def interims_per_s(self) -> float:
        return self.speech_share / self.interim_interval_s


@dataclass(frozen=True, slots=True)
class PlanRequest:
    """`gpu` is a card's name or "cpu"; `price` of one card or machine per hour; finals within `p95_ms`."""

    speakers: int
    model: str
    gpu: str
    interim_model: str = "small"
    price: float | None = None
    p95_ms: float = 900.0
    batch: int = 8
    speaking: Speaking = Speaking()

    def __post_init__(self) -> None:
        if not 1 <= self.speakers <= MAX_SPEAKERS:
            raise ValueError(f"speakers must be 1 to {MAX_SPEAKERS}, got {self.speakers}")
        if self.price is not None and not (math.isfinite(self.price) and self.price >= 0):
            raise ValueError(f"the price must be a number of at least 0, got {self.price}")
        if not 1 <= self.batch <= 64:
            raise ValueError(f"the batch must be 1 to 64, got {self.batch}")
        if not self.p95_ms > 0:
            raise ValueError(f"p95 must be over 0 ms, got {self.p95_ms}")


@dataclass(frozen=True, slots=True)
class Plan:
    """The answer. `units` are cards, or whole machines on CPUs; `fractions` of a card per replica."""

    speakers: int
    model: str
    interim_model: str
    device: str
    units: int
    unit: str
    speakers_per_unit: float
    replicas: dict[str, int]
    fractions: dict[str, float]
    memory_gb_per_unit: float | None
    busy_share: float | None
    expected_p95_ms: float
    within_bar: bool
    price_per_hour: float | None
    price_per_month: float | None
    price_per_speaker_hour: float | None
    origin: Origin
    sources: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(request: PlanRequest, measured: MeasuredCards | None = None) -> Plan:
    """Raises `UnknownFigure` for models and devices that nothing is known of."""
    request = replace(
        request, model=_canonical(request.model), interim_model=_canonical(request.interim_model)
    )
    if request.gpu.strip().lower() == "cpu":
        return _plan_machines(request, cpu_machine(request.model))
    return _plan_cards(request, measured)


def _plan_cards(request: PlanRequest, measured: MeasuredCards | None) -> Plan:
    card = find_card(request.gpu)
    final = card_cost(request.model, card, measured)
    interim = card_cost(request.interim_model, card, measured)
    memory_gb = _memory_gb(request.model) + _memory_gb(request.interim_model) + CONTEXT_GB
    if memory_gb > card.memory_gb * sum(FRACTIONS.values()):
        raise UnknownFigure(
            f"{request.model} and {request.interim_model} need {memory_gb:.1f} GB, more than their shares "
            f"of a {card.name} ({card.memory_gb:.0f} GB)"
        )
    busy = request.speakers * busy_per_speaker(request, final.cost, interim.cost)
    cards = _in_time(request, final.cost, interim.cost, max(1, math.ceil(busy / MAX_BUSY - 1e-9)))
    expected_ms = expected_p95_ms(request, final.cost, interim.cost, request.speakers / cards)
    return _answer(
        request,
        cards,
        expected_ms,
        interim_model=request.interim_model,
        device=card.name,
        unit="GPU",
        replicas={
            "ingress": math.ceil(request.speakers / SPEAKERS_PER_INGRESS),
            "voice": max(1, math.ceil(request.speakers * VOICE_S / 0.064)),
            "interim": cards,
            "final": cards,
        },
        fractions=dict(FRACTIONS),
        memory_gb_per_unit=round(memory_gb, 1),
        busy_share=round(busy / cards, 2),
        origin=_weakest(final, interim),
        sources=_sources(request, final, interim),
    )


def _in_time(request: PlanRequest, final: DecodeCost, interim: DecodeCost, cards: int) -> int:
    """At least this many cards, and as many more as the bar asks for, where more help (bisection)."""

    def late(number: int) -> bool:
        return expected_p95_ms(request, final, interim, request.speakers / number) > request.p95_ms

    most = max(cards, request.speakers)
    if not late(cards) or late(most):
        return cards
    low, high = cards, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if late(middle) else (low, middle)
    return high


def busy_per_speaker(request: PlanRequest, final: DecodeCost, interim: DecodeCost) -> float:
    """Seconds of a card per second of one speaker, with full batches."""
    talk, batch = request.speaking, request.batch
    finals = talk.finals_per_s * _batch_s(talk, final, talk.utterance_s, batch) / batch
    return finals + talk.interims_per_s * _batch_s(talk, interim, talk.interim_window_s, batch) / batch


def expected_p95_ms(
    request: PlanRequest, final: DecodeCost, interim: DecodeCost, speakers_per_card: float
) -> float:
    """A long final that waits for the batch that runs and is decoded in the next, while interims take their
    share of the card; what the endpoint silence hides taken off. Batches are as large as what comes while
    one runs, at most `batch`."""
    talk = request.speaking
    finals = interims = 1.0
    for _ in range(ROUNDS):
        final_s = _batch_s(talk, final, talk.utterance_s, finals)
        interim_s = _batch_s(talk, interim, talk.interim_window_s, interims)
        round_s = (final_s + interim_s) * speakers_per_card * BURST
        finals = min(request.batch, max(1.0, round_s * talk.finals_per_s))
        interims = min(request.batch, max(1.0, round_s * talk.interims_per_s))
    longer_s = final.per_longest * max(0.0, talk.long_utterance_s - talk.utterance_s)
    return DOOR_P95_MS + 1000 * max(0.0, SHARED_CARD * (2 * final_s + longer_s) - SPECULATION_S)


def _batch_s(talk: Speaking, cost: DecodeCost, item_s: float, batch: float) -> float:
    """Of `batch` items, which need not be whole: it is a mean."""
    longest_s = item_s * (talk.longest if batch > 1 else 1.0)
    return cost.fixed_s + cost.per_longest * longest_s + cost.per_audio * batch * item_s


def _plan_machines(request: PlanRequest, figures: MachineFigures) -> Plan:
    held = [point for point in figures.points if point.p95_ms <= request.p95_ms]
    if not held:
        best = min(figures.points, key=lambda point: point.p95_ms)
        raise UnknownFigure(
            f"{request.model} on {figures.cores} cores has been measured from {best.sessions} speakers on, "
            f"with p95 {best.p95_ms:.0f} ms: nothing is known of {request.p95_ms:.0f} ms"
        )
    machines = math.ceil(request.speakers / held[-1].sessions)
    expected_ms = _between(figures.points, request.speakers / machines)
    return _answer(
        request,
        machines,
        expected_ms,
        interim_model=request.model if request.model == "tiny.en" else "tiny.en",
        device=f"CPU, {figures.cores} cores",
        unit="machine",
        replicas={"ingress": machines, "voice": machines, "recogniser": machines},
        fractions={},
        memory_gb_per_unit=None,
        busy_share=None,
        origin=Origin.MEASURED,
        sources=(f"{request.model}: {figures.source}",),
    )


def _between(points: tuple[SessionsPoint, ...], sessions: float) -> float:
    """Along the measured loads; fewer than the fewest are taken for those."""
    if sessions <= points[0].sessions:
        return points[0].p95_ms
    for low, high in zip(points, points[1:], strict=False):
        if sessions <= high.sessions:
            share = (sessions - low.sessions) / (high.sessions - low.sessions)
            return low.p95_ms + share * (high.p95_ms - low.p95_ms)
    return points[-1].p95_ms


def _answer(request: PlanRequest, units: int, expected_ms: float, **rest: Any) -> Plan:
    """With what follows from the request and the number of `units`; `rest` are the other fields."""
    hour = None if request.price is None else request.price * units
    return Plan(
        speakers=request.speakers,
        model=request.model,
        units=units,
        speakers_per_unit=round(request.speakers / units, 1),
        expected_p95_ms=round(expected_ms),
        within_bar=expected_ms <= request.p95_ms,
        price_per_hour=None if hour is None else round(hour, 2),
        price_per_month=None if hour is None else round(hour * HOURS_PER_MONTH, 2),
        price_per_speaker_hour=None if hour is None else round(hour / request.speakers, 5),
        **rest,
    )


def _canonical(model: str) -> str:
    """`turbo` and `large-v3-turbo` are one."""
    spec = find_spec(model)
    return spec.name if spec is not None else model


def _memory_gb(model: str) -> float:
    """Weights in float16 and a batch's states, from the model's shape."""
    spec = find_spec(model)
    if spec is None or spec.architecture is None:
        return 4.0
    return spec.architecture.weights_mb(Precision.FLOAT16) / 1000 + 0.5


def _weakest(*costs: CardCost) -> Origin:
    measured = all(cost.origin is Origin.MEASURED for cost in costs)
    return Origin.MEASURED if measured else Origin.ESTIMATED


def _sources(request: PlanRequest, final: CardCost, interim: CardCost) -> tuple[str, ...]:
    return (
        f"{request.model}: {final.origin.value} ({final.source})",
        f"{request.interim_model}: {interim.origin.value} ({interim.source})",
        f"{DOOR_P95_MS:.0f} ms around the decoding: measured on a CPU (24 speakers, two cores)",
    )
