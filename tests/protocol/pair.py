"""Both ends of one connection, joined in memory: what one has to send, the other receives at once."""

from dataclasses import dataclass, field

from syncline_protocol.client import ClientEvent, ClientSession
from syncline_protocol.codec import batch_frame
from syncline_protocol.cursor import Cursor, Entry, Lineage, Seq
from syncline_protocol.messages import Hello, ResumeHow, Subscribe
from syncline_protocol.server import Opened, ServerEvent, ServerSession, SubscribeRequested

__all__ = ["LINEAGE", "Pair", "change"]

LINEAGE = Lineage((Entry("a01c", Seq(0)), Entry("k3f9", Seq(51))))


def change(seq: int, key: str = "k", value: bytes | None = b"1") -> bytes:
    """Return the text of a change as BATCH carries it."""
    op = b'"op":"DELETE"' if value is None else b'"op":"ADD","value":' + value
    return b'{"seq":%d,"key":"%b","time":0,%b}' % (seq, key.encode(), op)


@dataclass
class Pair:
    """A client and a server session with one clock; `exchange` carries frames until both are silent."""

    now: float = 0.0
    hello: Hello = field(default_factory=Hello)
    client: ClientSession = field(init=False)
    server: ServerSession = field(init=False)
    client_events: list[ClientEvent] = field(default_factory=list)
    server_events: list[ServerEvent] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.client = ClientSession(self.hello, now=self.now)
        self.server = ServerSession(session_id="s1", server="test/1", now=self.now)

    @classmethod
    def ready(cls) -> "Pair":
        """Return a pair that has exchanged HELLO and WELCOME."""
        pair = cls()
        pair.exchange()
        pair.forget()
        return pair

    def exchange(self) -> None:
        """Carry frames both ways until there are none."""
        while True:
            up, down = self.client.data_to_send(), self.server.data_to_send()
            if not up and not down:
                return
            for frame in up:
                self._take(frame)
            for frame in down:
                self.client_events += self.client.receive(frame, self.now)

    def say(self, frame: bytes | str) -> None:
        """Let the client's place send any text, past the client's session."""
        self._take(frame)
        self.exchange()

    def _take(self, frame: bytes | str) -> None:
        event = self.server.receive(frame, self.now)
        if event is not None:
            self.server_events.append(event)
        if isinstance(event, Opened):
            self.server.welcome()

    def push(self, frame: bytes) -> list[ClientEvent]:
        """Let the server's place send any text, past the server's session."""
        return self.client.receive(frame, self.now)

    def forget(self) -> None:
        """Forget the events so far."""
        self.client_events.clear()
        self.server_events.clear()

    def subscribe(
        self, store: str = "notes", *, at: int = 60, head: int = 60, feed: str = "f1", how: ResumeHow = "resume"
    ) -> int:
        """Open a subscription from end to end and return its id."""
        request_id = self.client.next_id()
        self.client.subscribe(Subscribe(request_id, store, LINEAGE.cursor(Seq(at))))
        self.exchange()
        assert isinstance(self.server_events[-1], SubscribeRequested)
        self.server.subscribed(
            request_id,
            feed=feed,
            how=how,
            at=LINEAGE.cursor(Seq(at)),
            head=LINEAGE.cursor(Seq(head)),
            store_id="st1",
            lineage=LINEAGE,
            keep_to=Seq(at) if how == "rewind" else None,
        )
        self.exchange()
        return request_id

    def batch(self, from_: int, to: int, *changes: bytes, feed: str = "f1") -> list[ClientEvent]:
        """Send a batch to the client."""
        return self.push(batch_frame(feed, LINEAGE.cursor(Seq(from_)), LINEAGE.cursor(Seq(to)), changes))

    def advance(self, seconds: float) -> bool:
        """Let time pass for both; returns whether the server owes a heartbeat."""
        self.now += seconds
        self.client.tick(self.now)
        return self.server.tick(self.now)

    def heads(self, **heads: int) -> None:
        """Send the server's heartbeat."""
        self.server.heartbeat({store: Cursor(LINEAGE.cursor(Seq(seq))) for store, seq in heads.items()})
        self.exchange()
