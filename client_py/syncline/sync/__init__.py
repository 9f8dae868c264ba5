"""The plain, blocking API: the same names as in `syncline`, for scripts, notebooks and threads.

    import syncline.sync

    with syncline.sync.connect() as client:
        client.add("notes", {"text": "hi"})
        for change in client.subscribe("notes"):
            print(change.op, change.key, change.value)

The async client runs in a thread of its own; every class here is a facade over the one of the same name, whose methods
wait for what comes of it. All may be used from several threads at once, also where a loop runs already, as in a
notebook. Values (`Change`, `Record`, `View`, `Status`, …) and errors are those of `syncline`.
"""

from .accounts import Accounts, Grants, Groups, Invitations, Tokens, Users
from .client import Client, connect
from .collection import Collection, DocumentsView
from .document import Document, ref
from .records import Diff, Found, Records
from .replica import Replica
from .statuses import Statuses
from .stores import Stores
from .subscription import Subscription, SubscriptionEvents
from .watch import Watch
from .write import Write, WriteRejected

__all__ = [
    "Accounts",
    "Client",
    "Collection",
    "Diff",
    "Document",
    "DocumentsView",
    "Found",
    "Grants",
    "Groups",
    "Invitations",
    "Records",
    "Replica",
    "Statuses",
    "Stores",
    "Subscription",
    "SubscriptionEvents",
    "Tokens",
    "Users",
    "Watch",
    "Write",
    "WriteRejected",
    "connect",
    "ref",
]
