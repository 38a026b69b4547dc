import math
import unittest

from microgpt import Tokenizer, bigram_loss, split_docs
from tests.support import ROOT


class Documents(unittest.TestCase):
    def test_documents_are_the_stripped_lines_that_are_not_empty_in_file_order(self):
        self.assertEqual(split_docs("emma\n\n  ava \n \nbo b"), ["emma", "ava", "bo b"])

    def test_only_a_newline_ends_a_document(self):
        self.assertEqual(split_docs("a\u2028b\x0cc\n"), ["a\u2028b\x0cc"])

    def test_the_names_that_come_with_the_program_are_32033_of_26_letters(self):
        docs = split_docs((ROOT / "names.txt").read_text(encoding="utf-8"))
        self.assertEqual(len(docs), 32033)
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

    def test_a_character_without_an_id_is_an_error_that_says_which_and_what_the_alphabet_is(self):
        words = "^'uvwxyzé' is not in the alphabet, which is 'abcd'$"
        with self.assertRaisesRegex(ValueError, words):
            Tokenizer(["cab", "ad"]).encode("bézézyxwvud")

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
