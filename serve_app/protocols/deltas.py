"""Only what is new: interim text as pieces that are added, never as text that is sent again.

A client that keeps what it has been told of an utterance as `shown` follows one rule,

    shown = shown[:keep_chars] + text

and has the stable text after every interim, and exactly the final's text after the final. Interims only
ever add (`keep_chars` is all that was sent); a final keeps what it agrees with and replaces the rest.
"""

from __future__ import annotations

from typing import Final as Constant
from typing import NamedTuple

from serve_app.core.events import Final, Partial

MAX_OPEN_UTTERANCES: Constant = 8
"""An utterance whose final never came is forgotten after so many others."""


class Delta(NamedTuple):
    """`text` goes behind the first `keep_chars` code points of what was sent of this utterance."""

    keep_chars: int
    text: str


class NewWords:
    """The stable words of one session that have not been sent yet."""

    def __init__(self) -> None:
        self._shown: dict[str, str] = {}

    def partial(self, event: Partial) -> Delta | None:
        """Whole new stable words; None where there are none."""
        shown = self._shown.get(event.utterance_id, "")
        stable = event.text[: event.stable_chars].rstrip()
        if len(stable) <= len(shown) or not stable.startswith(shown):
            return None
        self._shown[event.utterance_id] = stable
        while len(self._shown) > MAX_OPEN_UTTERANCES:
            self._shown.pop(next(iter(self._shown)))
        return Delta(len(shown), stable[len(shown) :])

    def final(self, event: Final) -> Delta:
        """What the final adds, from the first word on that it writes differently."""
        shown = self._shown.pop(event.utterance_id, "")
        keep = _agreed_chars(shown, event.text)
        return Delta(keep, event.text[keep:])

    def shown(self, utterance_id: str) -> str:
        """What was sent of an utterance whose final has not come."""
        return self._shown.get(utterance_id, "")


def split_stable(event: Partial) -> tuple[str, str]:
    """The text that stays and the text that may still change, both without spaces at the ends."""
    return event.text[: event.stable_chars].strip(), event.text[event.stable_chars :].strip()


def _agreed_chars(shown: str, text: str) -> int:
    """The length of the common beginning, cut back to where no word is cut in either."""
    shorter = min(len(shown), len(text))
    length = next((i for i in range(shorter) if shown[i] != text[i]), shorter)
    while _inside_word(shown, length) or _inside_word(text, length):
        length -= 1
    return length


def _inside_word(text: str, position: int) -> bool:
    return 0 < position < len(text) and _is_spaced(text[position - 1]) and _is_spaced(text[position])


def _is_spaced(char: str) -> bool:
    """A letter or digit of a script that puts spaces between words."""
    return char.isalnum() and char < "\u3040"
