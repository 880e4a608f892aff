"""tests/gpu/emulation/rewrite_ptx.py: kernels for the CPU."""

import contextlib
import io
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/gpu/emulation"))
import rewrite_ptx  # noqa: E402

HEADER = '''inline void load(unsigned& value, unsigned at) {
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(at + f(1, ")")) : "memory");
}
'''
KERNEL = '''#include "gpu/b.cuh"
__global__ void k() {
  extern __shared__ __align__(128) uint4 memory[];
  if (late) asm volatile("cp.async.commit_group; cp.async.wait_group %0;" ::"n"(kAhead - 1) : "memory");
  asm volatile("cp.async.wait_group 2;" ::: "memory");
  asm volatile("" : "+r"(x));
}
void launch() { k<<<blocks(n), dim3(32), 0, stream>>>(n); }
'''


class Rewrite(unittest.TestCase):
    def rewritten(self, *options, kernel=KERNEL):
        with tempfile.TemporaryDirectory() as folder:
            root, out = pathlib.Path(folder) / "root", pathlib.Path(folder) / "out"
            (root / "gpu").mkdir(parents=True)
            (root / "gpu/a.cu").write_text(kernel)
            (root / "gpu/b.cuh").write_text(HEADER)
            before, sys.argv = sys.argv, ["rewrite_ptx.py", str(root), str(out), "gpu/a.cu", *options]
            try:
                rewrite_ptx.main()
            finally:
                sys.argv = before
            return (out / "gpu/a.cu").read_text() + (out / "gpu/b.cuh").read_text()

    def test_ptx_of_a_kernel_and_of_what_it_includes_becomes_calls_with_its_operands(self):
        text = self.rewritten()
        self.assertNotIn("asm", text)
        self.assertIn('  stoat::emulation::ptx::load_shared_word(value, at + f(1, ")"));', text)
        self.assertIn("if (late) stoat::emulation::ptx::commit_and_wait(kAhead - 1);", text)
        self.assertIn("  stoat::emulation::ptx::wait(2);", text)
        self.assertIn("{ stoat::emulation::queued(k, blocks(n), dim3(32), 0, stream)(n); }", text)
        self.assertIn("auto* const memory = static_cast<uint4*>(stoat::emulation::dynamic_shared());", text)

    def test_unknown_ptx_is_told_with_its_place(self):
        with self.assertRaises(SystemExit) as error:
            self.rewritten(kernel='void k() {\n  asm volatile("wgmma.fence;");\n}\n')
        self.assertIn("gpu/a.cu:2", str(error.exception))
        self.assertIn("wgmma.fence;", str(error.exception))

    def test_a_twin_whose_text_is_gone_is_an_error(self):
        self.assertIn("wait(7)", self.rewritten("--replace", "gpu/a.cu", "wait_group 2;", "wait_group 7;"))
        with self.assertRaises(SystemExit) as error, contextlib.redirect_stderr(io.StringIO()):
            self.rewritten("--replace", "gpu/a.cu", "wait_group 3;", "wait_group 7;")
        self.assertIn("'wait_group 3;' does not occur in gpu/a.cu", str(error.exception))


if __name__ == "__main__":
    unittest.main()
