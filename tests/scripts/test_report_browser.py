"""A sweep's report in a real browser, with the network off; skipped where there is no Chromium."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import report_browser

ROOT = pathlib.Path(__file__).resolve().parents[2]
STOAT = pathlib.Path(os.environ.get("STOAT_BIN_DIR", ROOT / "build/release/bin")) / "stoat"
BROWSER = next((name for name in report_browser.BROWSERS if shutil.which(name)), None)


@unittest.skipUnless(BROWSER, "no chromium here")
@unittest.skipUnless(STOAT.exists(), f"no {STOAT}")
class ReportInABrowser(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.page = pathlib.Path(self.folder.name, "page.html")

    def report(self, *more):
        folder = pathlib.Path(self.folder.name, "sweep")
        folder.mkdir()
        results = ROOT / "scripts/experiments/results"
        shutil.copy(results / "context.csv", folder / "results.csv")
        shutil.copy(results / "context.manifest.json", folder / "manifest.json")
        made = subprocess.run([STOAT, "report", folder, "-o", self.page, *more], capture_output=True, text=True, check=False)
        if "python3-plotly" in made.stderr:
            self.skipTest(made.stderr)
        self.assertEqual(made.returncode, 0, made.stderr)

    def check(self):
        return subprocess.run([sys.executable, ROOT / "scripts/report_browser.py", self.page, "--runs", "1", "--json"],
                              capture_output=True, text=True, check=False, timeout=300)

    def test_every_figure_is_drawn_and_nothing_complains(self):
        self.report()
        outcome = self.check()
        self.assertEqual(outcome.returncode, 0, outcome.stderr)
        answer = json.loads(outcome.stdout)
        self.assertEqual(answer["drawn"], answer["figures"])
        self.assertGreaterEqual(answer["figures"], 12)

    def test_a_page_that_complains_or_asks_the_network_is_found(self):
        self.report()
        text = self.page.read_text(encoding="utf-8")
        evil = "<script>console.error('evil twin'); fetch('http://example.invalid/x').catch(() => 0);</script></body>"
        self.page.write_text(text.replace("</body>", evil), encoding="utf-8")
        outcome = self.check()
        self.assertEqual(outcome.returncode, report_browser.DAMAGED)
        self.assertIn("evil twin", outcome.stderr)
        self.assertIn("example.invalid", outcome.stderr)

    def test_a_figure_that_is_not_drawn_is_found(self):
        self.report()
        text = self.page.read_text(encoding="utf-8")
        broken = text.replace('id="plot-breakdown-data">{', 'id="plot-breakdown-data">!{')
        self.assertNotEqual(text, broken)
        self.page.write_text(broken, encoding="utf-8")
        self.assertEqual(self.check().returncode, report_browser.DAMAGED)


if __name__ == "__main__":
    unittest.main()
