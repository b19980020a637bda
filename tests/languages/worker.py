"""A worker in Python: worker.py HOSTNAME COMMAND... runs `COMMAND... URL` for one import after
the other; exit code 0 is a success. CODE_IMPORT_DSN or PG* variables name the database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress

from code_import import Client, RunGone, connect, reading

hostname, command, beat = sys.argv[1], sys.argv[2:], float(os.environ.get("BEAT", "15"))
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # what runs is given back
client = Client(conn := connect())
conn.execute("listen code_import_job_due")
for left in reading.assignments(conn, hostname):  # from an earlier life, and dead
    client.job_reclaim(left.id)
while True:
    while not (job := client.job_for_machine(hostname, 1, ["git"])):
        list(conn.notifies(timeout=beat, stop_after=1))  # or until a due date may have come
    with tempfile.TemporaryFile() as log, suppress(RunGone):  # gone: say and publish nothing
        status = None
        work = subprocess.Popen([*command, job.url], stdout=log, stderr=log, process_group=0)
        try:
            while status is None:
                with suppress(subprocess.TimeoutExpired):
                    status = "failure" if work.wait(beat) else "success"
                text = os.pread(log.fileno(), 1 << 24, 0).replace(b"\0", b"")
                if client.job_update_heartbeat(job.id, text.decode(errors="replace")) == "stop":
                    status = status or "killed"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(work.pid, signal.SIGKILL)
            work.wait()
            if status is None:
                client.job_release(job.id)
        client.job_finish(job.id, status, client.log_file_new(job.id, text))
