"""Structured logs: one event a line, JSON for machines, columns for a terminal.

Logs say what happened to which connection or store. They never carry values, keys or tokens; what comes from a peer
is cut and escaped. uvicorn's own records go through the same renderer.
"""

import logging
import logging.config
import re
import sys
from typing import Literal

import structlog

__all__ = ["Log", "LogFormat", "configure_logging", "get_guest_log", "get_log"]

Log = structlog.stdlib.BoundLogger
LogFormat = Literal["auto", "json", "text"]


def get_log() -> Log:
    """Return the server's log."""
    log: Log = structlog.stdlib.get_logger("syncline")
    return log


def get_guest_log() -> Log:
    """Return the log of a server in somebody else's program: the standard library's logger `syncline`.

    Whatever that program has configured structlog for is left alone; unconfigured, structlog prints to stdout.
    """
    log: Log = structlog.wrap_logger(
        logging.getLogger("syncline"),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    return log


def configure_logging(log_format: LogFormat, level: str) -> None:
    """Send all logs of this process to standard error.

    Args:
        log_format: `json`, `text`, or `auto`: text on a terminal, JSON elsewhere.
        level: the lowest level that is shown, as in `info`.
    """
    as_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: structlog.types.Processor = (
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if as_text else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _without_controls,
                renderer,
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # One line for each HTTP request or accepted socket would drown the rest; metrics count them.
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.WARNING)


#: What a terminal may take as a command, or a viewer as the end of a line, but line feed and tab; or turns text around.
_CONTROLS = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028-\\u202e\\u2066-\\u2069]")


def _without_controls(
    logger: structlog.types.WrappedLogger, name: str, event: structlog.types.EventDict
) -> structlog.types.EventDict:
    """Escape control characters where the renderers leave text as it is; fields they quote themselves."""
    for key in ("event", "exception"):
        text = event.get(key)
        if isinstance(text, str):
            event[key] = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return event
