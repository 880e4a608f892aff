"""Tests of scripts/accuracy.py, its tables and the committed results: python3 tests/scripts/test_accuracy.py"""
import contextlib
import io
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
sys.dont_write_bytecode = True
import accuracy  # noqa: E402
import accuracy_tables as tables  # noqa: E402

RESULTS = ROOT / "gpu/llm/results/accuracy_h200.json"
PROGRAM = os.path.join(os.environ.get("STOAT_BIN_DIR", ""), "stoat-capture")
TASKS = {"needle", "needle 2", "votes after", "conversation", "votes clear", "votes close"}
BUDGETS = [1 << i for i in range(12)]


class Intervals(unittest.TestCase):
    def test_wilson_gives_the_published_values(self):
        # 10 of 20 and 0 of 10 at 95 % (Newcombe 1998 and by hand from the formula).
        low, high = tables.wilson(10, 20)
        self.assertAlmostEqual(low, 0.2993, 4)
        self.assertAlmostEqual(high, 0.7007, 4)
        low, high = tables.wilson(0, 10)
        self.assertEqual(low, 0.0)
        self.assertAlmostEqual(high, 0.2775, 4)

    def test_a_mean_of_equal_numbers_has_no_width(self):
        self.assertEqual(tables.mean_interval([2.0, 2.0, 2.0]), (2.0, 2.0, 2.0))

    def test_a_conversation_is_right_when_all_its_turns_are(self):
        group = {"name": "tasks clear"}
        turns = [{"right": "1101"}, {"right": "1011"}, {"right": "1001"}]
        marks = tables.marks(group, {"asks": [turns, [{"right": "0110"}]]})
        self.assertEqual(marks["conversation"], "1001")
        self.assertEqual(marks["votes clear"], "0110")


class Plans(unittest.TestCase):
    def setUp(self):
        self.texts = [str(path) for path in sorted((ROOT / "scripts").glob("*.py"))]

    def plan(self, *words):
        return accuracy.make_plan(accuracy.parser().parse_args(["plan", "-o", "x", "--text", *self.texts, *words]))

    def test_the_same_arguments_give_the_same_plan_and_dense_comes_first(self):
        one, two = (self.plan("--lengths", "1024", "--questions", "3") for _ in range(2))
        self.assertEqual(one, two)
        self.assertEqual(one[0]["settings"][0]["method"], "dense")
        seeds = [setting["seed"] for setting in one[0]["settings"]]
        self.assertEqual(len(set(seeds)), len(seeds))

    def test_prompts_and_questions_fit_their_context_and_texts_end_alike_at_every_length(self):
        plan, data = self.plan("--lengths", "1024,2048", "--questions", "3")
        ends = {}
        for group in plan["groups"]:
            talk = sum(len(turn["text"][0]) + turn["generate"] for turn in group.get("asks", [[]])[0])
            for at, size in group["prompts"]:
                self.assertLessEqual(size + talk, group["length"] + (1 if group["name"] == "text" else 0))
                if group["name"] == "text":
                    ends.setdefault(group["length"], []).append(data[at:at + size][-1000:])
        self.assertEqual(ends[1024], ends[2048])

    def test_lengths_budgets_and_counts_that_make_no_sense_are_told(self):
        for words in (("--lengths", "1000"), ("--budgets", "0"), ("--budgets", "70000"), ("--questions", "0")):
            with contextlib.redirect_stderr(io.StringIO()) as said, self.assertRaises(SystemExit):
                self.plan(*words)
            self.assertIn("expected", said.getvalue())

    def test_a_missing_program_and_an_unfinished_result_are_told(self):
        with self.assertRaisesRegex(ValueError, "--program"):
            accuracy.ensure_program("/none/stoat-capture")
        with tempfile.TemporaryDirectory() as folder:
            raw = pathlib.Path(folder) / "raw.json"
            raw.write_text('{"format": "stoat-accuracy", "interrupted": true}')
            with self.assertRaisesRegex(ValueError, "interrupted run"):
                tables.merged([raw])

    def test_text_that_is_too_short_is_told(self):
        self.texts = [str(ROOT / "LICENSE")]
        with self.assertRaisesRegex(ValueError, "expected at least 32769"):
            self.plan("--questions", "2")


class CommittedResults(unittest.TestCase):
    def setUp(self):
        self.result = tables.read_results(RESULTS)
        self.cells = {(r["length"], r["setting"], r["measure"]): r for r in self.result["rows"]}

    def test_every_method_budget_length_and_measure_is_there_with_200_questions(self):
        for length in accuracy.LENGTHS:
            names = [f"{m} S={s}" for m in ("iid", "strat", "sys", "prop") for s in BUDGETS]
            names += [f"flash S={s}" for s in BUDGETS if s >= length // 256]
            names += [f"ternary B={b} S=128" for b in accuracy.TERNARY_DRAWS] + [f"ternary B=8 S={s}" for s in BUDGETS]
            names += [f"one-hot layer {i} of sys S={b}" for i in range(4) for b in accuracy.ONE_HOT_BASES]
            for name in ["dense", *names]:
                for measure in (*TASKS, *tables.TEXT):
                    self.assertGreaterEqual(self.cells[length, name, measure]["n"], 200, (length, name, measure))

    def test_intervals_follow_from_the_shares(self):
        for row in self.result["rows"]:
            self.assertLessEqual(row["low"], row["value"], row)
            self.assertGreaterEqual(row["high"], row["value"], row)
            if row["measure"] in TASKS:
                right = row["value"] * row["n"]
                self.assertAlmostEqual(right, round(right), 4)
                for found, wanted in zip((row["low"], row["high"]), tables.wilson(round(right), row["n"])):
                    self.assertAlmostEqual(found, wanted, 5)

    def test_dense_agrees_with_itself_and_the_gpu_took_less_than_eight_minutes(self):
        for length in accuracy.LENGTHS:
            self.assertEqual(self.cells[length, "dense", "total_variation"]["value"], 0)
            self.assertEqual(self.cells[length, "dense", "top1_agreement"]["value"], 1)
        runs = [run for run in self.result["runs"] if run["backend"] == "cuda"]
        self.assertTrue(runs)
        self.assertTrue(all("H200" in run["gpu"] for run in runs))
        self.assertLess(sum(run["seconds"] for run in runs), 480)

    def test_sys_and_prop_differ_by_no_more_than_two_samples_of_one_thing(self):
        # Level 1e-6 over 6 lengths x 12 budgets x 3 measures, two-sided: 5.9 standard errors of a difference.
        for length in accuracy.LENGTHS:
            for budget in BUDGETS:
                for measure in ("total_variation", "bits_per_byte", "top1_agreement"):
                    one, two = (self.cells[length, f"{m} S={budget}", measure] for m in ("sys", "prop"))
                    error = sum(((row["high"] - row["value"]) / tables.Z) ** 2 for row in (one, two)) ** 0.5
                    self.assertLess(abs(one["value"] - two["value"]), 5.9 * error + 1e-9, (length, budget, measure))
        # Its twin: iid is another sampler, and the same comparison sees it.
        one, two = (self.cells[32768, f"{m} S=128", "total_variation"] for m in ("sys", "iid"))
        error = sum(((row["high"] - row["value"]) / tables.Z) ** 2 for row in (one, two)) ** 0.5
        self.assertGreater(abs(one["value"] - two["value"]), 5.9 * error)

    def test_the_variance_is_theorys_and_systematic_sampling_is_below_iid(self):
        rows = {(r["layer"], r["method"], r["budget"]): r for r in self.result["variance"]["rows"]}
        for (layer, method, budget), row in rows.items():
            if method == "sys":
                if budget >= 16:
                    self.assertLess(row["squared_error"], rows[layer, "iid", budget]["squared_error"])
                continue
            self.assertLess(abs(row["squared_error"] - row["theory"]), 0.05 * row["theory"], (layer, method, budget))

    def test_the_readme_shows_these_results(self):
        self.assertEqual(tables.update_readme(RESULTS, RESULTS.parent / "README.md", True), 0)

    def test_tables_without_a_number_are_left_out(self):
        result = tables.read_results(RESULTS)
        self.assertIn("One-hot", tables.markdown(result))
        result["rows"] = [row for row in result["rows"] if "S=256" not in row["setting"] and row["method"] != "ternary"]
        text = tables.markdown(result)
        self.assertNotIn("One-hot", text)
        self.assertNotIn("Ternary", text)

    def test_a_readme_with_another_number_is_told(self):
        text = (RESULTS.parent / "README.md").read_text()
        with tempfile.TemporaryDirectory() as folder:
            bent = pathlib.Path(folder) / "README.md"
            bent.write_text(text.replace("| 92.0 |", "| 93.0 |", 1))
            with contextlib.redirect_stderr(io.StringIO()):
                self.assertEqual(tables.update_readme(RESULTS, bent, True), 1)


@unittest.skipUnless(os.path.exists(PROGRAM), "stoat-capture is not built")
class SmallRun(unittest.TestCase):
    def test_the_shipped_model_answers_with_every_row_and_not_with_one(self):
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [sys.executable, "-B", str(ROOT / "scripts/accuracy.py"), "run", "-o", folder, "--program", PROGRAM,
                 "--backend", "cpu", "--lengths", "1024", "--questions", "2", "--decoded", "4", "--budgets", "1,2048",
                 "--only", "sys S=1", "sys S=2048", "--no-ternary", "--raw-only", "--text",
                 *[str(path) for path in sorted((ROOT / "scripts").glob("needle*.py"))]],
                capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            raw = json.loads((pathlib.Path(folder) / "raw.json").read_text())
            rows = tables.rows_of(raw)
        self.assertFalse(raw["interrupted"])
        self.assertEqual(len(raw["groups"]), 3)
        value = {(r["setting"], r["measure"]): r["value"] for r in rows}
        for setting in ("dense", "sys S=2048"):
            for task in ("needle", "votes clear", "conversation"):
                self.assertEqual(value[setting, task], 1.0, (setting, task))
        self.assertLess(value["sys S=2048", "total_variation"], 0.01)
        self.assertGreater(value["sys S=1", "total_variation"], 0.1)
        self.assertLess(value["sys S=1", "conversation"], 1.0)


if __name__ == "__main__":
    unittest.main()
