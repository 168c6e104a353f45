"""Amounts as people read them: seconds and bytes."""


def span(seconds: float) -> str:
    """Return a length of time in its two largest units: `45 s`, `2 min 40 s`, `3 h 5 min`, `2 d 4 h`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for size, name, below, below_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {below_name}" if rest else "")
    return f"{whole} s"


def size(count: float) -> str:
    """Return a number of bytes with a decimal unit: `812 B`, `1.1 MB`, `2.60 GB` has three digits at most."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} B" if unit == "B" else f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
