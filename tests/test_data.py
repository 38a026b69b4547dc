import tempfile
import unittest
from pathlib import Path

from microgpt import Tokenizer, draw_in_turn, read_documents, split
from tests.support import ROOT


class Reading(unittest.TestCase):
    def read(self, data):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text"
            path.write_bytes(data)
            return read_documents(path)

    def test_documents_are_the_stripped_lines_that_are_not_empty_in_file_order(self):
        self.assertEqual(self.read(b"emma\n\n  ava \n \nbo b"), ["emma", "ava", "bo b"])

    def test_windows_line_ends_and_a_byte_order_mark_are_not_characters_of_the_text(self):
        self.assertEqual(self.read(b"\xef\xbb\xbfemma\r\nava\r\n"), ["emma", "ava"])

    def test_only_a_newline_ends_a_document(self):
        self.assertEqual(self.read("a\u2028b\x0cc\n".encode()), ["a\u2028b\x0cc"])

    def test_any_script_is_read(self):
        self.assertEqual(self.read("Зоя\n美咲\n😀\n".encode()), ["Зоя", "美咲", "😀"])

    def test_what_is_not_a_text_of_documents_is_an_error_in_one_line(self):
        for data in (b"", b" \n\n\t\n", b"\xff\xfe\x00", "ä".encode("latin-1")):
            with self.subTest(data), self.assertRaises(ValueError) as caught:
                self.read(data)
            self.assertNotIn("\n", str(caught.exception))

    def test_a_missing_file_and_a_folder_are_errors_that_name_them_and_say_what_to_do(self):
        for path in (ROOT / "tests" / "nothing.txt", ROOT / "tests"):
            with self.subTest(path), self.assertRaises(ValueError) as caught:
                read_documents(path)
            self.assertIn(str(path), str(caught.exception))
            self.assertIn("names.txt comes with microgpt.py", str(caught.exception))

    def test_the_names_that_come_with_the_program_are_32033_of_26_letters(self):
        docs = read_documents(ROOT / "names.txt")
        self.assertEqual(len(docs), 32033)
        self.assertEqual("".join(Tokenizer(docs).chars), "abcdefghijklmnopqrstuvwxyz")


class Tokens(unittest.TestCase):
    def test_ids_are_the_sorted_characters_then_bos(self):
        tokenizer = Tokenizer(["cab", "ad"])
        self.assertEqual(tokenizer.chars, ["a", "b", "c", "d"])
        self.assertEqual((tokenizer.bos, tokenizer.vocab_size), (4, 5))

    def test_a_document_is_its_characters_between_two_bos(self):
        self.assertEqual(Tokenizer(["cab", "ad"]).encode("cab"), [4, 2, 0, 1, 4])

    def test_decoding_gives_the_text_back(self):
        tokenizer = Tokenizer(["naïve 😀"])
        self.assertEqual(tokenizer.decode(tokenizer.encode("naïve 😀")[1:-1]), "naïve 😀")


class Documents(unittest.TestCase):
    def test_the_tail_is_held_out(self):
        self.assertEqual(split(list("abcdefghij"), 0.2), (list("abcdefgh"), list("ij")))

    def test_nothing_is_held_out_of_too_few_documents(self):
        self.assertEqual(split(["a"], 0.9), (["a"], []))
        self.assertEqual(split(["a", "b"], 0.0), (["a", "b"], []))

    def test_documents_are_drawn_in_turn_and_from_the_start_again(self):
        docs = ["a", "b", "c"]
        tokenizer = Tokenizer(docs)
        drawn = [tokenizer.decode(draw_in_turn(docs, tokenizer, i)[1:-1]) for i in range(5)]
        self.assertEqual(drawn, ["a", "b", "c", "a", "b"])
