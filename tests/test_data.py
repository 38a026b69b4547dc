import contextlib
import io
import math
import random
import unittest

from microgpt import DEFAULTS, Run, Tokenizer, bigram_loss
from tests.support import ROOT, Folder, call


class Documents(Folder):
    def test_documents_are_the_lines_stripped_and_shuffled_without_empty_ones(self):
        self.names.write_bytes("emma\n\n  ava \n \nbo b\r\nzo\u2028e\nmia".encode("utf-8"))
        for seed in (42, 7):
            flags = {"seed": seed, "num_steps": 0, "num_samples": 0, "val_fraction": 0}
            with contextlib.redirect_stdout(io.StringIO()):
                run = call(data=self.names, n_embd=4, **flags)
            expected = ["emma", "ava", "bo b", "zo\u2028e", "mia"]
            random.Random(seed).shuffle(expected)
            self.assertEqual([run.tokenizer.decode(tokens) for tokens in run.training], expected)

    def test_the_names_are_32033_of_26_letters(self):
        docs = (ROOT / "names.txt").read_text(encoding="utf-8").split()
        self.assertEqual((len(docs), len(Tokenizer(docs).chars)), (32033, 26))


class Tokens(unittest.TestCase):
    def test_a_document_is_its_characters_between_two_bos(self):
        tokenizer = Tokenizer(["cab", "ad"])
        self.assertEqual((tokenizer.bos, tokenizer.vocab_size), (4, 5))
        self.assertEqual(tokenizer.encode("cab"), [4, 2, 0, 1, 4])
        self.assertEqual(tokenizer.encode(""), [4, 4])

    def test_decoding_gives_the_text_back(self):
        tokenizer = Tokenizer(["naïve 😀"])
        self.assertEqual(tokenizer.decode(tokenizer.encode("naïve 😀")), "naïve 😀")

    def test_an_error_names_all_unknown_characters_and_how_many_texts_have_one(self):
        run = Run({**DEFAULTS, "n_embd": 4}, ["cab", "ad"], random.Random(0))
        for flag, texts, words in (
            ("data", ["bézé", "cab", "zyx", "abba"], "--data.*xyzé.*2 of 4"),
            ("prompt", ["uaubvu"], "--prompt.*uv.*1 of 1"),
        ):
            with self.assertRaisesRegex(ValueError, words):
                run.encode(flag, texts)


class Bigrams(unittest.TestCase):
    def test_every_bigram_counts_once_more_than_it_was_seen(self):
        # seen: 3 0, 0 0, 0 3, 3 0, 0 1, 1 3. So p(0|3) = (2 + 1) / (2 + 4), p(1|0) = 2 / (3 + 4)
        # and p(2|1) = 1 / (1 + 4)
        loss = bigram_loss([[3, 0, 0, 3], [3, 0, 1, 3]], [[3, 0, 1], [1, 2]], 4)
        self.assertAlmostEqual(loss, -(math.log(3 / 6) + math.log(2 / 7) + math.log(1 / 5)) / 3)
