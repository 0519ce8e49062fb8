"""The `tta` command: how it begins and how it fails; the commands themselves are in `commands/`."""

from __future__ import annotations

import os
import sys

from tta_langgraph.errors import TTAError


def main() -> None:
    """Runs the command; every expected failure is one line on standard error, and exit code 1."""
    try:
        from tta_langgraph.commands.app import app  # takes seconds, in which Ctrl-C may come as well

        app()
    except TTAError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        _fail(f"{error.strerror or error}{where}. Check that the path exists and is writable")
    except Exception as error:
        _fail(f"{type(error).__name__}: {error}. This is a bug: TTA_DEBUG=1 shows where")


def _fail(message: str) -> None:
    from rich.console import Console

    Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {message}", highlight=False)
    if os.environ.get("TTA_DEBUG"):
        raise
    sys.exit(1)


if __name__ == "__main__":
    main()
