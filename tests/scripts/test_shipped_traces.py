"""The shipped traces are whole, small and replay; the energy table is that of its files."""
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
import energy_table  # noqa: E402

BIN = os.environ.get("STOAT_BIN_DIR", "")
SHIPPED = sorted((ROOT / "traces/shipped").glob("*.h5"))
MEBIBYTE = 1 << 20


def program(name):
    path = os.path.join(BIN, name)
    return path if BIN and os.path.exists(path) else None


class ShippedTraces(unittest.TestCase):
    def test_all_that_was_promised_is_there_and_small(self):
        names = {path.stem for path in SHIPPED}
        for length in ("4k", "32k"):
            for kind in ("dense_scores", "prop128", "prop512", "flash2048", "ternary2", "ternary4"):
                self.assertIn(f"needle_{kind}_{length}", names)
        for path in SHIPPED:
            self.assertLessEqual(path.stat().st_size, 4 * MEBIBYTE, path.name)
        self.assertLessEqual(sum(path.stat().st_size for path in SHIPPED), 24 * MEBIBYTE)

    @unittest.skipUnless(program("stoat-trace"), "stoat-trace is not built")
    def test_each_passes_its_check_and_a_bent_one_does_not(self):
        for path in SHIPPED:
            done = subprocess.run([program("stoat-trace"), "check", path], capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, f"{path.name}: {done.stderr}")
            info = subprocess.run([program("stoat-trace"), "info", "--json", path], capture_output=True, text=True)
            header = json.loads(info.stdout)["header"]
            if "ternary" in path.stem:
                self.assertEqual(header["score_kind"], "ternary")
            self.assertIn(header["method"], path.stem.replace("ternary", "prop"), path.name)
        with tempfile.TemporaryDirectory() as folder:
            bent = pathlib.Path(folder) / "bent.h5"
            data = bytearray(SHIPPED[0].read_bytes())
            data[len(data) // 2] ^= 1
            bent.write_bytes(data)
            done = subprocess.run([program("stoat-trace"), "check", bent], capture_output=True, text=True)
            self.assertEqual(done.returncode, 3)

    @unittest.skipUnless(program("stoat"), "stoat is not built")
    def test_each_replays_on_the_datapath_that_it_is_for(self):
        for path in SHIPPED:
            datapath = "mac" if "dense" in path.stem else "ternary" if "ternary" in path.stem else "gather_add"
            # Whole layers of one step are long for 32 layers; two are enough to replay.
            with tempfile.TemporaryDirectory() as folder:
                done = subprocess.run([program("stoat"), "sim", "hbm3", path, "--datapath", datapath, "--steps", "0:1",
                                       "--layers", "0:2", "-q", "-o", os.path.join(folder, "out")],
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, f"{path.name}: {done.stderr}")


class EnergyTable(unittest.TestCase):
    def setUp(self):
        self.result = json.loads(energy_table.MEASURED.read_text())
        self.simulated = json.loads(energy_table.SIMULATED.read_text())

    def test_readings_last_five_seconds_and_cover_dense_and_sampled_at_each_batch(self):
        for work in ("decode", "attention"):
            for batch in (1, 4, 16):
                for method in ("dense", "prop:128"):
                    row = energy_table.reading(self.result, work, method, batch)
                    self.assertGreaterEqual(row["seconds"], 5)
                    self.assertGreater(row["joules"] / row["seconds"], energy_table.idle_watts(self.result)[-1])
                    self.assertLess(row["joules"] / row["seconds"], 720, "the board's limit is 700 W")

    def test_a_token_of_a_larger_batch_costs_less_and_sampling_costs_less_than_dense(self):
        mj = {(batch, method): cell.mj for batch in (1, 4, 16) for method, cell in
              energy_table.cells(self.result, self.simulated, batch, "decode").items()}
        for batch in (1, 4, 16):
            self.assertLess(mj[batch, "prop:128"], mj[batch, "dense"])
        self.assertLess(mj[16, "dense"], mj[4, "dense"])
        self.assertLess(mj[4, "dense"], mj[1, "dense"])

    def test_the_readme_shows_the_table_of_these_files(self):
        done = subprocess.run([sys.executable, "-B", str(ROOT / "scripts/energy_table.py"), "--check"],
                              capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)

    @unittest.skipUnless(program("stoat-bench"), "stoat-bench is not built (no CUDA)")
    def test_without_the_drivers_library_the_bench_says_so_and_how_to_name_it(self):
        done = subprocess.run([program("stoat-bench"), "--energy"], capture_output=True, text=True,
                              env={**os.environ, "STOAT_NVML": "/nowhere/nvml.so"})
        self.assertEqual(done.returncode, 4)
        self.assertIn("/nowhere/nvml.so: cannot open", done.stderr)
        self.assertIn("STOAT_NVML", done.stderr)

    @unittest.skipUnless(program("stoat"), "stoat is not built")
    def test_the_simulator_still_says_what_the_table_says(self):
        again = energy_table.simulate(program("stoat"), ["prop:128"])  # dense takes twice as long
        for method in again:
            row = self.simulated[method]
            self.assertEqual(again[method]["moved_bytes"], row["moved_bytes"])
            for name in ("dram_energy_aJ", "energy_aJ"):
                self.assertAlmostEqual(again[method][name] / row[name], 1, 2,
                                       "run scripts/energy_table.py --simulate STOAT")


if __name__ == "__main__":
    unittest.main()
