"""What several test files need: paths, the reference figures, running the program."""

import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "microgpt.py"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRACE = json.loads((ROOT / "tests" / "trace.json").read_text(encoding="utf-8"))["runs"]


def heed_ctrl_c():
    """Let a child heed SIGINT, even where a shell has the tests run in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def heed_ctrl_c_in(test):
    """Let this process heed SIGINT, for as long as a test takes."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    test.addCleanup(signal.signal, signal.SIGINT, before)


def start(*arguments, cwd=ROOT, **options):
    """Start a Python process with its output in pipes."""
    # its output as UTF-8 whatever the locale, buffered as usual; no __pycache__ in the project
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONUNBUFFERED", None)
    environment.update(options.pop("env", {}))
    if os.name != "nt":
        options.setdefault("preexec_fn", heed_ctrl_c)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        **{**pipes, **options},
        cwd=cwd,
        env=environment,
        encoding="utf-8",
    )


def the_rest(process):
    """Return what a process still prints, some lines of which were read, and its errors."""
    out, err = process.stdout.read(), process.stderr.read()  # communicate() may skip some
    process.stdout.close()
    process.stderr.close()
    process.wait()
    return out, err


def run(*arguments, **options):
    """Run microgpt.py; return its exit status, standard output and standard error."""
    process = start(PROGRAM, *arguments, **options)
    out, err = process.communicate()
    return process.returncode, out, err


@functools.lru_cache(maxsize=None)
def start_default_run():
    """Start the program without flags, once for all tests; it takes long, so start it early."""
    return start(PROGRAM)


@functools.lru_cache(maxsize=None)
def default_run():
    """Return the exit status, standard output and standard error of the program without flags."""
    process = start_default_run()
    out, err = process.communicate()
    return process.returncode, out, err


@functools.lru_cache(maxsize=None)
def start_few_names_run():
    """Start the program on the first 100 names, which it comes to know by heart."""
    folder = tempfile.TemporaryDirectory()
    names = (ROOT / "names.txt").read_text(encoding="utf-8").split("\n")[:100]
    (Path(folder.name) / "names").write_text("\n".join(names))
    return folder, start(PROGRAM, "--data", f"{folder.name}/names", "--eval_interval", 250)


@functools.lru_cache(maxsize=None)
def few_names_run():
    """Return the exit status, standard output and standard error of that."""
    folder, process = start_few_names_run()
    out, err = process.communicate()
    folder.cleanup()
    return process.returncode, out, err


def central_difference(function, xs, i, step=1e-5):
    """Return the slope of function(xs) in xs[i], measured from both sides."""
    up, down = list(xs), list(xs)
    up[i] += step
    down[i] -= step
    return (function(up) - function(down)) / (2 * step)


def numbers(model):
    """Return the matrices of a model as plain floats, by name."""
    return {
        name: [[value.data for value in row] for row in matrix]
        for name, matrix in model.state_dict.items()
    }
