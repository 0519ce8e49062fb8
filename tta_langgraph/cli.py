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
    except ModuleNotFoundError as error:
        _fail(_missing(error))
    except Exception as error:
        _fail(_bug(error))


def _missing(error: ModuleNotFoundError) -> str:
    extra = EXTRAS.get((error.name or "").partition(".")[0])
    if extra is None:
        return _bug(error)
    return f"this command needs {error.name}, which is not installed. pip install 'tta-langgraph[{extra}]'"


def _bug(error: Exception) -> str:
    if notes := getattr(error, "__notes__", None):  # a server's, which says itself what to do
        return f"{type(error).__name__}: {error} ({'; '.join(notes)})"
    return f"{type(error).__name__}: {error}. This is a bug: TTA_DEBUG=1 shows where"


def _fail(message: str) -> None:
    from rich.console import Console
    from rich.markup import escape

    # What is in square brackets, as the name of an extra is, would be taken for markup.
    Console(stderr=True, soft_wrap=True).print(f"[red]error:[/red] {escape(message)}", highlight=False)
    if os.environ.get("TTA_DEBUG"):
        raise
    sys.exit(1)


EXTRAS = {"numpy": "learn", "scipy": "learn", "sklearn": "learn", "matplotlib": "report", "pyarrow": "report"}
"""Which extra brings a package that commands import."""


if __name__ == "__main__":
    main()
