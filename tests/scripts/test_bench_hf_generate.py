"""scripts/bench_hf_generate.py without a device: rows that are kept, files that are refused, limits of time and memory."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import types
import unittest
from unittest import mock

import bench_hf_generate as bench


def options(**other):
    known = {"shape": "llama-3.1-8b", "layers": 0, "attention": "sdpa", "batch": "1", "context": "4096", "json": "", "fresh": False,
             "parallel": 2, "seconds": 1e9, "shape_seconds": 30, "tokens": 4, "samples": 1, "log": "/dev/null"}
    return types.SimpleNamespace(**{**known, **other})


class Rows(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name) / "hf.json"
        self.log = str(pathlib.Path(folder.name) / "log")

    def report(self, **other):
        return bench.Report(options(json=str(self.path), **other), 32)

    def run_all(self, code, **other):
        """All shapes with processes that run `code` in place of a model."""
        command = [sys.executable, "-c", code]
        popen = bench.subprocess.Popen
        with mock.patch.object(bench.subprocess, "Popen", lambda _, **pipes: popen(command, **pipes)), \
                mock.patch.object(bench, "free_bytes", lambda: 60 << 30), contextlib.redirect_stdout(io.StringIO()):
            bench.run_all(options(json=str(self.path), log=self.log, **other))
        return json.loads(self.path.read_text(encoding="utf-8"))["rows"]

    GOOD = 'print(\'{"ready": true}\', flush=True); input(); print(\'{"samples_us": [3, 1, 2], "torch": "x"}\', flush=True)'

    def test_measured_rows_are_kept_and_the_others_are_not(self):
        rows = self.run_all(self.GOOD)
        self.assertEqual([row["median_us"] for row in rows], [2])
        self.assertTrue(self.report().has((1, 4096, "sdpa")))
        rows = self.run_all("raise SystemExit('broken')", context="4096,8192")
        self.assertEqual([row.get("median_us") for row in rows], [2, None])
        self.assertEqual(rows[1]["left_out"], "broken")
        self.assertFalse(self.report().has((1, 8192, "sdpa")))  # tried again next time

    def test_a_file_of_another_shape_is_refused(self):
        self.run_all(self.GOOD)
        with self.assertRaisesRegex(SystemExit, "qwen3-8b"):
            self.report(shape="qwen3-8b")
        self.assertEqual(self.report(shape="qwen3-8b", fresh=True).result["rows"], [])

    def test_a_shape_that_takes_too_long_is_ended(self):
        rows = self.run_all("import time; time.sleep(600)", shape_seconds=0.5)
        self.assertEqual([row["left_out"] for row in rows], ["the time limit of a shape"])

    def test_what_does_not_fit_is_not_started(self):
        rows = self.run_all(self.GOOD, batch="1,16", context="32768")
        self.assertEqual([row.get("left_out") for row in rows], [None, "does not fit"])

    def test_bytes_are_those_of_weights_and_cache(self):
        shape = bench.shape_named("llama-3.1-8b")
        cache = bench.bytes_of(shape, 2, 1000) - bench.bytes_of(shape, 1, 1000)
        self.assertEqual(cache, 2 * 2 * 32 * 8 * 128 * 1000)
        self.assertGreater(bench.bytes_of(shape, 1, 1000), 16e9)


if __name__ == "__main__":
    unittest.main()
