"""The Syncline server: durable change logs over WebSockets and HTTP.

`create_app(settings)` makes a Starlette application that can be mounted in another one; `syncline serve` runs it
under a hardened uvicorn. Nothing happens on import.
"""

from .app import create_app, lifespan_of
from .settings import Settings, SettingsError

__all__ = ["Settings", "SettingsError", "create_app", "lifespan_of"]
