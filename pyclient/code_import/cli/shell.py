"""``code-import completion`` and ``code-import api``: help for people and their shells."""

from __future__ import annotations

import textwrap

import click
from click.shell_completion import get_completion_class

from .base import PROGRAM, Command, Session, pass_session
from .output import print_json, print_text

SOURCED = {
    "bash": f'eval "$({PROGRAM} completion bash)"    # in ~/.bashrc',
    "zsh": f'eval "$({PROGRAM} completion zsh)"     # in ~/.zshrc',
    "fish": f"{PROGRAM} completion fish | source    # in ~/.config/fish/config.fish",
}


@click.command("completion", cls=Command, examples=["completion bash"])
@click.argument("shell", type=click.Choice(list(SOURCED)))
@pass_session
def completion(session: Session, shell: str) -> None:
    """Print the script that completes commands and options in a shell.

    \b
    bash  eval "$(code-import completion bash)"
    zsh   eval "$(code-import completion zsh)"
    fish  code-import completion fish | source
    """
    made = get_completion_class(shell)
    assert made is not None, f"click completes words in {shell}"
    root = click.get_current_context().find_root().command
    print_text(session, made(root, {}, PROGRAM, "_CODE_IMPORT_COMPLETE").source() + "\n")


@click.command(
    "api", cls=Command, examples=["api", "api job_claim", "api --json | jq -r .[].function"]
)
@click.argument("text", required=False)
@pass_session
def api(session: Session, text: str | None) -> None:
    """List the functions that programs may call, or those with TEXT in their name."""
    from .. import reading

    lines = [line for line in reading.api(session.connect()) if (text or "") in line.function]
    if session.json:
        print_json(lines)
        return
    for line in lines:
        call = f"vcs.{line.function}({line.arguments})"
        click.echo(textwrap.fill(call, 80, subsequent_indent=" " * 8, break_on_hyphens=False))
        for told in (f"returns {line.result}", line.does):
            click.echo(textwrap.fill(told, 80, initial_indent=" " * 4, subsequent_indent=" " * 8))
