"""The other checks and the set-up scripts reject what they must: a header that leans on its neighbour, a badly
formatted file, an option nobody knows, a system without apt."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"


def run(*command, **options):
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False, timeout=120,
                          stdin=subprocess.DEVNULL, **options)


class Folder(unittest.TestCase):
    """A test with a temporary tree."""

    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.root = pathlib.Path(holder.name)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@unittest.skipUnless(shutil.which("c++"), "no c++")
class HeaderCheck(Folder):
    def check(self):
        return run(sys.executable, "-B", SCRIPTS / "check_headers.py", "--root", self.root, "--cache", self.root / "cache.json")

    def test_a_header_that_leans_on_its_neighbour_is_rejected_and_named(self):
        self.write("models/good.h", "#pragma once\n#include <string>\nstd::string f();\n")
        self.write("models/leans.h", "#pragma once\nstd::string g();\n")
        done = self.check()
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("models/leans.h: does not compile alone", done.stdout)
        self.assertNotIn("models/good.h:", done.stdout)

    def test_a_header_without_a_guard_is_rejected(self):
        self.write("models/twice.h", "struct Twice {};\n")
        self.assertEqual(self.check().returncode, 1)

    def test_an_unchanged_header_is_not_compiled_again_but_a_changed_one_below_it_is(self):
        self.write("models/low.h", "#pragma once\ninline int low() { return 1; }\n")
        self.write("models/high.h", '#pragma once\n#include "models/low.h"\n')
        self.assertIn("2 compiled, 0 failed", self.check().stdout)
        self.assertIn("0 compiled, 0 failed", self.check().stdout)
        self.write("models/low.h", "#pragma once\ninline int low() { return missing; }\n")
        self.assertIn("2 compiled, 2 failed", self.check().stdout)

    def test_a_header_that_needs_cuda_is_left_out_without_nvcc(self):
        self.write("models/plain.h", "#pragma once\n")
        self.write("gpu/kernel.cuh", "#pragma once\n__device__ int f();\n")
        done = self.check()
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertIn("1 left out", done.stdout)


class FormatCheck(Folder):
    def test_a_badly_formatted_file_is_rejected_and_fixed_on_request(self):
        (self.root / "scripts").mkdir()
        for name in ("scripts/check-format.sh", ".clang-format"):
            shutil.copy(ROOT / name, self.root / name)
        for folder in ("models", "traces", "gpu", "sim", "tests"):
            (self.root / folder).mkdir()
        ugly = self.write("models/ugly.h", "#pragma once\nint   f( int*a ) ;\n")
        check = self.root / "scripts/check-format.sh"
        done = run(check)
        if done.returncode == 77:
            self.skipTest("no clang-format 14")
        self.assertEqual(done.returncode, 1)
        self.assertIn("models/ugly.h:2", done.stderr)
        self.assertEqual(run(check, "--fix").returncode, 0)
        self.assertEqual(ugly.read_text(), "#pragma once\nint f(int* a);\n")
        self.assertEqual(run(check).returncode, 0)


class InstallDeps(Folder):
    def test_an_unknown_option_is_a_usage_error_that_names_the_known_ones(self):
        done = run(SCRIPTS / "install-deps.sh", "--gpus")
        self.assertEqual(done.returncode, 2)
        self.assertIn("unknown option '--gpus'; expected --dry-run, --dev or --slurm", done.stderr)

    def test_without_apt_it_lists_the_packages_and_installs_nothing(self):
        for tool in ("bash", "env", "sed", "grep", "dirname"):
            (self.root / tool).symlink_to(shutil.which(tool))
        done = run("/bin/bash", SCRIPTS / "install-deps.sh", env={"PATH": str(self.root)})
        self.assertEqual(done.returncode, 2)
        self.assertIn("apt-get was not found", done.stderr)
        self.assertIn("libsystemc-dev", done.stderr)

    @unittest.skipUnless(shutil.which("dpkg-query"), "no dpkg")
    def test_a_dry_run_never_calls_apt(self):
        marker = self.root / "called"
        self.write("apt-get", f"#!/bin/sh\ntouch {marker}\n").chmod(0o755)
        self.write("dpkg-query", "#!/bin/sh\nexit 1\n").chmod(0o755)
        done = run(SCRIPTS / "install-deps.sh", "--dry-run", env={**os.environ, "PATH": f"{self.root}:{os.environ['PATH']}"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("missing: build-essential", done.stdout)
        self.assertFalse(marker.exists())

    @unittest.skipUnless(shutil.which("dpkg-query"), "no dpkg")
    def test_a_failing_apt_is_reported_with_its_last_words(self):
        self.write("apt-get", "#!/bin/sh\necho 'E: Unable to locate package nothing'\nexit 100\n").chmod(0o755)
        self.write("dpkg-query", "#!/bin/sh\nexit 1\n").chmod(0o755)
        self.write("sudo", '#!/bin/sh\nexec "$@"\n').chmod(0o755)
        done = run(SCRIPTS / "install-deps.sh", env={**os.environ, "PATH": f"{self.root}:{os.environ['PATH']}"})
        self.assertEqual(done.returncode, 2)
        self.assertIn("Unable to locate package nothing", done.stderr)
        self.assertIn("Is there a network", done.stderr)


if __name__ == "__main__":
    unittest.main()
