"""Are the figures of the README's exercises true? `pypy3 tests/exercises.py` takes minutes.

It makes the changes that the README shows, runs the commands of the answers' tables, and compares
the losses. With --quick, it compares only step 20 of changed programs, in seconds. With --only N,
it tries only exercise N.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = re.search(r"(?ms)^## Exercises$.*?(?=^## )", README)[0]
Row = namedtuple("Row", "number command label few train val")  # few: the loss of step 20 of 20


def code(line):
    """Return a line of a program without its comment."""
    return line.split("  # ")[0]


def changed(source, diff):
    """Return a program with the change of a diff; ValueError if its lines are not there once.

    What a line says after its code, in a comment, does not matter.
    """
    old, new = (
        [line[1:] for line in diff.splitlines() if line[:1] in " " + sign] for sign in "-+"
    )
    lines, old = source.split("\n"), [code(line) for line in old]
    codes = [code(line) for line in lines]
    places = [i for i in range(len(lines)) if codes[i : i + len(old)] == old]
    if len(places) != 1:
        raise ValueError(f"there {len(places)} times, not once: {old}")
    lines[places[0] : places[0] + len(old)] = new
    return "\n".join(lines)


def texts():
    """Return the texts of the exercises, by their numbers."""
    parts = re.split(r"(?m)^\*\*(\d+)\. (?=[^*]+\*\* )", SECTION)
    return dict(zip(parts[1::2], parts[2::2]))


def changes(number, label=""):
    """Return the diffs of an exercise: all of them, or those of its variant, such as (a, b)."""
    diffs = re.findall(r"```diff\n(.+?)```", texts()[number], re.S)
    return [diffs["abc".index(letter)] for letter in label.split(", ")] if label else diffs


def rows():
    """Return the rows of all answers' tables."""
    form = r"(?m)^\| `python (.+?)`(?: \(([a-c, ]+)\))? \| (\S+) \| (\S+) \| (\S+) \|$"
    return [Row(n, *row) for n, text in texts().items() for row in re.findall(form, text)]


def prepare(folder):
    """Write the texts to train on, as the section's commands do."""
    shutil.copy(ROOT / "names.txt", folder)
    for command in re.findall(r"(?m)^python -c .+$", SECTION):
        subprocess.run([sys.executable, *shlex.split(command)[1:]], cwd=folder, check=True)


def try_out(row, folder, is_short):
    """Return the loss of step 20 of 20 of a row's command, or the train and the val loss."""
    script, *flags = shlex.split(row.command)
    source = (ROOT / "microgpt.py").read_text(encoding="utf-8")
    if script == "try.py":
        for diff in changes(row.number, row.label):
            source = changed(source, diff)
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "microgpt.py"
        path.write_text(source, encoding="utf-8")
        data = [] if "--data" in flags else ["--data", "names.txt"]
        command = [sys.executable, path, *data, *flags, "--num_samples", "0"]
        command += ["--num_steps", "20"] if is_short else []
        form = r"step   20 / .* \| loss (\S+)" if is_short else r"train loss (\S+) \| val loss (\S+)"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        with subprocess.Popen(command, **pipes, env=environment, cwd=folder) as process:
            for line in process.stdout:
                found = re.match(form, line)
                if found:
                    process.kill()  # we have seen what we wanted
                    return [*found.groups()]
            words = process.stderr.read()
    for verdict, sign in (("overflow", "math range error"), ("diverges", "diverged")):
        if sign in words:
            return [verdict] if is_short else [verdict, verdict]
    return [words.strip()[-60:] or "?"]


def agrees(figure, wanted):
    """Return whether a figure is the wanted one, or above it where that is >4 or the like."""
    if wanted[0] == ">":
        return bool(re.fullmatch(r"[\d.]+", figure)) and float(figure) > float(wanted[1:])
    return figure == wanted


def main():
    """Compare the tables with what comes out; return how many rows differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only step 20 of what is changed")
    parser.add_argument("--only", metavar="N", choices=texts(), help="only this exercise")
    given, wrong = parser.parse_args(), 0
    chosen = [row for row in rows() if given.only in (None, row.number)]
    chosen = [row for row in chosen if not given.quick or row.command.startswith("try.py")]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        prepare(folder)

        def figures_of(row):
            few = ["–"] if row.few == "–" else try_out(row, folder, is_short=True)
            return few if given.quick else few + try_out(row, folder, is_short=False)

        for row, figures in zip(chosen, pool.map(figures_of, chosen)):
            wanted = [row.few] if given.quick else [row.few, row.train, row.val]
            is_right = len(figures) == len(wanted) and all(map(agrees, figures, wanted))
            wrong += not is_right
            label = f"({row.label}) " if row.label else ""
            verdict = "" if is_right else f"  differs from {' '.join(wanted)}"
            print(f"{row.number:2s} {label}{row.command}: {' '.join(figures)}{verdict}", flush=True)
    print(f"{wrong} differ" if wrong else "all as in the README")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
