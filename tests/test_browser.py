"""microgpt.py and the tests that need no processes, on Python in WebAssembly, as in a browser.

This needs node, and Pyodide, whose folder the environment variable PYODIDE names:

    npm install --prefix /tmp/browser pyodide
    PYODIDE=/tmp/browser/node_modules/pyodide python -m unittest tests.test_browser
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tests.support import ROOT, run

PYODIDE = Path(os.environ.get("PYODIDE", "no Pyodide"), "pyodide.mjs").absolute()
FLAGS = {"num_steps": 20, "eval_interval": 10, "num_samples": 5, "save": "run.json"}
MORE = {"load": "run.json", "num_steps": 25, "prompt": "an", "num_samples": 3}
BY_PYTHON = f"""
import os, sys, unittest
sys.dont_write_bytecode = True  # the project is not to be written to
sys.path.insert(0, "/project")
import microgpt
microgpt.main(**{FLAGS!r})
print("again")
microgpt.main(**{MORE!r})
print("tests")
os.chdir("/project")
names = sorted(name[:-3] for name in os.listdir("tests") if name.startswith("test_"))
suite = unittest.defaultTestLoader.loadTestsFromNames(["tests." + name for name in names])
unittest.TextTestRunner(sys.stdout, verbosity=2).run(suite)
"""
BY_NODE = f"""
import {{ loadPyodide }} from {json.dumps(PYODIDE.as_uri())};
const pyodide = await loadPyodide();
pyodide.mountNodeFS("/project", {json.dumps(str(ROOT))});
pyodide.runPython({json.dumps(BY_PYTHON)});
"""


@unittest.skipUnless(shutil.which("node"), "needs node")
@unittest.skipUnless(PYODIDE.is_file(), "needs Pyodide, in the folder that PYODIDE names")
class Browser(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        words = ["node", "--input-type=module", "--eval", BY_NODE]
        found = subprocess.run(words, capture_output=True, encoding="utf-8")
        cls.program, _, cls.tests = found.stdout.partition("tests\n")
        cls.errors = found.stderr

    def test_the_program_prints_what_it_prints_everywhere(self):
        with tempfile.TemporaryDirectory() as folder:
            outs = []
            for flags in FLAGS, MORE:
                words = [word for name, value in flags.items() for word in (f"--{name}", value)]
                status, out, err = run(*words, cwd=folder)
                self.assertEqual(status, 0, err)
                outs.append(out)
        self.assertEqual(self.program, "again\n".join(outs), self.errors)

    def test_the_tests_that_need_no_processes_pass(self):
        self.assertEqual(re.findall(r"(?m)^(?:FAIL|ERROR): .+", self.tests), [])
        found = re.search(r"\nRan (\d+) tests in .+\n\nOK \(skipped=(\d+)\)\n\Z", self.tests)
        self.assertTrue(found, self.tests[-1000:] + self.errors)
        self.assertGreater(int(found[1]), 2 * int(found[2]))  # most are not skipped
