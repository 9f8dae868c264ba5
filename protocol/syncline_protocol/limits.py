"""Every bound of the protocol, in one place, with where its number comes from.

WELCOME announces the ones a client has to keep (`Limits`), so a client never hard-codes them. They are
constants of this version, not settings: a transaction that was accepted once must fit in a frame for ever,
which a limit that an operator lowers between two starts would break (PROTOCOL 9).
"""

import msgspec

__all__ = [
    "BATCH_BYTES_TARGET",
    "FIND_LIMIT_MAX",
    "FOUND_BYTES_TARGET",
    "HEARTBEAT_S",
    "HELLO_TIMEOUT_S",
    "ID_MAX",
    "INCARNATION_CHARS_MAX",
    "LINEAGE_ENTRIES_MAX",
    "SEQ_MAX",
    "SILENCE_MAX_S",
    "STORE_NAME_CHARS_MAX",
    "VALUE_DEPTH_MAX",
    "DEFAULT_LIMITS",
    "Limits",
]

#: Largest integer that a JavaScript number holds exactly; ids and seqs stay at or below it.
SEQ_MAX = 2**53 - 1
ID_MAX = SEQ_MAX

#: A store name is part of URLs and of table names; 64 characters are enough for `tenant.app.part`.
STORE_NAME_CHARS_MAX = 64

#: An incarnation is a random id of 64 bits or more; this leaves room for other encodings of it.
INCARNATION_CHARS_MAX = 64

#: How many of its newest lineage entries a server hands out. Older forks are answered with `snapshot`.
LINEAGE_ENTRIES_MAX = 64

#: Nesting of a value. Real documents stay below 20; parsers of all languages manage 64 without a deep stack.
VALUE_DEPTH_MAX = 64

#: A frame of changes is closed when it reaches this size, at the next end of a transaction. It is about
#: what one `write` can hand to the kernel in one go.
BATCH_BYTES_TARGET = 128 * 1024

#: What a FOUND or a page holds at most; a page is also closed by the first record with which it has so many bytes, so
#: that with the largest record on top it stays below the largest batch.
FIND_LIMIT_MAX = 10_000
FOUND_BYTES_TARGET = 1024 * 1024

#: A connection that has not sent HELLO after this long is closed.
HELLO_TIMEOUT_S = 5.0

#: Both sides send a HEARTBEAT this often, also while other frames go: the server's carry the heads, by which a
#: client sees that a feed stands still.
HEARTBEAT_S = 15.0

#: A server that has heard nothing for this long takes the connection for dead. Browsers slow the timers of
#: hidden tabs to one a minute, so it is well above that. A client gives up after three heartbeat periods.
SILENCE_MAX_S = 90.0


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The bounds that WELCOME announces. Sizes are bytes of UTF-8.

    `batch_bytes_max` follows from the others: each change of the largest WRITE gains at most 96 bytes (seq, op,
    time and punctuation) on its way into a BATCH, and with its author 8 more and the JSON text of a name of at most
    78 bytes; the envelope is below 4 KiB.
    """

    frame_bytes_max: int = 1024 * 1024
    batch_bytes_max: int = 2 * 1024 * 1024
    key_bytes_max: int = 512
    value_bytes_max: int = 512 * 1024
    ops_max: int = 5000
    subscriptions_max: int = 64
    in_flight_max: int = 1024


DEFAULT_LIMITS = Limits()
