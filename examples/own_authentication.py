"""An application whose own users use Syncline below /sync: APP_KEYS='root=… alice=…' uvicorn own_authentication:app.

Whoever shows a key of `APP_KEYS` is a user of Syncline, without an account there. `root` administers: the application
itself, which creates stores and grants them to its users with `syncline.connect(url, token=…)`.
"""

import os
from contextlib import AbstractAsyncContextManager
from hashlib import sha256

from starlette.applications import Starlette
from starlette.routing import Mount

from syncline_server import Settings, create_app, lifespan_of
from syncline_server.access.gate import Visitor
from syncline_server.access.principal import Principal


def hash_of(key: str) -> str:
    """Return what is kept of a key."""
    return sha256(key.encode()).hexdigest()


#: The names of users by the hashes of their keys. Yours are in your database.
USERS = {hash_of(key): name for name, _, key in (pair.partition("=") for pair in os.environ["APP_KEYS"].split())}


async def authenticate(token: str, visitor: Visitor) -> Principal | None:
    """Say who comes with a token that is none of Syncline's; None if nobody does.

    No account of Syncline can have a name that begins with `app:`, so none can be taken for one of these users.
    """
    name = USERS.get(hash_of(token))
    if name is None:
        return None
    return Principal(f"app:{name}", "external", groups=frozenset({"app:members"}), is_admin=name == "root")


sync = create_app(Settings(store="sqlite:///data/app.db"), authenticate=authenticate)


def lifespan(app: Starlette) -> AbstractAsyncContextManager[None]:
    """Open and close the stores with the application."""
    return lifespan_of(sync)


app = Starlette(routes=[Mount("/sync", sync)], lifespan=lifespan)
