"""Is what exercises.md shows true? `pypy3 tests/exercises.py` finds out, in some minutes."""

import argparse
import contextlib
import functools
import io
import os
import re
import shlex
import sys
import tempfile
import types
from collections import namedtuple
from concurrent import futures
from keyword import kwlist
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = (ROOT / "microgpt.py").read_text(encoding="utf-8")
PAGE = (ROOT / "tests" / "exercises.md").read_text(encoding="utf-8")
TEXTS = dict(re.findall(r"(?ms)^\*\*(\d+)\. (.+?)^</details>$", PAGE))  # by their numbers
Row = namedtuple("Row", "number command diffs flags cells")
COMMENT = r"(?: *#.*)?"
# a variable: no keyword, no attribute, not called, not the first word of a string
NAME = re.compile(rf'(?<![\w."])(?!(?:{"|".join(kwlist)})\b)[^\W\d]\w*\b(?!\\?[("])')


def changed(source, diff):
    """Return a program with the changes of a diff; ValueError if their place is not there once.

    Comments and blank lines don't matter. If no place fits exactly, variables' names don't, either.
    """
    for hunk in diff.split("@@\n"):
        exact = re.escape("\n".join(re.findall(r"(?m)^[ -](.*)", hunk)))
        new = "\n".join(re.findall(r"(?m)^[ +](.*)", hunk))
        first = {name: rf"(?P<{name}>[^\W\d]\w*)" for name in NAME.findall(exact)}
        loose = NAME.sub(lambda name: first.pop(name[0], f"(?P={name[0]})"), exact)
        found = []
        for pattern in exact, loose:
            pattern = pattern.replace("\\\n", rf"{COMMENT}\n(?:{COMMENT}\n)*")
            places = re.finditer(rf"(?m)^{pattern}{COMMENT}$", source)
            found = found or [x for x in places if len({*x.groups()}) == len(x.groups())]
        if len(found) != 1:
            raise ValueError(f"there {len(found)} times, not once:\n{hunk}")
        names = found[0].groupdict()
        new = NAME.sub(lambda name: names.get(name[0], name[0]), new)
        source = source[: found[0].start()] + new + source[found[0].end() :]
    return source


def rows():
    """Return what all tables say, row by row."""
    for number, text in TEXTS.items():
        diffs = dict(zip("ab", re.findall(r"(?s)```diff\n(.+?)```", text)))
        columns = re.search(r"(?m)^\| command \| (.+) \|$", text)[1].split(" | ")
        row = r"(?m)^\| (`python (\S+) ?(.*?)`(?: \((.+)\))?) \| (.+) \|$"
        for command, script, flags, label, cells in re.findall(row, text):
            used = [diffs[x] for x in diffs if script == "try.py" and (x in label or not label)]
            cells = dict(zip(columns, cells.split(" | ")))
            yield Row(number, command, used, shlex.split(flags), cells)


def output(row, is_quick, **flags):
    """Return what a row's command prints, up to its end or only to step 5."""
    program = types.ModuleType("program")
    program.__file__ = str(ROOT / "microgpt.py")
    exec(functools.reduce(changed, row.diffs, PROGRAM), vars(program))
    if is_quick:
        flags["eval_interval"] = 5
        program.evaluate = mock.Mock(side_effect=InterruptedError)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            program.main(**program.parse(row.flags), **flags)
        except (ArithmeticError, InterruptedError) as error:
            print(error)
    return out.getvalue()


def wrong(cells, out, is_quick):
    """Return which cells, or which first cell, an output contradicts, and what it has instead."""
    for column, cell in [*cells.items()][: 1 if is_quick else None]:
        form = rf"(?m)^(?:train.* )?{column.replace(' ', ' +')}(?: /.* loss|:|) (\S+)"
        found = (re.findall(form, out) + out.splitlines()[-1:])[0]  # the last line may be an error
        is_above = cell[0] == ">" and found[0].isdigit() and float(found) > float(cell[1:])
        if not (found == cell or is_above or not cell[-1].isdigit() and cell in found):
            yield f"{column} is {found}, not {cell}"


def main():
    """Compare all tables with what comes out; return 0, or how many rows differ in words."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only the losses of step 5")
    parser.add_argument("--only", metavar="N", choices=TEXTS, help="only this exercise")
    given, count = parser.parse_args(), 0
    chosen = [row for row in rows() if given.only in (None, row.number)]
    with tempfile.TemporaryDirectory() as folder, futures.ProcessPoolExecutor() as pool:
        os.chdir(folder)
        exec(re.search(r'(?m)^python -c "(.+)"$', PAGE)[1])  # writes a text to train on
        outs = pool.map(output, chosen, [given.quick] * len(chosen))
        for row, out in zip(chosen, outs):
            differences = "; ".join(wrong(row.cells, out, given.quick))
            count += bool(differences)
            print(f"{row.number} {row.command}: {differences or 'as shown'}", flush=True)
        os.chdir(ROOT)
    return count and f"{count} differ"


if __name__ == "__main__":
    sys.exit(main())
