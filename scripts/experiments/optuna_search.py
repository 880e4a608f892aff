#!/usr/bin/env python3
"""Lets Optuna search a sweep's axes through `stoat sweep run --ask-tell`: a line of JSON out, a line back.

  scripts/experiments/optuna_search.py SWEEP.yaml -o FOLDER [--trials 40] [--stoat PROGRAM]
      [--minimise energy_per_step_aJ --minimise total_error]

Every axis of the sweep becomes a parameter: lists are categories, ranges are numbers. Several --minimise make a
Pareto front. Results stay in FOLDER, so asking for a point twice simulates it once.
"""

import argparse
import json
import pathlib
import subprocess
import sys

try:
    import optuna
except ImportError:
    sys.exit("optuna_search: the Python package optuna is missing (python3 -m venv V && V/bin/pip install optuna)")


class Stoat:
    """The other end of the line protocol."""

    def __init__(self, program, sweep, folder):
        self.process = subprocess.Popen([program, "sweep", "run", sweep, "-o", folder, "--ask-tell"], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question):
        self.process.stdin.write(json.dumps(question) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"optuna_search: stoat ended with exit code {self.process.wait()}")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        return self.process.wait()


def suggest(trial, name, axis):
    """A value of one axis, as text that the sweep understands."""
    if "values" in axis:
        return trial.suggest_categorical(name, axis["values"])
    unit = f" {axis['unit']}" if axis["unit"] else ""
    if axis["whole"]:
        return f"{trial.suggest_int(name, int(axis['low']), int(axis['high']), log=axis['log'])}{unit}"
    return f"{trial.suggest_float(name, axis['low'], axis['high'], log=axis['log'])}{unit}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("sweep")
    parser.add_argument("-o", "--out", required=True)
    parser.add_argument("--trials", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minimise", action="append")
    default = pathlib.Path(__file__).resolve().parents[2] / "build/release/bin/stoat"
    parser.add_argument("--stoat", default=str(default))
    options = parser.parse_args()
    columns = options.minimise or ["energy_per_step_aJ", "total_error"]

    stoat = Stoat(options.stoat, options.sweep, options.out)
    axes = stoat.ask({"describe": True})["axes"]

    def objective(trial):
        point = {name: suggest(trial, name, axis) for name, axis in axes.items()}
        answer = stoat.ask({"id": trial.number, "set": point})
        if answer["status"] != "done":  # a failed point is no value: the search must not learn from it
            raise optuna.TrialPruned(answer["reason"])
        return tuple(float(answer["row"][column]) for column in columns)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = (optuna.samplers.TPESampler if len(columns) == 1 else optuna.samplers.NSGAIISampler)(seed=options.seed)
    study = optuna.create_study(directions=["minimize"] * len(columns), sampler=sampler)
    study.optimize(objective, n_trials=options.trials)
    stoat.close()
    done = [trial for trial in study.trials if trial.state == optuna.trial.TrialState.COMPLETE]
    print(f"{len(done)} of {len(study.trials)} trials gave a result; best by {', '.join(columns)}:")
    for trial in sorted(study.best_trials, key=lambda each: each.values):
        print(" ", ", ".join(f"{value:.6g}" for value in trial.values), trial.params)
    return 0 if done else 5


if __name__ == "__main__":
    sys.exit(main())
