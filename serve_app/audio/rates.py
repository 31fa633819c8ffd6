"""How many samples a second raw audio may have, in every door that can name its rate."""

from __future__ import annotations

from typing import Final

MIN_RATE_HZ: Final = 8_000
MAX_RATE_HZ: Final = 192_000
