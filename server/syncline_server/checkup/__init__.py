"""A complete check of a store file, offline: everything that is in it twice has to say the same.

`examine` is all of it. `log_walk` says what the log holds, `key_walk` what the record of used keys holds, `store` sets
both against what the file keeps of a store beside them, `whole` looks at the file as SQLite sees it, `repair` writes
anew what is derived. Nothing here is needed to serve a file; a backup is checked by it before it has a name.
"""

from .examine import examine
from .finding import Finding, Level, Progress

__all__ = ["Finding", "Level", "Progress", "examine"]
