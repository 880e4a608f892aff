"""scripts/step_table.py: what it says of a peer's attention in the place of ours."""

import json
import pathlib
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))
import step_table  # noqa: E402


def step(batch, method, us, **more):
    return {"batch": batch, "context": 32768, "method": method, "budget": 128, "kv_bytes": 3200, "samples_us": [us], **more}


def attention(batch, kernel, by, us):
    return {"batch": batch, "context": 32768, "kernel": kernel, "by": by, "median_us": us, "must_read_bytes": 100}


class Peers(unittest.TestCase):
    def text(self, steps, layers):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "gpu/results").mkdir(parents=True)
            (pathlib.Path(folder) / "gpu/results/decode_h200.json").write_text(json.dumps({"rows": layers}))
            before, step_table.ROOT = step_table.ROOT, pathlib.Path(folder)
            try:
                return "\n".join(step_table.peers_section(steps))
            finally:
                step_table.ROOT = before

    def test_a_faster_peer_shortens_the_dense_step_by_its_lead_in_every_layer(self):
        text = self.text([step(16, "dense", 1600.0), step(16, "prop", 1000.0)],
                         [attention(16, "dense", "stoat", 12.0), attention(16, "slow", "peer", 20.0),
                          attention(16, "fast", "peer", 10.0)])
        self.assertIn("1.54x at batch 16 (fast 10.0, ours 12.0", text)  # (1600 - 32 * 2) / 1000

    def test_a_slower_peer_changes_nothing(self):
        text = self.text([step(1, "dense", 1600.0), step(1, "prop", 1000.0)],
                         [attention(1, "dense", "stoat", 12.0), attention(1, "slow", "peer", 20.0)])
        self.assertIn("1.60x at batch 1", text)

    def test_steps_that_were_left_out_and_shapes_without_peers_are_not_told(self):
        layers = [attention(1, "dense", "stoat", 12.0), attention(1, "fast", "peer", 10.0)]
        self.assertEqual(self.text([step(1, "dense", 1600.0, left_out="too large"), step(1, "prop", 1.0)], layers), "")
        self.assertEqual(self.text([step(4, "dense", 1600.0), step(4, "prop", 1000.0)], layers), "")
        self.assertEqual(self.text([step(1, "dense", 1600.0)], layers), "")


if __name__ == "__main__":
    unittest.main()
