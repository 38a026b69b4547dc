"""What several test files need: paths, the reference figures, and ways to run the program."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import microgpt

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "microgpt.py"
README = (ROOT / "README.md").read_text(encoding="utf-8")
TRACE = json.loads((ROOT / "tests" / "trace.json").read_text(encoding="utf-8"))["runs"]

slow = unittest.skipUnless(os.environ.get("MICROGPT_SLOW"), "slow: set MICROGPT_SLOW=1")
has_processes = unittest.skipIf(sys.platform == "emscripten", "no processes in a browser")


class Folder(unittest.TestCase):
    """A test with a folder of its own, and two paths in it: for names, and for a checkpoint."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.names, self.path = self.folder / "names", self.folder / "model.json"

    def error(self, *flags, **given):
        """Return the words, a line, of the ValueError that some flags are; nothing is trained."""
        trained = mock.patch.object(microgpt, "train_step", side_effect=AssertionError("trained"))
        with trained, self.assertRaises(ValueError, msg=(flags, given)) as caught:
            main(*flags, **given)
        self.assertNotIn("\n", str(caught.exception))
        self.assertLess(len(str(caught.exception)), 1000)
        return str(caught.exception)


def call(*flags, **given):
    """Call main() with flags as on its command line, or from Python; return the run."""
    return microgpt.main(**microgpt.parse([str(flag) for flag in flags]), **given)


def main(*flags, **given):
    """Return what main() prints."""
    with contextlib.redirect_stdout(io.StringIO()) as out:
        call(*flags, **given)
    return out.getvalue()


def command(*words, encoding="utf-8"):
    """Do in this process what the command does; return its exit status, output and errors."""
    file, err, status = io.BytesIO(), io.StringIO(), 0
    out = io.TextIOWrapper(file, encoding)
    before = signal.getsignal(signal.SIGTERM)
    argv = mock.patch("sys.argv", ["microgpt.py", *map(str, words)])
    with argv, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            microgpt.command()
        except SystemExit as end:
            status = end.code
        finally:
            signal.signal(signal.SIGTERM, before)
    out.flush()
    return status, file.getvalue().decode(encoding), err.getvalue()


def heed_ctrl_c():
    """Let a child heed Ctrl-C, even where the tests run under & or nohup."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(*arguments, cwd=ROOT, **options):
    """Start a Python process with its output in pipes; SkipTest in a browser, which has none."""
    if sys.platform == "emscripten":
        raise unittest.SkipTest("no processes in a browser")
    # its output as UTF-8 whatever the locale, buffered as usual; no __pycache__ in the project
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8", "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTHONUNBUFFERED", None)
    environment.update(options.pop("env", {}))
    if os.name != "nt":
        options.setdefault("preexec_fn", heed_ctrl_c)
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    options = {**pipes, **options, "cwd": cwd, "env": environment, "encoding": "utf-8"}
    return subprocess.Popen([sys.executable, *map(str, arguments)], **options)


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


def losses(out):
    """Return the losses of the steps in what the program printed."""
    return [float(x) for x in re.findall(r"^step +\d+ / +\d+ \| loss (\d+\.\d{4})$", out, re.M)]


def samples(out):
    """Return the samples in what the program printed."""
    return re.findall(r"^sample +\d+: (\S*)", out, re.M)


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
