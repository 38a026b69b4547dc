"""The model in PyTorch, in double precision, against microgpt.py."""

import contextlib
import io
import os
import random
import signal
import unittest
from unittest import mock

import microgpt
from tests.support import Folder, command, slow, start

os.environ["CUDA_VISIBLE_DEVICES"] = ""  # a GPU would compute in single precision

try:
    import torch
    from tests import gpt_torch
except ModuleNotFoundError:
    torch = None

FLAGS = """--n_layer 2 --n_embd 8 --n_head 2 --block_size 6 --batch_size 2 --num_samples 3
           --weight_decay 0.1 --warmup_steps 3 --lr_schedule cosine --eval_interval 20""".split()


class WithoutPyTorch(unittest.TestCase):
    def test_it_says_what_to_install(self):
        process = start("-c", "import sys; sys.modules['torch'] = None; import tests.gpt_torch")
        self.assertRegex(process.communicate()[1], r"\A.*pip install torch.*\n\Z")
        self.assertEqual(process.returncode, 2)


@unittest.skipUnless(torch, "needs PyTorch")
class PyTorch(Folder):
    def setUp(self):
        super().setUp()
        self.names.write_text("ann\nbartholomew\ncleo\ndan\neve\nfay\ngus\nhal\nivy\njo\n" * 5)
        self.words = "--data", self.names, "--save", self.path, *FLAGS

    def torch_command(self, *words, error=None):
        """Let gpt_torch.py put its functions into microgpt.py, and do what it then does."""
        with mock.patch.multiple(microgpt, train=None, evaluate=None):
            with mock.patch.object(microgpt.GPT, "forward"):
                with mock.patch("microgpt.command", side_effect=error):
                    gpt_torch.command()
                return command(*words)

    def saved(self):
        run = microgpt.load(self.path)
        adam, weights = run.optimizer, [p.data for p in run.model.parameters]
        return [adam.steps_done, run.rng.random(), *weights, *adam.means, *adam.squares]

    def almost_equal(self, ours, theirs):
        self.assertLess(max(abs(a - b) for a, b in zip(ours, theirs)), 1e-9)

    def test_logits_and_gradients(self):
        model = microgpt.GPT(7, 2, 16, 4, 5, random.Random(0))
        model.twin = gpt_torch.GPT(model)
        examples = [[6, 0, 1, 6], [6, 5, 4, 3, 2, 1, 0, 6], [6, 6], [6, 3, 3, 6]]
        for tokens in examples:
            ours, theirs = model.new_cache(), model.new_cache()
            for token in tokens[:5]:
                pair = model.forward(token, ours), gpt_torch.forward(model, token, theirs)
                self.almost_equal(*[[logit.data for logit in logits] for logits in pair])
        ours = microgpt.mean([microgpt.mean(model.losses(tokens)) for tokens in examples])
        ours.backward()
        theirs = gpt_torch.train_step(model.twin, mock.Mock(param_groups=[{}]), examples, 0.1)
        gradients = torch.cat([w.grad.flatten() for w in model.twin.parameters]).tolist()
        self.almost_equal([ours.data, *[p.grad for p in model.parameters]], [theirs, *gradients])

    def test_a_run_that_goes_there_and_back_prints_and_saves_the_same(self):
        for kind in (), ("--stream",):
            outputs, checkpoints = [], []
            for commands in [command] * 3, [self.torch_command, command, self.torch_command]:
                with mock.patch("microgpt.save", wraps=microgpt.save) as save:
                    for i, do in enumerate(commands):
                        load = ("--load", self.path) if i else ()
                        found = do(*self.words, *kind, *load, "--num_steps", 30 * i + 40)
                        outputs.append((found, save.call_count))
                checkpoints.append(self.saved())
            self.assertEqual(outputs[:3], outputs[3:])
            self.almost_equal(*checkpoints)

    def test_ctrl_c_and_kill_wait_for_the_end_of_a_step(self):
        handler = signal.getsignal(signal.SIGINT)
        for kind, status in (signal.SIGINT, 0), (signal.SIGTERM, 143):
            def learning_rate_at(*step, **flags):
                return signal.raise_signal(kind) or 0.01

            with mock.patch("microgpt.learning_rate_at", learning_rate_at):
                found, out, _ = self.torch_command(*self.words)
            self.assertEqual((found, "sample  3" in out, self.saved()[0]), (status, not status, 1))
            self.assertIs(signal.getsignal(signal.SIGINT), handler)

    def test_an_error_is_one_line_and_loses_no_step(self):
        checkpoints = []
        for do in command, self.torch_command:
            status, out, err = do(*self.words, "--stream", "--learning_rate", 1e170)
            checkpoints.append(self.saved()[:2])  # the steps, and what the next batch depends on
            self.assertEqual((status, err.count("\n")), (2, 1))
            self.assertIn("learning_rate", err)
            self.path.unlink()
        self.assertEqual(*checkpoints)
        with contextlib.redirect_stderr(io.StringIO()) as err, self.assertRaises(SystemExit):
            self.torch_command(error=torch.OutOfMemoryError("out of memory"))
        self.assertRegex(err.getvalue(), r"\A[^\n]+memory\n\Z")

    @slow
    def test_processes_share_each_batch(self):
        words = *self.words, "--num_steps", 40
        ours, numbers = command(*words), self.saved()
        torchrun = "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", 3
        process = start(*torchrun, gpt_torch.__file__, *words)  # one has no text of a batch of 2
        out, err = process.communicate()
        self.assertEqual((process.returncode, out), ours[:2], err)
        self.almost_equal(self.saved(), numbers)
