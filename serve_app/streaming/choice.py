"""From a session's policy options to the policies of its utterances."""

from __future__ import annotations

from functools import partial

from serve_app.streaming.align_att import AlignAttPolicy
from serve_app.streaming.dual import DualPolicy
from serve_app.streaming.local_agreement import LocalAgreementPolicy
from serve_app.streaming.policy import MakePolicy, PolicyName, PolicyOptions


def policy_maker(options: PolicyOptions) -> MakePolicy:
    """What makes each utterance's policy."""
    if options.name is PolicyName.LOCAL_AGREEMENT:
        return partial(LocalAgreementPolicy, options=options)
    if options.name is PolicyName.ALIGN_ATT:
        return partial(AlignAttPolicy, options=options)
    return DualPolicy
