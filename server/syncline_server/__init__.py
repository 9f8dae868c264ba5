"""The Syncline server: durable change logs over WebSockets and HTTP.

`create_app(settings)` makes a Starlette application that can be mounted in another one; `syncline serve` runs it
under a hardened uvicorn. `Principal` and `Visitor` are what an `authenticate` function of one's own returns and gets.
Nothing happens on import.
"""

from .access.gate import Visitor
from .access.principal import Principal
from .app import create_app, lifespan_of, setup_code_of
from .settings import Settings, SettingsError

__all__ = ["Principal", "Settings", "SettingsError", "Visitor", "create_app", "lifespan_of", "setup_code_of"]
