"""The commands of ``oscar-x``, and the one place where their failures become a line and an exit status.

Nothing here or in the command modules imports torch at the top: ``oscar-x --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from oscar_x.cli.bench_command import bench_app
from oscar_x.cli.calibrate_command import calibrate
from oscar_x.cli.chat import chat
from oscar_x.cli.demo import demo
from oscar_x.cli.eval_command import eval_app
from oscar_x.cli.failures import INTERRUPTED, explain
from oscar_x.cli.info import info
from oscar_x.cli.tni_command import tni
from oscar_x.cli.warm import warm

app = typer.Typer(
    name="oscar-x",
    help="A 2-bit KV cache for transformers models: answer from 5 to 7 times more context in the same memory.",
    epilog="OSCAR_X_DEBUG=1 in the environment shows the traceback of a failure.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command()(demo)
app.command()(chat)
app.command()(info)
app.command()(warm)
app.command()(tni)
app.command()(calibrate)
app.add_typer(eval_app, name="eval")
app.add_typer(bench_app, name="bench")


def _show_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"oscar-x {version('oscar-x')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def main(arguments: list[str] | None = None) -> int:
    """Run a command line and return its exit status; OSCAR_X_DEBUG=1 lets exceptions through with their traceback.

    Args:
        arguments: without the program's name; None takes those of the process.

    Returns:
        0, 1 for a failure, 2 for a wrong argument, 130 after Ctrl-C.
    """
    try:
        result: Any = app(args=arguments, prog_name="oscar-x", standalone_mode=False)
    except KeyboardInterrupt:
        result = INTERRUPTED
    except Exception as error:
        if os.environ.get("OSCAR_X_DEBUG") == "1":
            raise
        message, result = explain(error)
        if message:  # empty where the help has been printed already
            print(f"oscar-x: {message}", file=sys.stderr)
    if result == INTERRUPTED:
        print("oscar-x: interrupted", file=sys.stderr)
    return result if isinstance(result, int) else 0
