"""The one JSON text of a value, and its digest: what stage keys and points of sweeps are named by."""

import json
from hashlib import blake2b
from typing import Any


def canonical(value: Any) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, floats by their shortest exact form."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """Return 40 hex digits of blake2b over the canonical JSON of a value."""
    return blake2b(canonical(value).encode(), digest_size=20).hexdigest()
