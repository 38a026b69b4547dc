import contextlib
import io
import math
import random
import tempfile
import unittest
from pathlib import Path

import microgpt
from microgpt import DEFAULTS, Run, Tokenizer, bigram_loss
from tests.support import ROOT


def documents(text, **flags):
    """Return the documents that main() trains on, without training."""
    flags = {"num_steps": 0, "num_samples": 0, "val_fraction": 0, "n_embd": 4, **flags}
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        place = Path(folder, "data")
        place.write_bytes(text.encode("utf-8"))
        run = microgpt.main(data=place, **flags)
    return [run.tokenizer.decode(tokens) for tokens in run.training]


class Documents(unittest.TestCase):
    def test_documents_are_the_stripped_lines_that_are_not_empty_shuffled(self):
        expected = ["emma", "ava", "bo b", "olivia", "mia"]
        text = "emma\n\n  ava \n \nbo b\r\nolivia\nmia"
        for seed in (42, 7):
            docs = list(expected)
            random.Random(seed).shuffle(docs)
            self.assertEqual(documents(text, seed=seed), docs)

    def test_only_a_newline_ends_a_document(self):
        self.assertEqual(documents("a\u2028b\x0cc\n"), ["a\u2028b\x0cc"])

    def test_the_names_that_come_with_the_program_are_32033_of_26_letters(self):
        docs = (ROOT / "names.txt").read_text(encoding="utf-8").split("\n")
        self.assertEqual(len([doc for doc in docs if doc]), 32033)
        self.assertEqual("".join(Tokenizer(docs).chars), "abcdefghijklmnopqrstuvwxyz")


class Tokens(unittest.TestCase):
    def test_ids_are_the_sorted_characters_then_bos(self):
        tokenizer = Tokenizer(["cab", "ad"])
        self.assertEqual(tokenizer.chars, ["a", "b", "c", "d"])
        self.assertEqual((tokenizer.bos, tokenizer.vocab_size), (4, 5))

    def test_a_document_is_its_characters_between_two_bos(self):
        self.assertEqual(Tokenizer(["cab", "ad"]).encode("cab"), [4, 2, 0, 1, 4])
        self.assertEqual(Tokenizer(["cab", "ad"]).encode(""), [4, 4])

    def test_decoding_gives_the_text_back(self):
        tokenizer = Tokenizer(["naïve 😀"])
        self.assertEqual(tokenizer.decode(tokenizer.encode("naïve 😀")), "naïve 😀")

    def test_a_character_without_an_id_is_an_error(self):
        with self.assertRaises(KeyError):
            Tokenizer(["cab", "ad"]).encode("bad boy")

    def test_a_run_names_all_characters_without_an_id_and_how_many_texts_have_one(self):
        run = Run({**DEFAULTS, "n_embd": 4}, ["cab", "ad"], random.Random(0))
        self.assertEqual(run.encode("data", ["cab", ""]), [[4, 2, 0, 1, 4], [4, 4]])
        for flag, texts, words in (
            ("data", ["bézé", "cab", "zyx", "abba"], "--data.*'xyzé'.* 2 of 4 "),
            ("prompt", ["uaubvu"], "--prompt.*'uv'.* 1 of 1 "),
        ):
            with self.assertRaisesRegex(ValueError, words):
                run.encode(flag, texts)

    def test_the_example_of_the_first_chapter(self):
        alphabet = Tokenizer(["abcdefghijklmnopqrstuvwxyz"])
        self.assertEqual(alphabet.encode("emma"), [26, 4, 12, 12, 0, 26])


class Bigrams(unittest.TestCase):
    def test_every_bigram_counts_once_more_than_it_was_seen(self):
        # seen: 3 0, 0 0, 0 3, 3 0, 0 1, 1 3. So p(0|3) = (2 + 1) / (2 + 4), p(1|0) = 2 / (3 + 4)
        # and p(2|1) = 1 / (1 + 4)
        loss = bigram_loss([[3, 0, 0, 3], [3, 0, 1, 3]], [[3, 0, 1], [1, 2]], 4)
        expected = -(math.log(3 / 6) + math.log(2 / 7) + math.log(1 / 5)) / 3
        self.assertAlmostEqual(loss, expected)

    def test_a_count_of_nothing_is_a_blind_guess(self):
        self.assertAlmostEqual(bigram_loss([], [[26, 4, 12, 26]], 27), math.log(27))
