"""The pictures, tables and figures of the README, worked out anew."""

import contextlib
import io
import math
import operator
import os
import random
import re
import sys
import tempfile
import types
import unittest
import xml.etree.ElementTree
from collections import Counter
from pathlib import Path
from unittest import mock

import microgpt
from microgpt import Value
from tests import exercises
from tests.support import PROGRAM, README, ROOT, TRACE, central_difference, default_checkpoint
from tests.support import result, samples, section, start_default_run, start_few_names_run

DOCS = (ROOT / "names.txt").read_text(encoding="utf-8").split()
RNG = random.Random(42)
RNG.shuffle(DOCS)
AFTER_SHUFFLE = RNG.getstate()
PLAY = section("In a notebook, in a browser")
DRAWING, CALLS, BROWSER = re.findall(r"(?s)```python\n(.+?)```", PLAY)


def default_model():
    """Return the tokens of the shuffled names, and the default model as it is before training."""
    RNG.setstate(AFTER_SHUFFLE)
    tokenizer = microgpt.Tokenizer(DOCS)
    examples = [tokenizer.encode(doc) for doc in DOCS]
    return examples, microgpt.GPT(tokenizer.vocab_size, rng=RNG)


def drawing():
    """Return the names that the README's code for pictures defines."""
    names = {}
    exec(DRAWING, names)
    return types.SimpleNamespace(**names)


class Pictures(unittest.TestCase):
    def test_the_graph_has_the_numbers_of_the_expression(self):
        nodes = {"a": Value(2.0), "b": Value(3.0)}
        nodes["product"], nodes["cube"] = nodes["a"] * nodes["b"], nodes["b"] ** 3
        nodes["f"] = nodes["product"] + nodes["cube"]
        nodes["f"].backward()
        titles = {"product": "a * b", "cube": "b ** 3"}
        labels = {
            name: f"{titles.get(name, name)}<br>data {node.data:g}<br>grad {node.grad:g}"
            for name, node in nodes.items()
        }
        arrows = {
            (source, f"{local_grad:g}", name)
            for name, node in nodes.items()
            for x, local_grad in zip(node.inputs, node.local_grads)
            for source in nodes if nodes[source] is x
        }  # fmt: skip
        picture = re.search(r"(?s)flowchart LR\n(.+?)```", README)[1]
        self.assertEqual(dict(re.findall(r'(\w+)\["(.+?)"\]', picture)), labels)
        shown = re.findall(r"(\w+) -->\|(.+?)\| (\w+)", re.sub(r"\[.+?\]", "", picture))
        self.assertEqual(len(shown), 5)
        self.assertEqual(set(shown), arrows)

    def test_the_table_of_operations_has_their_local_gradients(self):
        signs = {
            "·": "*", "²": "**2", "aⁿ⁻¹": "a**(n - 1)", "aⁿ": "a**n", "eᵃ": "math.exp(a)",
            "ln(a)": "math.log(a)", ", otherwise": " else",
        }  # fmt: skip
        table = re.search(r"(?m)^\| operation .+\n.+\n((?:\|.+\n)+)", README)[1]
        rows = [[cell.strip() for cell in row[1:-1].split("|")] for row in table.splitlines()]
        self.assertEqual(len(rows), 9)
        for operation, *formulas in rows[:7]:
            for sign, meaning in signs.items():
                formulas = [formula.replace(sign, meaning) for formula in formulas]
            for a in (1.7, -1.7) if "relu" in operation else (1.7,):
                numbers = {"a": a, "b": -0.6, "n": 3}
                values = {name: Value(x) if name != "n" else x for name, x in numbers.items()}
                got = eval(operation.strip("`"), {}, values)
                wanted, slopes = (eval(f, {"math": math, **numbers}) for f in formulas)
                got.backward()
                with self.subTest(operation, a=a):
                    self.assertAlmostEqual(got.data, wanted, places=12)
                    for name, slope in zip("ab", slopes if type(slopes) is tuple else [slopes]):
                        self.assertAlmostEqual(values[name].grad, slope, places=12)
        self.assertEqual(rows[7], ["`add_up(a)`", "a₁ + … + aₙ", "1 … 1"])
        a = [Value(2.0), Value(3.0)]
        microgpt.add_up(a).backward()
        self.assertEqual([x.grad for x in a], [1.0, 1.0])
        self.assertEqual(rows[8], ["`dot(a, b)`", "a₁b₁ + … + aₙbₙ", "b₁ … bₙ, a₁ … aₙ"])
        a, b = [Value(2.0), Value(3.0)], [Value(5.0), Value(7.0)]
        microgpt.dot(a, b).backward()
        self.assertEqual([x.grad for x in a + b], [5.0, 7.0, 2.0, 3.0])

    def test_the_table_of_adam_is_what_its_formulas_give_for_these_gradients(self):
        examples, model = default_model()
        optimizer = microgpt.Adam(model.parameters)
        weight, gradients = model.state_dict["wte"][26][0], []
        number, rows = weight.data, [[f"{weight.data:.4f}"]]
        for step in range(1, 6):
            rate = 0.01 * (1 - (step - 1) / 1000)
            microgpt.train_step(model, optimizer, [examples[step - 1]], rate)
            gradients.append(weight.grad)
            # means with weights that fall by beta a step, and that add up to 1
            mean, square = (
                sum(beta**age * g for age, g in enumerate(reversed(past)))
                / sum(beta**age for age in range(step))
                for beta, past in ((0.85, gradients), (0.99, [g * g for g in gradients]))
            )
            root = math.sqrt(square)
            number -= rate * mean / root
            self.assertAlmostEqual(weight.data, number, places=7)
            figures = [f"{x:.4f}" for x in (weight.grad, mean, root)]
            rows.append([str(step), DOCS[step - 1], *figures, f"{mean / root:.3f}", f"{number:.4f}"])
        shown = re.search(r"(?s)step  name .*?\n(.+?)```", README)[1]
        self.assertEqual([line.split() for line in shown.splitlines()], rows)

    def test_the_chart_is_that_of_the_default_run(self):
        out = result(start_default_run())[1]
        lines = re.findall(r"train loss (\S+) \| val loss (\S+)", out)
        table, guess = re.search(r"bigram table (\S+) \| ln\(27\) (\S+)", out).groups()
        examples, model = default_model()
        fresh = [
            f"{microgpt.evaluate(model, [tokens[:17] for tokens in part[:200]]):.4f}"
            for part in (examples, examples[28830:])
        ]
        train, val = zip(fresh, *lines)
        wanted = {"train": train, "val": val, "bigram table": [table] * 6, "ln(27)": [guess] * 6}
        shown = re.findall(r'line "(.+?)" \[(.+?)\]', README)
        self.assertEqual(
            {name: line.split(", ") for name, line in shown},
            {name: list(line) for name, line in wanted.items()},
        )
        self.assertIn('x-axis "step" [0, 200, 400, 600, 800, 1000]', README)

    def test_the_triangles_are_the_attention_weights_of_the_default_run(self):
        result(start_default_run())
        run = microgpt.load(default_checkpoint())
        tokens, blocks = run.tokenizer.encode("maria")[:-1], []
        for head in range(4):
            rows = [f"head {head}", "   " + "".join(f"{char:>4}" for char in "·maria")]
            for char, row in zip("·maria", drawing().attention_weights(run.model, tokens, head)):
                rows.append(f"  {char}" + "".join(f"{round(100 * p):4d}" for p in row))
            blocks.append(rows)
        pairs = [[f"{a:34}{b}" for a, b in zip(*blocks[i : i + 2])] for i in (0, 2)]
        self.assertIn("```text\n" + "\n\n".join("\n".join(rows) for rows in pairs) + "\n```", README)

    def test_the_scores_of_one_head_are_those_of_the_default_run(self):
        result(start_default_run())
        model = microgpt.load(default_checkpoint()).model
        seen = []  # what each head's attention is given

        def attention(query, keys, values):
            seen.append([[x.data for x in vector] for vector in (query, *keys, *values)])
            return [Value(0.0)] * 4

        cache = model.new_cache()
        with mock.patch.object(microgpt, "attention", attention):
            for token in [26, 12, 0, 17]:  # BOS, m, a, r
                model.forward(token, cache)
        (query, *vectors) = seen[-3]  # of heads 0, 1, 2 and 3
        keys, values = vectors[:4], vectors[4:]
        scores = [sum(q * k for q, k in zip(query, key)) / 2 for key in keys]
        total = sum(map(math.exp, scores))
        weights = [math.exp(score) / total for score in scores]
        mixed = [sum(p * value[i] for p, value in zip(weights, values)) for i in range(4)]
        rows = [
            [char, *key, score, math.exp(score), f"{100 * p:.0f}", "%", *value]
            for char, key, score, p, value in zip("·mar", keys, scores, weights, values)
        ]
        rows.append([total, "100", "%", *mixed])
        rows = [[x if type(x) is str else f"{x:.2f}" for x in row] for row in rows]
        shown = re.search(r"(?s) +key +score .*?\n(.+?)```", README)[1]
        self.assertEqual([line.split() for line in shown.splitlines()], rows)
        numbers = ", ".join(f"{q:.2f}" for q in query)
        self.assertIn(numbers, " ".join(README.split()))

    def test_the_weights_are_those_with_which_attention_mixes(self):
        model, softmax, seen = microgpt.GPT(5, 1, 6, 3, 4, random.Random(0)), microgpt.softmax, []
        for p in model.parameters:
            p.data *= 20
        tokens, cache = [4, 0, 2, 1], model.new_cache()
        with mock.patch.object(microgpt, "softmax", lambda x: seen.append(softmax(x)) or seen[-1]):
            for token in tokens:
                model.forward(token, cache)
        for head in range(3):
            wanted = [[p.data for p in row] for row in seen[head::3]]
            for row, other in zip(drawing().attention_weights(model, tokens, head), wanted):
                self.assertEqual(len(row), len(other))
                for p, q in zip(row, other):
                    self.assertAlmostEqual(p, q, places=12)

    def test_the_calls_draw_what_they_say(self):
        result(start_default_run())
        run = microgpt.load(default_checkpoint())
        run.losses = TRACE["default"]["losses"]
        names = {**vars(drawing()), "run": run}
        pictures = [eval(line, names) for line in CALLS.splitlines()]
        curve, attention, letters = (
            xml.etree.ElementTree.fromstring(picture._repr_svg_()) for picture in pictures
        )
        space = "{http://www.w3.org/2000/svg}"
        points = curve.find(f"{space}polyline").get("points").split()
        heights = [float(point.split(",")[1]) for point in points]
        self.assertEqual((len(points), min(heights), max(heights)), (50, 20.0, 180.0))
        means = [sum(run.losses[i : i + 20]) / 20 for i in range(0, 1000, 20)]
        self.assertEqual(heights[means.index(min(means))], 180.0)
        self.assertEqual([x.text for x in curve.findall(f"{space}text")],
                         [f"{max(means):.2f}", f"{min(means):.2f}"])  # fmt: skip
        squares = [float(x.get("fill-opacity")) for x in attention.findall(f"{space}rect")]
        self.assertEqual(len(squares), 21)
        self.assertAlmostEqual(sum(squares), 6, delta=0.02)
        self.assertEqual(max(squares[6:10]), squares[8])  # the r, at the a
        places = {x.text: (float(x.get("x")), float(x.get("y"))) for x in letters.iter(f"{space}text")}
        self.assertEqual(places["e"][0], 280.0)
        self.assertEqual(places["l"][1], 20.0)
        right = sorted(places, key=lambda char: -places[char][0])
        self.assertEqual(set(right[1:6]), set("aoiub"))

    def test_any_run_can_be_drawn(self):
        names = drawing()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = Path(folder) / "text"
            path.write_text("<a&b>\n" * 9)
            flags = {"num_steps": 3, "n_layer": 2, "n_embd": 4, "n_head": 2, "block_size": 3}
            for is_stream in (False, True):
                run = microgpt.main(data=path, stream=is_stream, **flags)
                text = "<a&b>\n"[: 3 + 1 - is_stream] if is_stream else "<a"
                for picture in (names.loss_curve(run.losses), names.loss_curve(run.losses[:1]),
                                names.attention_map(run, text, 1), names.letter_map(run, "a", "<")):
                    xml.etree.ElementTree.fromstring(picture)  # fmt: skip

    def test_the_lines_for_a_browser_fetch_the_files_and_train(self):
        served = {name: (ROOT / name).read_text("utf-8") for name in ("microgpt.py", "names.txt")}
        served["names.txt"] = served["names.txt"][:300]  # less to grade the model on
        module = types.ModuleType("pyodide.http")
        module.open_url = lambda url: io.StringIO(served[Path(url).name])
        parts = {"pyodide": types.ModuleType("pyodide"), "pyodide.http": module}
        self.addCleanup(os.chdir, os.getcwd())
        code = BROWSER.replace("num_steps=200", "num_steps=2")
        self.assertNotEqual(code, BROWSER)
        names = {}
        with tempfile.TemporaryDirectory() as folder, mock.patch.dict(sys.modules, parts):
            os.chdir(folder)
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(code, names)
            for name in served:
                self.assertEqual(Path(name).read_text(encoding="utf-8"), served[name])
            os.chdir(ROOT)
        self.assertEqual(len(names["run"].losses), 2)
        self.assertIn("sample 20: ", out.getvalue())


def microgpt_softmax(numbers):
    """Return what softmax makes of plain numbers."""
    return [p.data for p in microgpt.softmax([Value(x) for x in numbers])]


def nodes_behind(result):
    """Return how many Values a result takes, itself included, and its leaves left out."""
    stack, found = [result], {}
    while stack:
        node = stack.pop()
        if node.inputs and id(node) not in found:
            found[id(node)] = node
            stack += node.inputs + node.partners
    return len(found)


class Figures(unittest.TestCase):
    def shows(self, title, *figures):
        """Assert that the README has these figures, before its first heading or in a section."""
        text = " ".join((section(title) if title else README.split("\n## ")[0]).split())
        for figure in figures:
            with self.subTest(title, figure=figure):
                self.assertRegex(text, rf"(?<![\d.,]){re.escape(figure)}(?!\d|[.,]\d)")

    def test_the_overfitting_run_prints_what_it_shows(self):
        lines = re.findall(r"(?m)^(?:step .* \| lr|train loss) .*\n", result(start_few_names_run())[1])
        self.assertEqual(len(lines), 5)
        shown = re.findall(r"(?s)```console\n(.+?)```", README)
        self.assertIn("".join(line.rstrip() + "\n" for line in lines), shown)

    def test_the_learning_rates_of_the_longer_run(self):
        shown = re.findall(r"(?m)^step +(\d+) / 2000 \| lr (\S+) \| train loss", README)
        wanted = []
        for step in (500, 1000, 1500):  # after 100 of warm-up, half a cosine wave to a tenth
            wave = math.cos(math.pi * (step - 1 - 100) / 1900)
            wanted.append((str(step), f"{0.01 * (0.55 + 0.45 * wave):.5f}"))
        self.assertEqual(shown, wanted)

    def test_what_is_counted_in_the_names(self):
        pairs = Counter(pair for doc in DOCS[:28830] for pair in zip(doc, doc[1:] + "."))
        after_w = sum(pairs[pair] for pair in pairs if pair[0] == "w")
        p = (pairs["w", "i"] + 1) / (after_w + 27)
        seen = set(DOCS[:28830])
        twice = sum(doc in seen for doc in DOCS[28830:29030])
        held_out = len(DOCS[28830:])
        starts = Counter(doc[0] for doc in DOCS)
        shares = [starts[char] / len(DOCS) for char in starts]
        first = sum(-share * math.log(share) for share in shares)
        self.shows(None, f"{len(DOCS):,}")
        counted = f"({pairs['w', 'i']} + 1) / ({after_w} + 27) = {p:.2f}"
        self.shows("1. A name becomes tokens", str(after_w), str(pairs["w", "i"]), counted)
        self.shows("Coda", f"{twice} of the 200")
        self.shows("All flags", f"{first:.2f}", f"{held_out:,}")

    def test_what_is_counted_in_the_default_run_and_the_longer_one(self):
        out = result(start_default_run())[1]
        val, table = map(float, re.search(r"val loss (\S+) \| bigram table (\S+)", out).groups())
        names = samples(out)
        new = [name for name in names if name not in DOCS]
        longer = re.search(r"saved .*\n.* val loss (\d\.\d+) \| bigram", README)[1]
        parameters = len(default_model()[1].parameters)
        self.shows("1. A name becomes tokens", f"{math.exp(table):.1f}", f"{math.exp(val):.1f}")
        efficiency = "Is it just efficiency\\?"
        self.shows(efficiency, f"{len(new)} are not", f"{val:.2f} to {float(longer):.2f}")
        self.shows(efficiency, f"{parameters:,}", f"{405e9 / parameters / 1e6:.0f} million")
        self.shows(None, f"{parameters:,}")
        self.assertIn("lemai", new)
        self.assertNotIn("kelon", new)

    def test_the_sums_in_the_answers_of_the_exercises(self):
        steps = {
            betas: [(1 - betas[0] ** t) / math.sqrt(1 - betas[1] ** t) for t in range(1, 100)]
            for betas in ((0.85, 0.99), (0.9, 0.999))
        }
        ours, usual = steps.values()
        self.assertEqual((ours.index(max(ours)), usual.index(max(usual))), (7, 11))
        mixed = []  # the chance of a window's start that leaves it open, and its mean loss
        for seen in (1, 2, 3):
            p = 1 / (5 - seen)
            mixed.append((p, (5 - seen) / 5, -p * math.log(p) - (1 - p) * math.log(1 - p)))
        floor = sum(share * loss for _, share, loss in mixed) / 4
        graded = []
        for part in ("aaaab" * 54, "aaaab" * 6):  # to train on, and held out
            windows = [part[i : i + 5] for i in range(0, len(part) - 1, 4)]
            starts = [window[: i + 1] for window in windows for i in range(len(window) - 1)]
            nexts = [window[i + 1] for window in windows for i in range(len(window) - 1)]
            open_ones = [(mixed[len(start) - 1][0], char) for start, char in zip(starts, nexts)
                         if "b" not in start and len(start) < 4]  # fmt: skip
            costs = [-math.log(p if char == "b" else 1 - p) for p, char in open_ones]
            graded.append(sum(costs) / len(starts))
        _, model = default_model()
        figures = ours[0], max(ours), max(usual)
        self.shows("Exercises", *(f"{factor:.1f} times" for factor in figures))
        figures = *(loss for _, _, loss in mixed), floor, *graded, floor / 2
        self.shows("Exercises", *(f"{loss:.3f}" for loss in figures))
        untied = sum(len(row) for row in model.state_dict["lm_head"])
        self.shows("Exercises", f"{untied} of {len(model.parameters):,}", f"{12 * 16**2:,}")
        figures = [float(row.train) for row in exercises.rows() if row.number == "21"]
        for figure, lowest in zip(figures, (floor, floor / 2)):
            self.assertTrue(lowest - 0.001 < figure < lowest + 0.005)

    def test_what_the_answers_say_of_nodes_logits_and_temperatures(self):
        two, twelve = (self.with_changes(number) for number in ("2", "12"))
        pair = [[two.Value(1.0) for _ in range(16)] for _ in range(2)]
        nodes = nodes_behind(two.dot(*pair))
        alike = []
        for module, n_layer in (twelve, 4), (twelve, 1), (microgpt, 4):
            RNG.setstate(AFTER_SHUFFLE)
            model, cosines = module.GPT(27, n_layer=n_layer, rng=RNG), []
            for tokens in default_model()[0][:12]:
                cache = model.new_cache()
                rows = [[x.data for x in model.forward(token, cache)] for token in tokens[:-1]]
                for i, a in enumerate(rows):
                    for b in rows[:i]:
                        cosines.append(sum(map(operator.mul, a, b)) / math.hypot(*a) / math.hypot(*b))
            alike.append(sum(cosines) / len(cosines))
        examples = [tokens[:17] for tokens in default_model()[0]]
        table = microgpt.bigram_loss(examples[:1000], examples[28830:][:200], 27)
        shares = Counter(token for tokens in examples[:28830] for token in tokens[1:])
        graded = [token for tokens in examples[28830:][:200] for token in tokens[1:]]
        guesses = [math.log(sum(shares.values()) / shares[token]) for token in graded]
        self.shows("Exercises", str(nodes), *(f"{cosine:.2f}" for cosine in alike))
        self.shows("Exercises", f"{table:.4f}", f"{sum(guesses) / len(guesses):.4f}")
        (answer,) = (text for text in exercises.texts().values() if "Temperatures" in text[:20])
        result(start_default_run())
        for temperature, shown in re.findall(r"--temperature (\d)\n(.+?)\.\.\.", answer, re.S):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                flags = {"temperature": float(temperature), "num_samples": 3}
                microgpt.main(load=default_checkpoint(), **flags)
            shown = shown.replace("  (in the data)", "")  # which it hasn't read
            self.assertTrue(out.getvalue().endswith(shown))

    def with_changes(self, number):
        """Return the program of an exercise as a module."""
        source = PROGRAM.read_text(encoding="utf-8")
        for diff in exercises.changes(number):
            source = exercises.changed(source, diff)
        module = types.ModuleType("changed")
        module.__file__ = str(PROGRAM)
        exec(source, vars(module))
        return module

    def test_the_size_of_the_graph(self):
        examples, model = default_model()
        nodes = nodes_behind(microgpt.mean(model.losses(examples[0])))
        self.shows("Is it just efficiency\\?", f"{nodes:,} nodes")
