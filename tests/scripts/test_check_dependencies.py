"""Each dependency rule rejects a file that breaks it (its evil twin) and accepts the one beside it that does not."""

import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import check_dependencies  # noqa: E402

OUTSIDE = ".." + "/shared/x.csv"

# (what it breaks, {path: text}, part of the message)
EVIL = [
    ("models include traces", {"models/a.h": '#include "traces/trace.h"\n'}, "models must not know traces"),
    ("models include sim", {"models/a.h": '#include "sim/x.h"\n'}, "models must not know sim"),
    ("traces include gpu", {"traces/a.cpp": '#include "gpu/x.h"\n'}, "traces must not know gpu"),
    ("gpu includes sim", {"gpu/a.cpp": '#include "sim/x.h"\n'}, "gpu must not know sim"),
    ("sim includes gpu", {"sim/a.cpp": '#include "gpu/x.h"\n'}, "sim must not know gpu"),
    ("sim includes gpu in angle brackets", {"sim/a.cpp": "#include <gpu/x.h>\n"}, "sim must not know gpu"),
    ("a test of models includes sim", {"tests/models/a.cpp": '#include "sim/x.h"\n'}, "models must not know sim"),
    ("a test of gpu includes a test of sim", {"tests/gpu/a.cpp": '#include "tests/sim/x.h"\n'}, "gpu must not know sim"),
    ("a source includes a test", {"sim/a.cpp": '#include "tests/sim/x.h"\n'}, "only tests include from tests/"),
    ("a relative include", {"sim/a.cpp": '#include "../models/units.h"\n'}, "relative include"),
    ("an include that is not from the root", {"sim/a.cpp": '#include "units.h"\n'}, "write it from the root"),
    ("SystemC in a stage", {"sim/datapath/a.h": "#include <systemc>\n"}, "SystemC only in"),
    ("SystemC's old header in sweep", {"sim/sweep/a.h": "#include <systemc.h>\n"}, "SystemC only in"),
    ("TLM in the memory", {"sim/memory/a.cpp": "  #  include <tlm_utils/simple_target_socket.h>\n"}, "SystemC only in"),
    ("TLM in a test of the memory", {"tests/sim/memory/a.cpp": "#include <tlm>\n"}, "SystemC only in"),
    ("a CUDA header in models", {"models/a.h": "#include <cuda_runtime.h>\n"}, "CUDA headers only in"),
    ("CUB in sim", {"sim/a.cpp": "#include <cub/cub.cuh>\n"}, "CUDA headers only in"),
    ("a kernel file in models", {"models/a.cu": "int x;\n"}, "CUDA sources only under gpu/"),
    ("a device function in models", {"models/a.h": "__device__ int f();\n"}, "known only as STOAT_HD"),
    ("Eigen in the engine", {"sim/engine/a.cpp": "#include <Eigen/Dense>\n"}, "Eigen only in"),
    ("Eigen in sampling", {"models/sampling/a.h": "#include <Eigen/Core>\n"}, "Eigen only in"),
    ("HDF5 in sim", {"sim/a.cpp": "#include <hdf5.h>\n"}, "HDF5 only in"),
    ("HDF5 in a test of sim", {"tests/sim/a.cpp": "#include <H5Cpp.h>\n"}, "HDF5 only in"),
    ("the CSV library in energy", {"models/energy/a.cpp": "#include <libfccp/csv.h>\n"}, "CSV library only in"),
    ("GoogleTest in a source", {"models/a.cpp": "#include <gtest/gtest.h>\n"}, "GoogleTest only under tests/"),
    ("YAML read in two places",
     {"sim/sweep/config.cpp": "#include <yaml-cpp/yaml.h>\n", "models/a.cpp": "#include <yaml-cpp/yaml.h>\n"},
     "yaml-cpp in 2 places"),
    ("datapath knows memory", {"sim/datapath/a.cpp": '#include "sim/memory/x.h"\n'}, "do not know each other"),
    ("memory knows datapath", {"sim/memory/a.cpp": '#include "sim/datapath/x.h"\n'}, "do not know each other"),
    ("a stage knows the engine", {"sim/datapath/a.cpp": '#include "sim/engine/x.h"\n'}, "points up"),
    ("the engine knows the sweep", {"sim/engine/a.cpp": '#include "sim/sweep/x.h"\n'}, "points up"),
    ("the sweep knows main", {"sim/sweep/a.cpp": '#include "sim/main.h"\n'}, "points up"),
    ("the design point knows the engine", {"sim/design_yaml.cpp": '#include "sim/engine/x.h"\n'}, "points up"),
    ("two folders of one rank know each other",
     {"sim/datapath/a.h": '#include "sim/design_x.h"\n', "sim/design_x.h": '#include "sim/datapath/a.h"\n'},
     "include each other"),
    ("a new folder in sim without a place", {"sim/extra/a.cpp": "int x;\n"}, "no place in the order"),
    ("a script opens the folder beside the repository", {"scripts/a.py": f'open("{OUTSIDE}")\n'}, "outside the repository"),
    ("a source opens it", {"models/a.cpp": f'auto p = "{OUTSIDE}";\n'}, "outside the repository"),
    ("a folder utils", {"models/utils/a.h": "int x;\n"}, "a folder without a subject"),
    ("a folder common among tests", {"tests/common/a.h": "int x;\n"}, "a folder without a subject"),
]

GOOD = {
    "models/units.h": "#pragma once\n#include <cstdint>\n",
    "models/host_device.h": "#if defined(__CUDACC__)\n#define STOAT_HD __host__ __device__\n#endif\n",
    "models/table.cpp": '#include <libfccp/csv.h>\n#include "models/units.h"\n',
    "models/llm/forward.cpp": '#include <Eigen/Dense>\n#include "models/units.h"\n',
    "traces/writer.cpp": '#include <hdf5.h>\n#include "models/units.h"\n',
    "gpu/kernel.cu": '#include <cub/cub.cuh>\n#include "traces/trace.h"\n__global__ void k() {}\n',
    "sim/main.cpp": '#include <systemc>\n#include "sim/sweep/run.h"\n',
    "sim/sweep/config.cpp": '#include <yaml-cpp/yaml.h>\n#include "sim/engine/engine.h"\n',
    "sim/engine/engine.h": '#include <tlm>\n#include "sim/datapath/stage.h"\n#include "sim/memory/channel.h"\n',
    "sim/datapath/stage.h": '#include "sim/design_point.h"\n#include "models/units.h"\n// see <systemc> and __device__\n',
    "tests/sim/engine/engine_test.cpp": '#include <gtest/gtest.h>\n#include <systemc>\n#include <Eigen/Dense>\n',
    "tests/traces/writer_test.cpp": '#include <hdf5.h>\n#include <gtest/gtest.h>\n#include "tests/models/x.h"\n',
    "tests/models/table_test.cpp": "#include <libfccp/csv.h>\n",
}


def violations_of(files):
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            path = pathlib.Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return check_dependencies.check(folder)


class DependencyRules(unittest.TestCase):
    def test_a_tree_that_keeps_the_rules_passes(self):
        violations, files = violations_of(GOOD)
        self.assertEqual(violations, [])
        self.assertEqual(files, len(GOOD))

    def test_every_evil_twin_is_rejected_for_its_own_reason_and_no_other(self):
        for what, files, message in EVIL:
            with self.subTest(what):
                violations, _ = violations_of({**GOOD, **files} if "YAML" not in what else files)
                self.assertTrue(violations, "was accepted")
                for path, line, said in violations:
                    self.assertIn(message, said)
                    self.assertIn(path, files)
                    self.assertGreaterEqual(line, 1)

    def test_the_line_of_the_include_is_named(self):
        violations, _ = violations_of({"models/a.h": '#pragma once\n\n#include "sim/x.h"\n'})
        self.assertEqual([(path, line) for path, line, _ in violations], [("models/a.h", 3)])


if __name__ == "__main__":
    unittest.main()
