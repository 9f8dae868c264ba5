"""`python -m syncline_server`: the same as `syncline serve`."""

from .cli import serve

if __name__ == "__main__":
    serve()
