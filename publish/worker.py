"""Execute one notebook in a process of its own, and tell the runner about it in lines of JSON.

The runner starts this file by its path and writes the job as one line to its standard input. When that input ends,
the runner is gone: the kernel and this process end as well. Nothing of this project is imported here, so that a broken
`lib` cannot break it.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpec
from nbclient.exceptions import CellTimeoutError, DeadKernelError
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import Engine, papermill_engines
from papermill.exceptions import PapermillExecutionError

RUNAWAY = 50_000_000  # bytes received from one post: far over any limit, and not yet a danger to the machine
INJECTED = "injected-parameters"
PR_SET_PDEATHSIG = 1


class Session:
    """The state of this process: the stream of events, the kernel, and the cell that is running."""

    def __init__(self, events: int) -> None:
        self.events = os.fdopen(events, "w", encoding="utf-8")
        # Sockets have short names: the folder must not be deep.
        base = tempfile.gettempdir() if len(tempfile.gettempdir()) < 60 else "/tmp"
        self.folder = Path(tempfile.mkdtemp(prefix="post-", dir=base))
        self.kernel = None
        self.injected = 0
        self.index: int | None = None
        self.received = 0

    def tell(self, event: str, **about: object) -> None:
        """Write an event to the runner."""
        self.events.write(json.dumps({"event": event, **about}) + "\n")
        self.events.flush()

    def cell_starts(self, cell: dict, cell_index: int) -> None:
        """Note which cell is running, counted from 0 in the notebook as its author sees it."""
        if INJECTED in cell.metadata.get("tags", []):
            self.injected = 1
        else:
            self.index = cell_index - self.injected
            self.tell("cell", index=self.index)

    def kernel_starts(self, process: object) -> None:
        """Note the kernel's process; it leads a process group of its own."""
        self.kernel = process
        self.tell("kernel", pid=process.pid)

    def fail(self, name: str, text: str, traceback: str = "") -> None:
        """Tell that the post failed at the cell that is running."""
        self.tell("failed", index=self.index, name=name, text=text, traceback=traceback)

    def end(self) -> None:
        """Stop the kernel and whatever it started, and remove its sockets."""
        if self.kernel is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.kernel.pid, signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)

    def abort(self) -> None:
        """End at once, from any thread."""
        self.end()
        os._exit(1)

    def watch(self) -> None:
        """Wait until the runner closes our standard input or dies, and end."""
        sys.stdin.read()
        self.abort()


class OwnKernel(AsyncKernelManager):
    """Starts this very Python whatever kernel the notebook names; sockets are files, so ports cannot collide."""

    @property
    def kernel_spec(self) -> KernelSpec:
        argv = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


class Client(PapermillNotebookClient):
    """Papermill's client, telling the session what happens."""

    def __init__(self, nb_man: object, session: Session, **options: object) -> None:
        self.session = session
        super().__init__(nb_man, on_cell_start=session.cell_starts, **options)

    def create_kernel_manager(self) -> AsyncKernelManager:
        self.km = OwnKernel(
            transport="ipc" if os.name == "posix" else "tcp",
            connection_file=str(self.session.folder / "k.json"),
        )
        return self.km

    def start_new_kernel(self, **options: object) -> None:
        super().start_new_kernel(**options)
        self.session.kernel_starts(self.km.provisioner.process)

    def papermill_execute_cells(self) -> None:
        try:
            super().papermill_execute_cells()
        except BaseException:
            self.shutdown_kernel = "immediate"  # it is busy or dead: asking politely would only take time
            raise

    def process_message(self, msg: dict, *arguments: object, **options: object) -> object:
        content = msg["content"]
        self.session.received += len(content.get("text", "")) + sum(
            map(len, map(str, content.get("data", {}).values()))
        )
        if self.session.received > RUNAWAY:
            self.session.fail("RunawayOutput", f"the post has printed more than {RUNAWAY // 1_000_000} MB by this cell")
            self.session.abort()
        return super().process_message(msg, *arguments, **options)


class OwnEngine(Engine):
    """A papermill engine made of the above."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: object, kernel_name: str, *, session: Session, timeout: float | None, **_: object
    ) -> None:
        client = Client(
            nb_man,
            session,
            kernel_name=kernel_name,
            timeout=timeout,
            startup_timeout=120,
            iopub_timeout=60,
        )
        client.execute(preexec_fn=_die_with_parent, stdout=sys.stderr, stderr=sys.stderr)


def run(session: Session, job: dict) -> None:
    """Execute the notebook of a job: {"notebook", "parameters", "folder", "timeout"}."""
    papermill_engines.register("own", OwnEngine)
    nb = nbformat.from_dict(job["notebook"])
    for cell in nb.cells:
        cell.metadata.setdefault("tags", [])
    try:
        done = papermill.execute_notebook(
            nb,
            None,
            job["parameters"],
            engine_name="own",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=job["folder"],
            session=session,
            timeout=job["timeout"],
        )
    except PapermillExecutionError as error:
        session.fail(error.ename, error.evalue, "\n".join(error.traceback))
    except CellTimeoutError:
        session.fail("Timeout", f"the cell was still running after {job['timeout']:g} s (--timeout)")
    except DeadKernelError:
        session.fail("KernelDied", _last_words(session.kernel))
    else:
        cells = [cell for cell in done.cells if INJECTED not in cell.metadata.get("tags", [])]
        if any(output.output_type == "error" for cell in cells for output in cell.get("outputs", [])):
            session.fail("SystemExit", "the cell ended the program; a post runs to its last cell")
        else:
            session.tell("done", outputs=[cell.outputs for cell in cells if cell.cell_type == "code"])


def main() -> None:
    """Read the job, execute it, and leave nothing behind."""
    session = Session(os.dup(1))
    os.dup2(2, 1)  # what anyone prints goes to the log, not between the events
    try:
        job = json.loads(sys.stdin.readline())
        threading.Thread(target=session.watch, daemon=True).start()
        run(session, job)
    except Exception as error:
        session.fail(type(error).__name__, str(error))
        raise
    finally:
        session.end()


def _last_words(process: object) -> str:
    status = process.poll()
    if status is not None and status < 0:
        name = signal.Signals(-status).name
        return f"the kernel was killed ({name}{'; was the memory full?' if name == 'SIGKILL' else ''})"
    return f"the kernel stopped by itself, with exit status {status}"


_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    if _libc is not None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
