"""Each part of the program, taken out, put back in another author's words, and put back wrong."""

import ast
import io
import os
import re
import signal
import sys
import tempfile
import textwrap
import unittest
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from tests import rebuild
from tests.support import ROOT, section, start

BODIES = dict(re.findall(r"(?ms)^(\S+):\n(.*?)(?=^\S|\Z)", """
Tokenizer.encode:
    return [self.bos, *map(self.ids.get, doc), self.bos]
bigram_loss:
    pairs = [pair for tokens in train_examples for pair in zip(tokens, tokens[1:])]
    n = range(vocab_size)
    table = [[math.log(1 + pairs.count((a, b))) for b in n] for a in n]
    totals = [math.log(sum(map(math.exp, row))) for row in table]
    return mean([totals[a] - table[a][b] for x in test_examples for a, b in zip(x, x[1:])])
Value.__mul__:
    if isinstance(other, (int, float)):
        return Value(self.data * other, (self,), (other,))
    return Value(self.data * other.data, (self, other), (other.data, self.data))
Value.backward:
    order = {}
    def visit(node):
        if node.inputs and node not in order:
            for x in node.inputs + node.partners:
                visit(x)
            order[node], node.grad = True, 0.0
    visit(self)
    self.grad += 1.0
    for node in reversed(order):
        slopes = node.local_grads or [x.data for x in node.partners + node.inputs]
        for x, slope in zip(node.inputs + node.partners, slopes):
            x.grad += slope * node.grad
dot:
    xs, ys = [x.data for x in a], [y.data for y in b]
    return Value(sum(x * y for x, y in zip(xs, ys)), (*a, *b), (*ys, *xs))
linear:
    return list(map(dot, matrix, [x] * len(matrix)))
rmsnorm:
    root = (sum(xi * xi for xi in x) / len(x) + 1e-5) ** 0.5
    return [xi / root for xi in x]
softmax:
    powers = [(logit - max(x.data for x in logits)).exp() for logit in logits]
    total = sum(powers)
    return [power * total**-1 for power in powers]
cross_entropy:
    top = max(x.data for x in logits)
    return sum((x - top).exp() for x in logits).log() + top - logits[target]
attention:
    weights = softmax([dot(query, key) * len(query) ** -0.5 for key in keys])
    return [sum(w * value[i] for w, value in zip(weights, values)) for i in range(len(values[0]))]
GPT.forward:
    w = self.state_dict
    x = rmsnorm([a + b for a, b in zip(w["wte"][token], w["wpe"][len(cache[0][1])])])
    for i in range(self.n_layer):
        q, k, v = [linear(rmsnorm(x), w[f"layer{i}.attn_w{letter}"]) for letter in "qkv"]
        cache[i][0].append(k)
        cache[i][1].append(v)
        y = [attention(q[h], *[[row[h] for row in rows] for rows in cache[i]]) for h in self.heads]
        x = [a + b for a, b in zip(x, linear(sum(y, []), w[f"layer{i}.attn_wo"]))]
        y = [z.relu() for z in linear(rmsnorm(x), w[f"layer{i}.mlp_fc1"])]
        x = [a + b for a, b in zip(x, linear(y, w[f"layer{i}.mlp_fc2"]))]
    return linear(x, w["lm_head"])
GPT.losses:
    cache, pairs = self.new_cache(), [*zip(tokens, tokens[1:])][: self.block_size]
    return [cross_entropy(self.forward(a, cache), b) for a, b in pairs]
Adam.step:
    self.steps_done = t = self.steps_done + 1
    for i, p in enumerate(self.parameters):
        self.means[i] += (1 - self.beta1) * (p.grad - self.means[i])
        self.squares[i] += (1 - self.beta2) * (p.grad * p.grad - self.squares[i])
        root = (self.squares[i] / (1 - self.beta2**t)) ** 0.5
        p.data -= learning_rate * self.means[i] / (1 - self.beta1**t) / (root + self.epsilon)
train_step:
    for p in model.parameters:
        p.grad = 0
    loss = mean([mean(model.losses(tokens)) for tokens in batch])
    loss.backward()
    optimizer.step(learning_rate)
    return loss.data
sample:
    tokens, cache = [tokenizer.bos], model.new_cache()
    while len(tokens) <= model.block_size and (len(tokens) == 1 or tokens[-1] != tokenizer.bos):
        powers = [math.exp(x.data / temperature) for x in model.forward(tokens[-1], cache)]
        tokens += rng.choices(range(len(powers)), powers)
    return tokenizer.decode(tokens)
evaluate:
    losses = [loss.data for tokens in examples for loss in model.losses(tokens)]
    return sum(losses) / len(losses)
"""))
MISTAKES = (  # part, what it says above, what a learner might write instead, part of the hint
    ("Tokenizer.encode", ", self.bos]", "]", "BOS is missing at the end"),
    ("Value.__mul__", "(other.data, self.data)", "(self.data, other.data)", "other way round"),
    ("Value.backward", "x.grad += ", "x.grad = ", "two paths"),
    ("Value.backward", "reversed(order)", "order", ""),
    ("rmsnorm", " / len(x)", "", "sum of the squares"),
    ("rmsnorm", " + 1e-5", "", ""),
    ("softmax", " - max(x.data for x in logits)", "", "overflow"),
    ("attention", " * len(query) ** -0.5", "", "square root"),
    ("attention", "** -0.5", "** -1", ""),
    ("GPT.forward", "*[[row[h] for row in rows] for", "*[[rows[-1][h]] for", "newest key"),
    ("GPT.forward", "z.relu()", "z", "ReLU"),
    ("GPT.losses", "a, cache", "a, self.new_cache()", "empty cache"),
    ("Adam.step", "-= learning", "+= learning", "climbs"),
    ("train_step", "p.grad = 0", "pass", "not cleared"),
    ("evaluate", "loss.data for tokens in examples for loss in model.losses(tokens)",
     "mean(model.losses(tokens)).data for tokens in examples", "mean of means"),
)  # fmt: skip


def put_back(**bodies):
    """Return the program with other bodies."""
    text = rebuild.take_out([name for name in rebuild.CASES if name in bodies])
    for name, body in bodies.items():
        blank = rf"(?m)^( +){re.escape(rebuild.BLANK.format(name))}"
        text = re.sub(blank, lambda x: textwrap.indent(textwrap.dedent(body).strip(), x[1]), text)
    return text


@unittest.skipIf(sys.platform == "emscripten", "the tool needs a thread")
class Rebuild(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.addCleanup(os.chdir, os.getcwd())
        os.chdir(folder.name)
        self.path = Path(folder.name) / "try.py"

    def call(self, *words, source=None):
        """Run the tool, on a program if one is given; return its exit status, output and errors."""
        if source is not None:
            self.path.write_bytes(source.encode())
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            return rebuild.main([*words]), out.getvalue(), err.getvalue()

    def cases(self, **bodies):
        """Return the lines of the check of small cases."""
        self.path.write_bytes(put_back(**bodies).encode())
        learner = rebuild.Learner(self.path)
        self.assertEqual(learner.own, [*bodies])
        learner.load()
        return rebuild.check_cases(learner)

    def test_what_is_taken_out_is_one_body_and_nothing_else(self):
        self.assertEqual(re.findall(r"(?m)^\d  (\S+) ", self.call("--list")[1]), [*rebuild.CASES])
        lines = [rebuild.ORIGINAL[name].lineno for name in rebuild.CASES]
        self.assertEqual(lines, sorted(lines))
        for name in rebuild.CASES:
            before, after = ast.parse(rebuild.SOURCE), ast.parse(rebuild.take_out([name]))
            function = rebuild.functions(before)[name]
            docstring = function.body[: ast.get_docstring(function) is not None]
            function.body = docstring + ast.parse(rebuild.BLANK.format(name)).body
            self.assertEqual(ast.dump(before), ast.dump(after), name)

    def test_a_learners_work_is_never_overwritten(self):
        self.assertEqual(self.call("softmax")[0], 0)
        self.assertEqual(self.call("dot", "2")[0], 0)  # nothing was written yet
        text = self.path.read_text(encoding="utf-8")
        self.assertEqual(text, rebuild.take_out(["Value.__mul__", "Value.backward", "dot"]))
        for work in (text + "\n# a thought\n", rebuild.SOURCE, "def", ""):
            status, out, err = self.call("softmax", source=work)
            self.assertEqual((status, out, err.count("\n")), (2, "", 1))
            self.assertIn("try.py holds your work: move it away first", err)
            self.assertEqual(self.path.read_bytes(), work.encode())

    def test_a_mistake_on_the_command_line_is_one_line_and_status_2(self):
        for words in (["sofmax"], ["6"], [], ["dot", "--check"], ["--check", "mine.py"], ["--lis"]):
            with self.subTest(words):
                status, out, err = self.call(*words)
                self.assertEqual((status, out, err.count("\n")), (2, "", 1))
                self.assertTrue(err.startswith("rebuild.py: error: "), err)

    def test_the_session_of_the_readme_is_what_happens(self):
        source, text = None, section("Rebuild it yourself")
        for language, block in re.findall(r"(?s)```(\w+)\n(.+?)```", text):
            command, _, wanted = block.partition("\n")
            if language == "python":
                source = put_back(rmsnorm=block)
                continue
            status, out, err = self.call(*command.split()[3:], source=source)
            out, wanted = [re.sub(r"line \d+", "line N", text) for text in (out, wanted)]
            self.assertEqual((status, out, err), (1 if source else 0, wanted, ""))
        self.assertTrue(source)

    def test_each_part_agrees_in_another_authors_words(self):
        self.assertEqual(BODIES.keys(), rebuild.CASES.keys())
        for name, body in BODIES.items():
            with self.subTest(name):
                ((_, words, agrees),) = self.cases(**{name: body})
                self.assertTrue(agrees, words)

    def test_all_parts_agree_together_and_what_they_print_does_not_bury_the_report(self):
        bodies = {**BODIES, "softmax": "    print('here')\n" + BODIES["softmax"]}
        status, out, err = self.call("--check", source=put_back(**bodies))
        self.assertEqual((status, err), (0, ""), out)
        stages = ["yours", "cases", "gradients", "losses", *["printed"] * 5]
        self.assertEqual(re.findall(r"(?m)^\w+", out), stages)

    def test_each_usual_mistake_gets_its_hint_and_no_other_does(self):
        self.assertEqual(len(rebuild.MISTAKES), sum(bool(words) for *_, words in MISTAKES))
        for name, old, new, words in MISTAKES:
            with self.subTest(name, new=new):
                self.assertEqual(BODIES[name].count(old), 1)
                lines = self.cases(**{name: BODIES[name].replace(old, new)})
                self.assertFalse(all(agrees for *_, agrees in lines))
                hints = "".join(text for stage, text, _ in lines if stage == "hint")
                self.assertTrue(words in hints if words else not hints, lines)

    def test_what_differs_is_named_and_what_is_blank_is_lent(self):
        body = "size = mean([xi.data**2 for xi in x]) ** 0.5\nreturn [xi * (1 / size) for xi in x]"
        source = put_back(rmsnorm=body, softmax=rebuild.BLANK.format("softmax"))
        status, out, err = self.call("--check", source=source)
        self.assertEqual((status, err), (1, ""))
        self.assertRegex(out, r"gradients  grad of \S+ is \S+, and a nudge of 0.001 says that it ")
        self.assertRegex(out, r"losses     \d of 20 agree; step \d should be \S+, and is ")
        self.assertRegex(out, r"to write   softmax \(line \d+\)\n\Z")

    def test_an_error_is_named_with_the_learners_line(self):
        for line, words in (("nonsense", "raises NameError: name 'nonsense' is not defined"),
                            ("raise SystemExit('nonsense')", "raises SystemExit: nonsense"),
                            ("Value('').exp()", "raises TypeError: "),
                            ("[0]", "is None: is there a return?")):  # fmt: skip
            with self.subTest(line):
                said = self.cases(softmax=f"a = 1\n{line}")[0][1]
                n = self.path.read_text(encoding="utf-8").split("\n").index(f"    {line}") + 1
                place = f"; line {n}: {line}" if "raises" in words else ""
                self.assertRegex(said, rf"{re.escape(words)}.*{re.escape(place)}\Z")

    def test_a_syntax_error_and_a_missing_def_are_named(self):
        status, out, err = self.call("--check", source=put_back(softmax="return ["))
        self.assertEqual((status, err), (1, ""))
        self.assertRegex(out, r"\Asyntax     .+lines? \d+.*\n\Z")
        source = rebuild.SOURCE.replace("def softmax(", "def soft_max(")
        out = self.call("--check", source=source)[1]
        self.assertRegex(out, r"\Asyntax     softmax is missing: .+\n\Z")

    def test_an_endless_body_is_ended_also_by_ctrl_c_without_a_word(self):
        self.path.write_text(put_back(rmsnorm="while True:\n    pass"), encoding="utf-8")
        code = "import sys; sys.path.insert(0, sys.argv[1]); from tests import rebuild; "
        code += "rebuild.check(rebuild.Path('try.py'), seconds=2)"
        out, err = (process := start("-c", code, ROOT, cwd=self.path.parent)).communicate()
        self.assertEqual((process.returncode, err), (1, ""))
        self.assertRegex(out, r"stopped .*; line \d+: (while True:|pass)\n\Z")
        process = start(ROOT / "tests" / "rebuild.py", "--check", cwd=self.path.parent)
        self.assertEqual(process.stdout.readline(), "yours      rmsnorm\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.communicate(), ("", ""))


if __name__ == "__main__":
    unittest.main()
