"""The command line: `graphopt COMMAND`. Each command is a file of its own, loaded when it is called."""

from __future__ import annotations

import gc
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import click

from graphopt._version import __version__
from graphopt.errors import GraphoptError, VerificationError

COMMANDS = {
    "compile": "optimize a model, write it as ONNX, verify it",
    "inspect": "what a model holds and costs, and what is odd about it",
    "passes": "what each pass does, with the IR before and after",
    "run": "run a model and show or save its outputs",
    "text": "print a model's IR as text",
    "verify": "compare two models by the original's own rounding",
}

DONE, DOES_NOT_HOLD, BAD_INPUT = 0, 1, 2  # exit codes
INTERRUPTED, READER_GONE = 130, 141  # 128 and the signal's number, as shells say it: SIGINT, SIGPIPE


class Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All commands, without importing them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"graphopt.cli.{cmd_name}_command")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; where the reader of its output has gone there is nobody to tell anything."""
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()  # here, where an error can still be told
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # takes what is still to be flushed
            ctx.exit(READER_GONE)
        return code

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="graphopt")
def cli() -> None:
    """Compile and optimize convolutional networks: ONNX in, a smaller, faster, proven-equal ONNX out.

    \b
    Examples:
      graphopt compile model.onnx -o model.opt.onnx
      graphopt compile zoo:resnet18 -o resnet18.onnx --explain
      graphopt inspect model.onnx
      graphopt verify model.onnx model.opt.onnx

    MODEL is an ONNX file or a built-in network such as zoo:lenet5.
    Exit codes: 0 done; 1 what was asked for does not hold; 2 bad input or usage.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line on `arguments` (the process's own by default); every error is one sentence."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who called us
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # to the process's end
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name that the terminal's encoding lacks is no error
    gc.disable()  # a graph is one large cycle that lives to the end of the process: looking for garbage only costs
    try:
        code = cli.main(arguments, prog_name="graphopt", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    except (click.Abort, KeyboardInterrupt):
        click.echo("graphopt: interrupted; nothing was left half written", err=True)
        sys.exit(INTERRUPTED)
    except VerificationError as error:
        click.echo(f"graphopt: {error}", err=True)
        sys.exit(DOES_NOT_HOLD)
    except GraphoptError as error:
        click.echo(f"graphopt: {error}", err=True)
        sys.exit(BAD_INPUT)
    except MemoryError:
        click.echo("graphopt: out of memory: close other programs, or use a machine with more", err=True)
        sys.exit(BAD_INPUT)
    except OSError as error:  # a full disk under standard output or temporary files
        click.echo(f"graphopt: {error.filename or 'the output'} fails: {error.strerror or error}", err=True)
        sys.exit(BAD_INPUT)
    sys.exit(code if isinstance(code, int) else DONE)


if __name__ == "__main__":
    main()
