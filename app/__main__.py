"""The command ``chat-schema``, or ``python -m chat_schema``, from its first moment on."""

import sys


def main() -> None:
    """Run the command line, whose imports take most of a second: Ctrl-C ends them without a traceback."""
    try:
        from .cli import main as run

        run()
    except KeyboardInterrupt:
        print("chat-schema: interrupted; what was committed stays.", file=sys.stderr)
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
