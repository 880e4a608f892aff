#!/usr/bin/env python3
"""Trains the byte-level model in models/llm/needle from scratch: one GPU, one run of under 8 minutes.

  python3 scripts/train_needle.py -o OUT             trains, measures and exports (one H200)
  python3 scripts/train_needle.py -o OUT --resume    goes on from the last checkpoint
  python3 scripts/train_needle.py -o OUT --smoke     the same path in a minute on a CPU, learns nothing
  python3 scripts/train_needle.py --check-demo models/llm/needle   answers the demo prompt on the CPU

The text is the Python sources of the packages installed beside PyTorch (needle_texts.py puts needles and
votes in); the loss is that of the text plus that of the answers. Matrices learn by Muon, the embedding and
the norms by AdamW; texts grow from 512 to 32768 bytes at a constant number of bytes a step.
OUT gets config.json, model.safetensors, accuracy.json, accuracy.csv and corpus_manifest.csv.gz.
"""
import argparse
import json
import math
import os
import sys
import sysconfig
import time

STARTED = time.time()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import needle_measure as measure  # noqa: E402
from needle_model import Model, make_parameters, read_model, write_model  # noqa: E402
from needle_texts import Texts, load_corpus, write_manifest  # noqa: E402


def say(*words):
    print(f"[{time.time() - STARTED:5.0f}s]", *words, flush=True)


STEP_TOKENS, MEASURE_SECONDS = 131072, 55
# length: steps, milliseconds a step on an H200, mixture of (texts, needles, votes, decoys, asked for the winner)
PHASES = {
    512: (1750, 31.7, ((120, 5, 0, 0, 0), (104, 0, 18, 2, 1), (16, 1, 18, 0, 1), (16, 0, 0, 0, 0))),
    1024: (2150, 35.6, ((56, 8, 0, 0, 0), (48, 1, 40, 3, 1), (12, 3, 36, 0, 1), (12, 0, 0, 0, 0))),
    4096: (1350, 57, ((12, 20, 0, 0, 0), (10, 2, 150, 8, 1), (6, 8, 120, 0, 1), (4, 0, 0, 0, 0))),
    16384: (540, 141, ((3, 32, 0, 0, 0), (2, 2, 400, 16, 1), (2, 12, 300, 0, 1), (1, 0, 0, 0, 0))),
    32768: (300, 254, ((1, 48, 0, 0, 0), (1, 4, 800, 24, 1), (1, 16, 500, 0, 1), (1, 0, 0, 0, 0))),
}
SMOKE_PHASES = {
    512: (3, 30, ((1, 5, 0, 0, 0), (1, 0, 18, 2, 1), (1, 1, 18, 0, 1), (1, 0, 0, 0, 0))),
    1024: (3, 60, ((1, 8, 0, 0, 0), (1, 3, 36, 0, 1))),
}


class Muon:
    """Momentum whose matrix updates are orthogonalised (Newton-Schulz, five steps), one batch a shape."""

    def __init__(self, parameters, decay):
        self.decay, self.groups = decay, []
        by_shape = {}
        for p in parameters:
            by_shape.setdefault(tuple(p.shape), []).append(p)
        for shape, members in by_shape.items():
            self.groups.append((members, torch.zeros((len(members),) + shape, device=members[0].device),
                                0.2 * math.sqrt(max(shape))))

    @torch.no_grad()
    def step(self, rate, momentum=0.95):
        for members, average, scale in self.groups:
            gradient = torch.stack([p.grad for p in members])
            average.lerp_(gradient, 1 - momentum)
            update = self.orthogonal(gradient.lerp(average, momentum))
            torch._foreach_mul_(members, 1 - rate * self.decay)
            torch._foreach_add_(members, list((update * scale).to(members[0].dtype).unbind()), alpha=-rate)

    @staticmethod
    def orthogonal(x):
        tall = x.size(1) > x.size(2)
        x = (x.mT if tall else x).bfloat16()
        x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
        for _ in range(5):
            square = x @ x.mT
            x = 3.4445 * x + (-4.7750 * square + 2.0315 * (square @ square)) @ x
        return x.mT if tall else x

    def state_dict(self):
        return [average for _, average, _ in self.groups]

    def load_state_dict(self, state):
        for (_, average, _), saved in zip(self.groups, state):
            average.copy_(saved)


class Trainer:
    def __init__(self, model, texts, options, phases, train_seconds):
        self.model, self.texts, self.options, self.phases = model, texts, options, phases
        self.train_seconds, self.step, self.spent, self.cut = train_seconds, 0, 0.0, False
        named = model.parameters.items()
        matrices = [p for n, p in named if p.dim() == 2 and "embed" not in n]
        others = [p for n, p in named if p.dim() < 2 or "embed" in n]
        self.muon = Muon(matrices, 0.05)
        groups = [{"params": [p for p in others if p.dim() == 2], "weight_decay": 0.1},
                  {"params": [p for p in others if p.dim() < 2], "weight_decay": 0.0}]
        self.adam = torch.optim.AdamW(groups, lr=options.rate, betas=(0.9, 0.95), fused=model.device == "cuda")
        self.total_cost = sum(steps * cost for steps, cost, _ in phases.values())

    def rate_factor(self, progress):
        warm = min(1.0, (self.step + 1) / 100)
        return warm * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * max(0.0, (progress - 0.4) / 0.6))))

    def losses(self, length, mixture):
        x, weight, found = self.texts.batch(length, mixture)
        hidden = self.model.trunk(x[:, :length])
        norm, table = (self.model.parameters[f"model.{n}.weight"] for n in ("norm", "embed_tokens"))
        target = x[:, 1:].reshape(-1)
        text = self.model.text_loss(hidden, norm, table, target, weight[:, 1:].reshape(-1), self.model.kind)
        rows = lambda index: self.model.logits(hidden.index_select(0, index))
        mean = lambda value, used: (value * used).sum() / used.sum().clamp_min(1)
        digits, answers = rows(found["digits"]), target[found["digits"]]
        needle = F.cross_entropy(digits, answers)
        place, shares, used = found["votes"]
        logs = rows(place).log_softmax(-1)[:, self.texts.colours[:, 0].long()]
        vote = mean((shares * (shares.clamp_min(1e-9).log() - logs)).sum(-1), used)  # from the true shares
        place, best, clear = found["winners"]
        guess, best = rows(place), self.texts.colours[best, 0].long()
        winner = mean(F.cross_entropy(guess, best, reduction="none"), clear)
        report = (text, needle, (digits.argmax(-1) == answers).float().mean(), vote,
                  winner, mean((guess.argmax(-1) == best).float(), clear))
        return text + needle + 0.5 * vote + 0.5 * winner, report

    def train_step(self, length, mixture, progress):
        factor = self.rate_factor(progress)
        for group in self.adam.param_groups:
            group["lr"] = self.options.rate * factor
        loss, report = self.losses(length, mixture)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(self.model.parameters.values()), 1.0)
        self.adam.step()
        self.muon.step(self.options.muon_rate * factor)
        for p in self.model.parameters.values():
            p.grad = None
        self.step += 1
        return report

    def save(self, phase, done):
        state = {"parameters": self.model.parameters, "adam": self.adam.state_dict(), "phase": phase, "done": done,
                 "muon": self.muon.state_dict(), "step": self.step, "spent": self.spent,
                 "source": self.texts.source.get_state()}
        path = self.options.checkpoint
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        torch.save(state, path + ".part")
        os.replace(path + ".part", path)

    def restore(self):
        state = torch.load(self.options.checkpoint, map_location=self.model.device, weights_only=True)
        with torch.no_grad():
            for name, value in state["parameters"].items():
                self.model.parameters[name].copy_(value)
        self.adam.load_state_dict(state["adam"])
        self.muon.load_state_dict(state["muon"])
        self.step, self.spent = state["step"], state["spent"]
        self.texts.source.set_state(state["source"].cpu())
        say(f"goes on from step {self.step}")
        return state["phase"], state["done"]

    def run(self):
        """All phases; a phase that would overrun its share of the time is cut short (and says so)."""
        phase_from, done_from = 0, 0
        if self.options.resume and os.path.exists(self.options.checkpoint):
            phase_from, done_from = self.restore()
        earlier, begin, cost_before = self.spent, time.time(), 0
        for number, (length, (steps, cost, mixture)) in enumerate(self.phases.items()):
            share = (cost_before + steps * cost) / self.total_cost
            done = done_from if number == phase_from else 0
            mark, mark_step = time.time(), self.step
            while number >= phase_from and done < steps:
                self.spent = earlier + time.time() - begin
                if self.spent > share * self.train_seconds + 15:  # 11 s go into compiling
                    self.cut = True
                    say(f"length {length}: cut short after {done} of {steps} steps")
                    break
                report = self.train_step(length, mixture, (cost_before + done * cost) / self.total_cost)
                done += 1
                if done % 200 == 0 or done in (1, 50, 100, steps):
                    values = [round(v.item(), 3) for v in report]
                    pace = 1000 * (time.time() - mark) / (self.step - mark_step)
                    mark, mark_step = time.time(), self.step
                    say(f"length {length} step {self.step} text {values[0]} needle {values[1]} ({values[2]}) "
                        f"vote {values[3]} winner {values[4]} ({values[5]}) {pace:.1f} ms a step")
                if done % 500 == 0:
                    self.save(number, done)
            cost_before += steps * cost
            if number >= phase_from:
                self.save(number + 1, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("-o", "--output", metavar="OUT", help="folder for what is to be kept")
    parser.add_argument("--corpus", default=sysconfig.get_paths()["purelib"], help="folder of Python sources")
    parser.add_argument("--corpus-bytes", type=int, default=150_000_000)
    parser.add_argument("--checkpoint", default="/tmp/needle/checkpoint.pt", help="file for interrupted runs")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--smoke", action="store_true", help="a few small steps, then everything else")
    parser.add_argument("--rate", type=float, default=2e-3, help="AdamW's peak rate (embedding, norms)")
    parser.add_argument("--muon-rate", type=float, default=3e-3, help="Muon's peak rate (matrices)")
    parser.add_argument("--seconds", type=float, default=470, help="the phases are cut to end by then")
    parser.add_argument("--check-demo", metavar="DIR", help="only answer DIR/demo with the model in DIR")
    parser.add_argument("--seeds", type=int, default=3, help="with --check-demo: sampled runs")
    options = parser.parse_args()
    if options.check_demo:
        return measure.check_demo(options.check_demo, options.seeds)
    if not options.output:
        parser.error("-o OUT: expected a folder for the results")
    os.makedirs(options.output, exist_ok=True)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not options.smoke:
        parser.error("no CUDA device found; training needs one (--smoke runs on the CPU)")
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    train, held_out, manifest = load_corpus(options.corpus, 2_000_000 if options.smoke else options.corpus_bytes)
    write_manifest(manifest, os.path.join(options.output, "corpus_manifest.csv.gz"))
    say(f"corpus: {len(manifest)} files, {train.numel()} bytes to train on, {held_out.numel()} held out")
    model = Model(make_parameters(device), device)
    if device == "cuda":
        model.compile()
    say(f"parameters: {sum(p.numel() for p in model.parameters.values())}")
    trainer = Trainer(model, Texts(train, device, 2), options, SMOKE_PHASES if options.smoke else PHASES,
                      options.seconds - MEASURE_SECONDS - (time.time() - STARTED))
    trainer.run()
    trained = time.time() - STARTED
    write_model(model.parameters, options.output)
    model = Model(read_model(options.output, device), device)  # measure what was written
    texts, small = Texts(held_out, device, 3), options.smoke
    lengths, count = ((1024,) if small else (1024, 4096, 16384, 32768)), (2 if small else 96)
    say("measures")
    torch.set_float32_matmul_precision("highest")
    measured = {}
    measured["tasks"], measured["participation_at_aggregate"] = measure.measure_tasks(model, texts, lengths, 2 * count)
    say("tasks done")
    measured["text"] = measure.measure_text(model, texts, lengths, 2 if small else 64)
    measured["layers"] = measure.measure_layers(model, texts, min(16384, lengths[-1]), 2 if small else 32)
    measured["requirements"] = measure.requirements(measured)
    measured["run"] = {
        "method": "systematic sampling in all layers from the first byte of the question on; the prompt is exact",
        "seconds_total": round(time.time() - STARTED, 1), "seconds_to_trained": round(trained, 1),
        "steps": trainer.step, "tokens": trainer.step * STEP_TOKENS, "cut_short": trainer.cut,
        "rates": {"muon": options.muon_rate, "adamw": options.rate},
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu", "torch": torch.__version__,
        "corpus_files": len(manifest), "corpus_bytes": train.numel()}
    measure.print_tables(measured)
    with open(os.path.join(options.output, "accuracy.json"), "w", encoding="ascii") as out:
        json.dump(measured, out, indent=1)
        out.write("\n")
    measure.write_csv(measured, os.path.join(options.output, "accuracy.csv"))
    say("done")
    return 0


if __name__ == "__main__":
    sys.exit(main())
