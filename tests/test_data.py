import random
import tempfile
import unittest
from collections import Counter
from pathlib import Path

from microgpt import Tokenizer, cut_windows, draw_document, draw_window
from microgpt import read_text, split, split_documents
from tests.support import ROOT


WANTED = "give a UTF-8 text; names.txt, a name a line, comes with microgpt.py: copy it"


class Reading(unittest.TestCase):
    def read(self, data):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "text"
            path.write_bytes(data)
            return read_text(path)

    def test_documents_are_the_stripped_lines_that_are_not_empty_in_file_order(self):
        self.assertEqual(split_documents("emma\n\n  ava \n \nbo b"), ["emma", "ava", "bo b"])

    def test_windows_line_ends_and_a_byte_order_mark_are_not_characters_of_the_text(self):
        self.assertEqual(self.read(b"\xef\xbb\xbfemma\r\nava\r\n"), "emma\nava\n")

    def test_only_a_newline_ends_a_document(self):
        self.assertEqual(split_documents("a\u2028b\x0cc\n"), ["a\u2028b\x0cc"])

    def test_any_script_is_read(self):
        self.assertEqual(self.read("Зоя\n美咲\n😀\n".encode()), "Зоя\n美咲\n😀\n")

    def test_what_is_blank_or_no_text_is_an_error_that_says_which(self):
        for data, why in (
            (b"", "blank"), (b" \n\n\t\n", "blank"), (b"a\0b", "binary"), (b"\0", "binary"),
            (b"\xff\xfe\x00", "'utf-8' codec can't decode .*"),
            ("ä".encode("latin-1"), "'utf-8' codec can't decode .*"),
        ):  # fmt: skip
            words = rf"\Acannot read '.*' \({why}\): {WANTED}\Z"
            with self.subTest(data), self.assertRaisesRegex(ValueError, words):
                self.read(data)

    def test_a_missing_file_and_a_folder_are_errors_that_name_them(self):
        for path in (ROOT / "tests" / "nothing.txt", ROOT / "tests", "nothing"):
            named = rf"\Acannot read {str(path)!r} \(.+\): {WANTED}\Z"
            with self.subTest(path), self.assertRaisesRegex(ValueError, named):
                read_text(path)

    def test_a_path_may_be_a_string(self):
        self.assertEqual(read_text(str(ROOT / "names.txt")), read_text(ROOT / "names.txt"))

    def test_the_names_that_come_with_the_program_are_32033_of_26_letters(self):
        docs = split_documents(read_text(ROOT / "names.txt"))
        self.assertEqual(len(docs), 32033)
        self.assertEqual("".join(Tokenizer(docs).chars), "abcdefghijklmnopqrstuvwxyz")


class Tokens(unittest.TestCase):
    def test_ids_are_the_sorted_characters_then_bos(self):
        tokenizer = Tokenizer(["cab", "ad"])
        self.assertEqual(tokenizer.chars, ["a", "b", "c", "d"])
        self.assertEqual((tokenizer.ends, tokenizer.vocab_size), ([4], 5))

    def test_a_document_is_its_characters_between_two_bos(self):
        self.assertEqual(Tokenizer(["cab", "ad"]).encode("cab"), [4, 2, 0, 1, 4])

    def test_decoding_gives_the_text_back(self):
        tokenizer = Tokenizer(["naïve 😀"])
        self.assertEqual(tokenizer.decode(tokenizer.encode("naïve 😀")), "naïve 😀")
        stream = Tokenizer(["naïve 😀"], is_stream=True)
        self.assertEqual(stream.decode(stream.encode("vïa")), "vïa")

    def test_a_character_without_an_id_is_an_error_that_says_which_and_what_the_alphabet_is(self):
        words = "^'uvwxyzé' is not in the alphabet, which is 'abcd'$"
        with self.assertRaisesRegex(ValueError, words):
            Tokenizer(["cab", "ad"]).encode("bézézyxwvud")


class Documents(unittest.TestCase):
    def test_the_tail_is_held_out(self):
        self.assertEqual(split(list("abcdefghij"), 0.2), (list("abcdefgh"), list("ij")))

    def test_nothing_is_held_out_of_too_few_documents(self):
        self.assertEqual(split(["a"], 0.9), (["a"], []))
        self.assertEqual(split(["a", "b"], 0.0), (["a", "b"], []))

    def test_documents_are_drawn_in_turn_and_from_the_start_again(self):
        documents = [[3, 0, 3], [3, 1, 3], [3, 2, 3]]
        drawn = [draw_document(documents, i)[1] for i in range(5)]
        self.assertEqual(drawn, [0, 1, 2, 0, 1])


class Streams(unittest.TestCase):
    def test_a_stream_has_no_bos(self):
        tokenizer = Tokenizer(["a b\n"], is_stream=True)
        self.assertEqual((tokenizer.ends, tokenizer.vocab_size), ([], 4))
        self.assertEqual(tokenizer.encode("ba\n"), [3, 2, 0])

    def test_windows_are_drawn_from_all_places_alike_and_are_pieces_of_the_stream(self):
        stream, rng = list(range(7)), random.Random(0)
        drawn = Counter(tuple(draw_window(stream, 3, rng, i)) for i in range(4000))
        self.assertEqual(set(drawn), {(0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 6)})
        for times in drawn.values():
            self.assertAlmostEqual(times / 4000, 0.25, delta=0.03)  # over 4 standard deviations

    def test_a_stream_as_long_as_a_window_has_that_one(self):
        self.assertEqual(draw_window([5, 6, 7], 2, random.Random(0), 0), [5, 6, 7])

    def test_windows_to_validate_with_hold_every_pair_of_neighbours_once(self):
        for length in range(12):
            stream = list(range(length))
            windows = cut_windows(stream, 3)
            pairs = [pair for window in windows for pair in zip(window, window[1:])]
            self.assertEqual(pairs, list(zip(stream, stream[1:])))
            self.assertTrue(all(2 <= len(window) <= 4 for window in windows))
