"""An application of one's own with Syncline below /sync: uvicorn mount:app."""

from contextlib import AbstractAsyncContextManager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from syncline_server import Settings, create_app, lifespan_of

sync = create_app(Settings(store="sqlite:///data/app.db"))


async def home(request: Request) -> PlainTextResponse:
    """Answer as the application around it."""
    return PlainTextResponse("The application is here, Syncline is at /sync/\n")


def lifespan(app: Starlette) -> AbstractAsyncContextManager[None]:
    """Open and close the stores with the application."""
    return lifespan_of(sync)


app = Starlette(routes=[Route("/", home), Mount("/sync", sync)], lifespan=lifespan)
