"""The one JSON text of a value, and its digest: what stage keys and points of sweeps are named by."""

import json
from hashlib import blake2b
from typing import Any

# Made once, and without the search for circles that no spec has: both take longer than the text of a small value.
_encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False, check_circular=False
).encode


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, floats by their shortest exact form."""
    return _encode(value)


def digest(value: Any) -> str:
    """Return 40 hex digits of blake2b over the canonical JSON of a value."""
    return blake2b(canonical(value).encode(), digest_size=20).hexdigest()
