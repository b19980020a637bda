"""``code-import settings`` and ``code-import tidy-up``: limits, intervals, retention."""

from __future__ import annotations

import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from .. import reading
from .base import Command, Failure, Group, Session, pass_session, person_option
from .output import print_json, tell

if TYPE_CHECKING:
    from ..models import Setting


@click.group("settings", cls=Group)
def settings() -> None:
    """See and change limits, intervals and retention. They hold for the whole database."""


@settings.command(
    "show", examples=["settings show", "settings show logtail_limit --json | jq -r .value"]
)
@click.argument("name", required=False)
@pass_session
def show_settings(session: Session, name: str | None) -> None:
    """Show all settings, or one."""
    conn = session.connect()
    found = [s for s in reading.settings(conn) if name in (None, s.name)]
    if not found:
        raise Failure(
            f"there is no setting {name}", sqlstate="IJ400", hint="See `code-import settings show`."
        )
    if session.json:
        print_json(found[0] if name else found)
        return
    for setting in found:
        default = f", default {setting.default_value or 'not set'}"
        changed = setting.value != setting.default_value
        click.echo(f"{setting.name}  {_value(setting)}{default if changed else ''}")
        click.echo(textwrap.indent(textwrap.fill(setting.description, 76), "    "))


@settings.command(
    "set",
    sql="code_import_configure",
    examples=[
        "settings set maximum_heartbeat_interval '10 min'",
        "settings set excluded_hosts 'localhost, 127.0.0.1, example.org'",
        "settings set logtail_limit --default",
    ],
)
@click.argument("name")
@click.argument("value", required=False)
@click.option("--default", is_flag=True, help="Go back to the default.")
@person_option
@pass_session
def set_setting(session: Session, name: str, value: str | None, default: bool, person: str) -> None:
    """Change a setting. Values are as PostgreSQL writes them: '300 s', '64 kB', '30 days'."""
    if (value is None) != default:
        raise click.UsageError("Give a value, or --default.")
    _, client = session.open()
    changed = client.configure(name, value, person)
    tell(session, changed, f"{changed.name} is {_value(changed)}")


@click.command("tidy-up", cls=Command, sql="code_import_tidy_up", examples=["tidy-up"])
@pass_session
def tidy_up(session: Session) -> None:
    """Remove events, results and logs that are too old, and note silent machines.

    Workers do this by themselves; so may pg_cron. Safe at any time, and in parallel. Rows astray
    lie where no partition was made for their time: nobody tidied up for long, or a clock is wrong.
    """
    _, client = session.open()
    tidied = client.tidy_up()
    counts = ", ".join(
        f"{count} {noun.replace('_', ' ')}" for noun, count in asdict(tidied).items()
    )
    tell(session, tidied, f"tidied up: {counts}")


def _value(setting: Setting) -> str:
    return "not set" if setting.value is None else setting.value
