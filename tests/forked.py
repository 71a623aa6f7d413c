"""Processes for the tests, forked from a server that has imported PyTorch once: each starts within milliseconds.

They are real ones: with their own number, output and exit code, and they die of real signals.
"""

import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType
from typing import IO, Any
from unittest.mock import patch

from tests import ROOT

_CONTEXT = multiprocessing.get_context("forkserver")
# PyTorch's optimizers import torch._dynamo when they are first made.
_CONTEXT.set_forkserver_preload(
    [
        *("tae.train", "tae.train_sequence", "tae.embed", "tests.training.small", "torch._dynamo", "torch.onnx"),
        "tests.settled",
    ]
)


def begun(target: Callable[..., object], *args: Any) -> BaseProcess:
    """A process that calls this."""
    child = _CONTEXT.Process(target=target, args=args)
    # Streamlit's AppTest leaves a page behind as the main module, which every child would run first.
    with patch.dict(sys.modules, {"__main__": ModuleType("__main__")}):
        child.start()
    return child


class Forked:
    """`python -m module words` or `python -c code words`, with what the tests and `tae` use of `subprocess.Popen`."""

    def __init__(
        self,
        command: Sequence[str],
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        start_new_session: bool = False,
    ) -> None:
        assert command[1] in ("-m", "-c") and stdin in (None, subprocess.DEVNULL)
        self.stdout, output = _end(stdout)
        self.stderr, errors = (None, output) if stderr == subprocess.STDOUT else _end(stderr)
        self._process = begun(_run, command[1:], cwd, dict(env or os.environ), output, errors, start_new_session)
        output.close()
        errors.close()
        assert self._process.pid
        self.pid: int = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        assert self.returncode is not None
        return self.returncode

    def communicate(self) -> tuple[str, str]:
        """What it printed since it was last read: little enough on stderr to wait in its pipe."""
        said = tuple(end.read() if end else "" for end in (self.stdout, self.stderr))
        self.wait()
        return said  # type: ignore[return-value]

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self._process.kill()


def run(*words: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """`python words`, from its beginning to its end."""
    process = Forked(["python", *words], cwd, {**os.environ, "COLUMNS": "200", **variables})
    out, errors = process.communicate()
    return subprocess.CompletedProcess(words, process.wait(), out, errors)


def run_two(*words: str, cwd: Path = ROOT) -> list[subprocess.CompletedProcess[str]]:
    """Two processes, each told of the other as by torchrun; that of rank 0 first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    with ThreadPoolExecutor(2) as pool:
        return [*pool.map(lambda rank: run(*words, cwd=cwd, **place, RANK=rank, LOCAL_RANK=rank), "01")]


def _end(asked: Any) -> tuple[IO[str] | None, Connection]:
    """What is read here, if anything, and what the process writes to."""
    if asked != subprocess.PIPE:
        return None, Connection(os.dup(asked.fileno()), readable=False)
    reader, writer = _CONTEXT.Pipe(duplex=False)
    end = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
    reader.close()
    return end, writer


def _run(
    words: Sequence[str],
    cwd: Path | None,
    env: dict[str, str],
    output: Connection,
    errors: Connection,
    new_session: bool,
) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where the tests run in the background
    if new_session:
        os.setsid()
    os.dup2(output.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd or ".")
    sys.stdout = os.fdopen(1, "w", 1 if env.get("PYTHONUNBUFFERED") else -1, encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", closefd=False)
    how, what, *rest = words
    sys.argv = [how, *rest]
    if how == "-c":
        exec(what, {"__name__": "__main__"})  # noqa: S102 - a test wrote it
    else:
        sys.modules.pop(what, None)  # the server has imported it by its name; it runs as the main module
        runpy.run_module(what, run_name="__main__", alter_sys=True)
