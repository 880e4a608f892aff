"""The scripts around gpu/results: the kernels' hash, verdicts, counters, the README's table."""

import contextlib
import io
import json
import pathlib
import tempfile
import unittest

import bench_peers
import gpu_counters
import gpu_results
import gpu_table
import kernel_hash


class KernelHash(unittest.TestCase):
    def test_comments_and_layout_do_not_count(self):
        plain = 'int f(int a) { return a << 2; }  // twice\n#define X 1\nauto s = "// no comment"; char c = \'"\';'
        laid_out = '/* a\nb */ int f( int a )\n{\n  return a<<2; }\n#define  X   1\nauto s="// no comment";\nchar c=\'"\';'
        self.assertEqual(kernel_hash.tokens(plain), kernel_hash.tokens(laid_out))
        self.assertIn('"// no comment"', kernel_hash.tokens(plain))

    def test_every_token_counts(self):
        base = kernel_hash.tokens("a = b + 1;\n#if X\nc;\n#endif\n")
        for other in ("a = b - 1;\n#if X\nc;\n#endif\n", "a = b ++ 1;\n#if X\nc;\n#endif\n", "a = b + 1;\n#if X c;\n#endif\n",
                      "a = b + 1.f;\n#if X\nc;\n#endif\n"):
            self.assertNotEqual(base, kernel_hash.tokens(other))
        self.assertNotEqual(kernel_hash.tokens("a + + b"), kernel_hash.tokens("a ++ b"))
        self.assertNotEqual(kernel_hash.tokens("1'000"), kernel_hash.tokens("1 '000'"))

    def make_tree(self, root, kernel, header):
        for name, text in {"gpu/attention/a.cu": kernel, "models/sampling/r.h": header, "models/other.h": "x"}.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)

    def test_headers_that_are_drawn_in_count_and_others_do_not(self):
        include = '#include "models/sampling/r.h"\n#include "models/other.h"\nint a;'
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            self.make_tree(root, include, "int w;")
            first = kernel_hash.kernel_hash(root)
            self.assertEqual(kernel_hash.hashed_files(root), ["gpu/attention/a.cu", "models/sampling/r.h"])
            self.make_tree(root, include + " // no change", "int  w; // here neither")
            self.assertEqual(kernel_hash.kernel_hash(root), first)
            self.make_tree(root, include, "int v;")
            self.assertNotEqual(kernel_hash.kernel_hash(root), first)

    def test_the_repositorys_kernels_are_hashed(self):
        names = kernel_hash.hashed_files()
        self.assertIn("gpu/attention/score.cu", names)
        self.assertIn("models/sampling/ruler.h", names)


def timing(kernel, us, by="stoat", batch=1, context=32768, layout="NHD"):
    return {"kernel": kernel, "by": by, "batch": batch, "context": context, "kv_layout": layout, "median_us": us}


class Verdicts(unittest.TestCase):
    def test_the_fastest_dense_of_the_shape_is_the_rival(self):
        rows = [timing("prop S=128", 20), timing("dense", 40), timing("SDPA cuDNN", 38, "peer"),
                timing("Triton split-KV", 39, "peer"), timing("Triton split-KV", 1, "peer", batch=4)]
        (found,) = gpu_results.verdicts(rows)
        self.assertEqual((found["fastest"], found["fastest_us"], found["times"]), ("SDPA cuDNN NHD", 38, 1.9))
        self.assertTrue(found["holds"] and found["must_hold"])

    def test_slower_is_called_slower(self):
        found = gpu_results.verdicts([timing("prop S=128", 41), timing("dense", 40)])
        self.assertIn("SLOWER", gpu_results.verdict_text(found))
        found = gpu_results.verdicts([timing("prop S=128", 41, context=4096), timing("dense", 40, context=4096)])
        self.assertNotIn("SLOWER", gpu_results.verdict_text(found))

    def test_percentiles_are_those_of_stoat_bench(self):
        self.assertEqual(gpu_results.percentiles([5, 1, 4, 2, 3]), {"p10_us": 1, "median_us": 3, "p90_us": 4})


class Counters(unittest.TestCase):
    LINES = ['==PROF== Profiling "bench_mark" - 0: 0%....50%....100% - 1 pass',
             '"ID","Kernel Name","Grid Size",' + ",".join(f'"{name}"' for name in gpu_counters.METRICS),
             '"","","","byte","byte","sector","sector"',
             '"0","bench_mark()","(1, 1, 1)","0","0","0","0"', '"1","score(int)","(8, 2, 1)","1,000","10","5","4"',
             '"2","gather(int)","(8, 2, 1)","24","1","5","4"',
             '"3","bench_mark()","(2, 1, 1)","7","7","7","7"', '"4","dense(int)","(1, 1, 1)","2048","0","1","0"']

    def test_kernels_are_added_to_the_item_before_them(self):
        profiled, passes = gpu_counters.kernels(self.LINES)
        rows = gpu_counters.join(profiled, [{"kernel": "prop"}, {"kernel": "dense"}])
        self.assertEqual(passes, 1)
        self.assertEqual([row["dram_read_bytes"] for row in rows], [1024, 2048])
        self.assertEqual(rows[0]["kernels"], ["score", "gather"])

    def test_an_item_without_kernels_is_refused(self):
        profiled, _ = gpu_counters.kernels(self.LINES[:6])
        with self.assertRaises(SystemExit):
            gpu_counters.join(profiled, [{"kernel": "prop"}, {"kernel": "dense"}])


class Graphs(unittest.TestCase):
    def test_ours_and_the_peers_have_as_many_steps(self):
        rows = json.loads((gpu_table.RESULTS / gpu_table.DECODE).read_text())["rows"]
        self.assertEqual({row["by"] for row in rows}, {"stoat", "peer"})
        for row in rows:
            self.assertEqual(row["steps_per_graph"], bench_peers.steps_of_graph(row["batch"], row["context"]), row["kernel"])


class Table(unittest.TestCase):
    RUN = {"gpu": "NVIDIA H200", "driver": "1", "cuda_runtime": "13.0", "clocks_after": {"sm_mhz": 1980}, "kernel_hash": "aa",
           "rows": [dict(timing(name, us), steps_per_graph=32, rotated_bytes=640 << 20)
                    for name, us in (("prop S=128", 20.04), ("prop S=128 traced", 21), ("dense", 40))]}

    BIAS = [{"case": "a case", "draws": 65536, "participation": 21.2, "flat": flat, "bias": 2e-4, "z_to_codes": -1.5, "method": "prop",
             "budget": 128, "draw_rms": 1.01, "systematic_rms": 1.0, "bias_raw": 2.0, "noise_floor": 1.0, "failures": failures,
             "largest_remainder_bias": 0.05} for flat, failures in ((False, []), (True, ["too much"]))]
    COUNTERS = [{"kernel": "prop S=128", "batch": 1, "must_read_bytes": 1000, "dram_read_bytes": 1015, "dram_write_bytes": 2e6}]

    def section(self, current):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / gpu_table.DECODE
            gpu_results.write_json(path, self.RUN)
            for name, rows in ((gpu_table.BIAS, self.BIAS), (gpu_table.COUNTERS, self.COUNTERS)):
                gpu_results.write_json(path.parent / name, {"kernel_hash": "aa", "rows": rows})
            return gpu_table.section(path.parent, current)

    def test_other_kernels_bring_a_banner(self):
        self.assertIn("**STALE**", self.section("bb"))
        self.assertNotIn("STALE", self.section("aa"))

    def test_numbers_come_from_the_results(self):
        text = self.section("aa")
        self.assertIn("| `prop S=128` | 20.0 |", text)
        self.assertIn("20.0, 40.0: 2.00x", text)
        self.assertIn("one of 32 in a graph", text)
        self.assertIn("at least 640 MB", text)
        self.assertIn("`prop S=128` +4.8 % (at most 10 %)", text)
        self.assertIn("`prop S=128` b1 +1.5 % (writes 2.0 MB)", text)
        for part in ("65536 spread seeds, 2 cases, participation ratios 21", "at most 2.0e-04", "+1.0 to +1.0 %", "2.00 x the Monte",
                     "at most 1.5 standard errors", "**Failed**: a case"):
            self.assertIn(part, text)

    def test_check_forgives_the_banner_and_nothing_else(self):
        readme = f"{gpu_table.BEGIN}\n{gpu_table.END}\n"
        fresh, stale = (gpu_table.replace_section(readme, self.section(current)) for current in ("aa", "bb"))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            self.assertEqual(gpu_table.check(fresh, stale), 0)
            self.assertEqual(gpu_table.check(stale, fresh), 0)
            self.assertEqual(gpu_table.check(fresh.replace("20.0", "19.9"), fresh), 1)
        self.assertIn("WARNING", said.getvalue())

    def test_only_what_stands_between_the_markers_changes(self):
        readme = f"before\n{gpu_table.BEGIN}\nold\n{gpu_table.END}\nafter\n"
        self.assertEqual(gpu_table.replace_section(readme, "new\n"),
                         f"before\n{gpu_table.BEGIN}\nnew\n{gpu_table.END}\nafter\n")
        with self.assertRaises(SystemExit):
            gpu_table.replace_section("no markers", "new\n")


if __name__ == "__main__":
    unittest.main()
