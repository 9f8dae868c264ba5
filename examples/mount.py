"""An application of one's own with Syncline below /sync: uvicorn mount:app."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from syncline_server import Settings, create_app, lifespan_of
from syncline_server.app import setup_code_of

sync = create_app(Settings(store="sqlite:///data/app.db"))


async def home(request: Request) -> PlainTextResponse:
    """Answer as the application around it."""
    return PlainTextResponse("The application is here, Syncline is at /sync/\n")


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Open and close the stores with the application, and say how the first administrator is made."""
    async with lifespan_of(sync):
        code = setup_code_of(sync)
        if code is not None:
            print(f"Nobody can log in yet. Make the first administrator at /sync/#setup={code}", flush=True)
        yield


app = Starlette(routes=[Route("/", home), Mount("/sync", sync)], lifespan=lifespan)
