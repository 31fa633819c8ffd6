"""From a session's policy options to the policies of its utterances."""

from __future__ import annotations

from collections.abc import Callable

from serve_app.streaming.align_att import AlignAttPolicy
from serve_app.streaming.dual import DualPolicy
from serve_app.streaming.local_agreement import LocalAgreementPolicy
from serve_app.streaming.policy import MakePolicy, PolicyName, PolicyOptions, StreamingPolicy

POLICIES: dict[PolicyName, Callable[[int, PolicyOptions], StreamingPolicy]] = {
    PolicyName.DUAL: lambda start_sample, options: DualPolicy(start_sample),
    PolicyName.LOCAL_AGREEMENT: LocalAgreementPolicy,
    PolicyName.ALIGN_ATT: AlignAttPolicy,
}
"""What makes the policy of an utterance that begins at a sample."""


def policy_maker(options: PolicyOptions) -> MakePolicy:
    """What makes each utterance's policy."""
    make = POLICIES[options.name]
    return lambda start_sample: make(start_sample, options)
