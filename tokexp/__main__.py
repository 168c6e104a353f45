"""`python -m tokexp` and the command `tokexp`: Ctrl-C ends them with a word even while they are being loaded."""

import sys


def main() -> None:
    """Run the command line; see `tokexp.cli.main`."""
    try:
        from tokexp.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
