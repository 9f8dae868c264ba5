"""Passwords of commands: asked for without an echo, or read from stdin. They are never words of the command line."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["password_of", "password_stdin_option"]

F = TypeVar("F", bound=Callable[..., Any])


def password_stdin_option(command: F) -> F:
    """Give a command the option `--password-stdin`."""
    return click.option(
        "--password-stdin", "from_stdin", is_flag=True, help="Read the password from the first line of stdin."
    )(command)


def password_of(from_stdin: bool, prompt: str = "Password", *, is_new: bool = False) -> str:
    """Return a password. A new one that somebody types is asked for twice."""
    if from_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
        if not password:
            raise click.UsageError("stdin has no password in its first line")
        return password
    typed: str = click.prompt(prompt, hide_input=True, confirmation_prompt=is_new, err=True)
    return typed
