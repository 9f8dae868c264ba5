"""Programs that forget to close their client end by themselves, with no word of ours."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from syncline.testing import Server

#: What a busy machine may take; a program that hangs takes for ever.
TIMEOUT_S = 60

SUBSCRIBED = """
subscription = client.subscribe("notes")
client.add("notes", 1)
print(next(subscription).value)
"""

WITH_A_FILE = """
replica = client.replica("notes", "notes.db")
for number in range(50):
    write = replica.add(number)
print(len(replica))
"""

ENDED_BY_AN_ERROR = """
watch = client.replica("notes").watch()
print(len(next(watch)))
sys.exit(3)
"""

WITH_DAEMONS = """
def follow(iterator):
    for each in iterator:
        started.release()
        callers[iterator](each)

started = threading.Semaphore(0)
replica = client.replica("other")
def add(each):
    while True:
        client.add("notes", 1)
callers = {client.subscribe("notes"): repr, replica.watch(): repr, client.statuses(): add}
client.add("notes", "heard")
for iterator in callers:
    threading.Thread(target=follow, args=[iterator], daemon=True).start()
for iterator in callers:
    started.acquire()
"""

OUTLIVED_BY_A_THREAD = """
replica = client.replica("notes", "notes.db")

def work():
    threading.main_thread().join()
    for number in range(3):
        replica.add(number).stored()
    print(next(client.subscribe("other")).value)

client.add("other", "still here")
threading.Thread(target=work).start()
"""

LET_GO = """
first = client
client = syncline.sync.connect()
client = first = None
for thread in threading.enumerate():
    if thread is not threading.main_thread():
        thread.join(30)
print(threading.active_count())
"""

WITHOUT_A_SERVER = """
client.close()
client = syncline.sync.connect("http://127.0.0.1:1", wait=False)
print(client.replica("notes").add(1).state.value)
"""

WITH_A_TOKEN_FUNCTION_THAT_HANGS = """
client = syncline.sync.connect(token=threading.Event().wait, wait=False)
print(client.state.value)
"""

WITH_AN_EXIT_HANDLER = """
def say_goodbye():
    print(client.add("notes", "goodbye").status)

atexit.register(say_goodbye)
"""

PROGRAMS = {
    "subscribed": (SUBSCRIBED, 0, "1"),
    "with a file": (WITH_A_FILE, 0, "50"),
    "ended by an error": (ENDED_BY_AN_ERROR, 3, "0"),
    "with daemons": (WITH_DAEMONS, 0, ""),
    "outlived by a thread": (OUTLIVED_BY_A_THREAD, 0, "still here"),
    "let go": (LET_GO, 0, "1"),
    "without a server": (WITHOUT_A_SERVER, 0, "pending"),
    "with a token function that hangs": (WITH_A_TOKEN_FUNCTION_THAT_HANGS, 0, "connecting"),
    "with an exit handler": (WITH_AN_EXIT_HANDLER, 0, "ok"),
}


@pytest.mark.parametrize(("program", "code", "says"), PROGRAMS.values(), ids=PROGRAMS)
def test_a_program_that_forgets_to_close_ends(program: str, code: int, says: str, tmp_path: Path) -> None:
    start = "import atexit, sys, threading\nimport syncline.sync\nclient = syncline.sync.connect()\n"
    with Server(stores=["notes", "other"]) as server:
        done = subprocess.run(
            [sys.executable, "-W", "always", "-c", start + program],
            env=os.environ | {"SYNCLINE_URL": server.url},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.strip() == says
