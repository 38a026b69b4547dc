"""Are the figures of the README's exercises true? Run `python tests/exercises.py`: some minutes.

It makes the changes that the README shows, runs the programs that come of it, and compares their
losses with the README's table. With --quick it is only the loss of step 20 of 20, in seconds.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = re.search(r"(?ms)^## Exercises$.*?(?=^## )", README)[0]
ROW = re.compile(r"\| (\w+)(?:: [\w ]+)?(?: `(.+)`)? \| (\S+) \| (\S+) \|")


def changed(source, diff):
    """Return a program with the change of a diff; ValueError if its lines are not there once."""
    old, new = (
        "".join(line[1:] + "\n" for line in diff.splitlines() if line[0] in " " + sign)
        for sign in "-+"
    )
    if source.count(old) != 1:
        raise ValueError(f"there {source.count(old)} times, not once: {old}")
    return source.replace(old, new)


def changes():
    """Return the diffs of the exercises, by the name that stands before them."""
    found, form = {}, r"<summary>changes? (.+?)</summary>(.+?)</details>"
    for names, body in re.findall(form, SECTION, re.S):
        diffs = re.findall(r"```diff\n(.+?)```", body, re.S)
        names = names.split(", ")
        for i, name in enumerate(names):
            found[name] = diffs if len(names) == 1 else diffs[i : i + 1]
    return found


def rows():
    """Return the rows of the table: name, flags, the loss of step 20 of 20, the val loss."""
    return ROW.findall(SECTION)


def try_out(name, flags, is_quick):
    """Return the last loss of 20 steps, or the val loss of 1000, of the program of an exercise."""
    source = (ROOT / "microgpt.py").read_text(encoding="utf-8")
    for diff in changes().get(name, ()):
        source = changed(source, diff)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "microgpt.py"
        path.write_text(source, encoding="utf-8")
        command = [sys.executable, path, "--data", ROOT / "names.txt", *flags.split()]
        command += ["--num_samples", "0"]
        command += ["--num_steps", "20"] if is_quick else []
        form = r"step   20 / .* \| loss (\S+)" if is_quick else r"train loss \S+ \| val loss (\S+)"
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "encoding": "utf-8"}
        environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
        with subprocess.Popen(command, **pipes, env=environment) as process:
            for line in process.stdout:
                if re.match(form, line):
                    process.kill()  # we have seen what we wanted
                    return re.match(form, line)[1]
            words = process.stderr.read()
    return "diverges" if "try a smaller learning rate" in words else words


def agrees(figure, wanted):
    """Return whether a figure is the wanted one, or above it where that is >4 or the like."""
    if wanted[0] == ">":
        return bool(re.fullmatch(r"[\d.]+", figure)) and float(figure) > float(wanted[1:])
    return figure == wanted


def main():
    """Compare the table with what comes out; return how many figures differ."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only the losses of step 20")
    is_quick, wrong = parser.parse_args().quick, 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = pool.map(lambda row: try_out(row[0], row[1], is_quick), rows())
        for (name, flags, few, many), figure in zip(rows(), found):
            is_right = agrees(figure, few if is_quick else many)
            wrong += not is_right
            verdict = "" if is_right else "  differs"
            print(f"{name:2s} {flags:20s} {figure:>10s}{verdict}", flush=True)
    print(f"{wrong} differ" if wrong else "all as in the README")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
