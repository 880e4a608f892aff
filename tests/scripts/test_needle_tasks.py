"""Tests of scripts/needle_tasks.py: python3 tests/scripts/test_needle_tasks.py"""
import contextlib
import io
import json
import os
import re
import struct
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "scripts"))
sys.dont_write_bytecode = True
import needle_tasks as tasks  # noqa: E402

SHIPPED = os.path.join(ROOT, "models", "llm", "needle")
FILLER = b"\n".join(b"line %d of some text" % i for i in range(400))


def votes_in(prompt):
    found = re.findall(rb"^# vote ([a-z]+)$", prompt, re.M)
    return {colour: found.count(colour.encode()) for colour in tasks.COLOURS}, len(found)


class NeedleTasks(unittest.TestCase):
    def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(self):
        one, two = (tasks.make_task(FILLER, 4096, 5) for _ in range(2))
        self.assertEqual(one, two)
        self.assertNotEqual(one[0], tasks.make_task(FILLER, 4096, 6)[0])

    def test_every_question_has_its_answer_in_the_prompt_exactly_once(self):
        for seed in range(20):
            prompt, questions = tasks.make_task(FILLER, 4096, seed, keys=8, votes=40)
            needles = [q for q in questions if q["kind"] == "needle"]
            self.assertEqual(len(needles), 8)
            self.assertEqual(len({q["text"] for q in needles}), 8)
            for question in needles:
                line = (question["text"] + question["expect"])[1:].encode()
                self.assertEqual(prompt.count(line), 1)
                self.assertEqual(len(question["expect"]), question["generate"])

    def test_the_aggregate_question_is_last_and_names_the_only_colour_with_most_votes(self):
        for seed in range(20):
            for votes in (1, 2, 3, 5, 9, 24, 63, 100):
                prompt, questions = tasks.make_task(FILLER, 4096, seed, keys=2, votes=votes)
                counts, total = votes_in(prompt)
                self.assertEqual(total, votes)
                self.assertEqual([q["kind"] for q in questions], ["needle", "needle", "aggregate"])
                winner = questions[-1]["expect"]
                self.assertGreater(counts.pop(winner), max(counts.values()))

    def test_vote_counts_sum_and_keep_the_shares_when_there_are_many(self):
        for margin in tasks.SHARES:
            for votes in range(1, 700):
                counts = tasks.vote_counts(votes, margin)
                self.assertEqual(sum(counts), votes)
                self.assertGreaterEqual(min(counts), 0)
                self.assertGreater(counts[0], max(counts[1:]))
        self.assertEqual(tasks.vote_counts(100, "close"), [19, 16, 11, 11, 11, 11, 11, 10])
        self.assertEqual(tasks.vote_counts(100), [24, 16, 10, 10, 10, 10, 10, 10])

    def test_the_prompt_is_at_most_as_long_as_asked_and_nearly_that_long(self):
        for length in (1024, 4096, 32000):
            prompt, questions = tasks.make_task(FILLER, length, 1, keys=8, votes=20)
            self.assertLessEqual(len(prompt), length)
            self.assertGreater(len(prompt), length - 64)
            self.assertFalse(prompt.endswith(b"\n"))
            self.assertTrue(all(q["text"].startswith("\n") for q in questions))

    def test_lines_of_the_filler_that_look_like_ours_are_left_out(self):
        filler = FILLER + tasks.vote_line("rose").encode() * 50 + tasks.needle_line("abcdef", "1" * 7).encode()
        prompt, _ = tasks.make_task(filler, 6000, 3, keys=1, votes=10)
        self.assertEqual(votes_in(prompt)[1], 10)
        self.assertNotIn(b"abcdef", prompt)

    def test_first_letters_of_the_colours_differ_and_lengths_agree(self):
        self.assertEqual(len({colour[0] for colour in tasks.COLOURS}), len(tasks.COLOURS))
        self.assertEqual({len(colour) for colour in tasks.COLOURS}, {tasks.COLOUR_LETTERS})

    def test_the_command_line_writes_both_files(self):
        with tempfile.TemporaryDirectory() as folder:
            source, out = os.path.join(folder, "filler.txt"), os.path.join(folder, "out")
            with open(source, "wb") as file:
                file.write(FILLER)
            with contextlib.redirect_stdout(io.StringIO()):
                self.assertEqual(tasks.main(["--text", source, "--length", "2048", "--seed", "4", "--keys", "8",
                                             "--questions", "3", "--votes", "16", "-o", out]), 0)
            with open(os.path.join(out, "prompt.txt"), "rb") as file:
                prompt = file.read()
            with open(os.path.join(out, "questions.jsonl"), "rb") as file:
                questions = [json.loads(line) for line in file]
            self.assertEqual((prompt, questions), tasks.make_task(FILLER + b"\n", 2048, 4, 8, 16, 3))

    def test_what_cannot_be_made_is_refused_with_exit_code_2(self):
        with tempfile.TemporaryDirectory() as folder:
            source = os.path.join(folder, "filler.txt")
            with open(source, "wb") as file:
                file.write(FILLER)
            for bad in (["--length", "300"], ["--keys", "-1"], ["--keys", "0", "--votes", "0"],
                        ["--questions", "9"], ["--text", os.path.join(folder, "missing")]):
                talk = io.StringIO()
                out = os.path.join(folder, "out")
                with contextlib.redirect_stderr(talk):
                    self.assertEqual(tasks.main(["--text", source, "-o", out] + bad), 2, bad)
                self.assertTrue(talk.getvalue().startswith("needle_tasks: "), bad)
                self.assertFalse(os.path.exists(out))


def shipped(*names):
    with open(os.path.join(SHIPPED, *names), "rb") as file:
        return file.read()


class ShippedModel(unittest.TestCase):
    def test_the_demo_prompt_holds_every_answer_the_questions_expect(self):
        prompt = shipped("demo", "prompt.txt")
        questions = [json.loads(line) for line in shipped("demo", "questions.jsonl").splitlines()]
        self.assertEqual([q["kind"] for q in questions], ["needle"] * 4 + ["aggregate"])
        for question in questions[:-1]:
            self.assertEqual(prompt.count((question["text"] + question["expect"])[1:].encode()), 1)
        counts, _ = votes_in(prompt)
        self.assertGreater(counts.pop(questions[-1]["expect"]), max(counts.values()))

    def test_the_weights_have_the_shapes_the_configuration_promises(self):
        config, data = json.loads(shipped("config.json")), shipped("model.safetensors")
        self.assertLessEqual(len(data), 16 << 20)
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        header.pop("__metadata__")
        width, wide = config["hidden_size"], config["intermediate_size"]
        q, kv = (config[n] * config["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
        expected = {"model.embed_tokens": [config["vocab_size"], width], "model.norm": [width]}
        for layer in range(config["num_hidden_layers"]):
            for name, shape in (("input_layernorm", [width]), ("post_attention_layernorm", [width]),
                                ("self_attn.q_proj", [q, width]), ("self_attn.k_proj", [kv, width]),
                                ("self_attn.v_proj", [kv, width]), ("self_attn.o_proj", [width, q]),
                                ("mlp.gate_proj", [wide, width]), ("mlp.up_proj", [wide, width]),
                                ("mlp.down_proj", [width, wide])):
                expected[f"model.layers.{layer}.{name}"] = shape
        self.assertEqual({n: e["shape"] for n, e in header.items()}, {n + ".weight": s for n, s in expected.items()})
        self.assertEqual({e["dtype"] for e in header.values()}, {"BF16"})
        self.assertEqual(max(e["data_offsets"][1] for e in header.values()), len(data) - 8 - size)

    def test_the_run_that_made_it_met_what_was_asked_of_it(self):
        measured = json.loads(shipped("accuracy.json"))
        table = {(r["task"], r["length"], r["S"]): r["accuracy"] for r in measured["tasks"]}
        for length in (1024, 4096, 16384, 32768):
            self.assertGreaterEqual(table["aggregate", length, 256] - table["aggregate", length, 4], 0.2)
            for budget in ("dense", 128):
                self.assertGreaterEqual(table["needle", length, budget], 0.95)
        live = [r for r in measured["layers"] if r["bits_per_byte_added_by_S1"] >= 0.02 and r["length"] == 16384]
        self.assertGreater(max(r["participation_mean"] for r in live), 50)
        self.assertLess(measured["run"]["seconds_total"], 480)
        self.assertFalse(measured["run"]["cut_short"])

    def test_the_tables_of_the_readme_are_the_run_s_own_numbers(self):
        measured, found = json.loads(shipped("accuracy.json")), 0
        names = {"needle": "needle", "votes, clear": "aggregate", "votes, close": "aggregate_close"}
        text = {"bits per byte": 3, "total variation": 4, "top-1 agreement": 3}
        for line in shipped("README.md").decode().splitlines():
            cells = [cell.strip() for cell in line.split("|")[1:-1]]
            if len(cells) == 9 and cells[0] in names:
                values = [f"{100 * r['accuracy']:.1f}" for r in measured["tasks"]
                          if (r["task"], r["length"]) == (names[cells[0]], int(cells[1]))]
            elif len(cells) == 9 and cells[0] in text:
                key = cells[0].replace(" ", "_").replace("-", "")
                values = [f"{r[key]:.{text[cells[0]]}f}" for r in measured["text"] if r["length"] == int(cells[1])]
            else:
                continue
            self.assertEqual(cells[2:], values, line)
            found += 1
        self.assertEqual(found, 24)


if __name__ == "__main__":
    unittest.main()
