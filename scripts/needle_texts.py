"""The corpus of train_needle.py and the texts with needles and votes drawn from it on the device.

Formats come from needle_tasks.py. A text is asked for its votes once, at its end; questions inside a text are
trained towards the true answer but show a random one, so that copying an answered question is worthless
and only counting helps.
"""
import concurrent.futures
import csv
import gzip
import hashlib
import io
import os
import sys

import torch
import torch.nn.functional as F

import needle_tasks as tasks

def load_corpus(root, limit):
    """(training bytes, held-out bytes, manifest rows); order and split follow the hash of the path."""
    names = []
    for folder, _, files in os.walk(root):
        names += [os.path.relpath(os.path.join(folder, f), root).replace(os.sep, "/")
                  for f in files if f.endswith(".py")]
    ranked = sorted((hashlib.sha256(name.encode()).hexdigest(), name) for name in names)

    def load(entry):
        try:
            with open(os.path.join(root, entry[1]), "rb") as file:
                data = file.read()
        except OSError:
            return None
        return (entry[0], entry[1], data, hashlib.sha256(data).hexdigest()) if 500 <= len(data) <= 1 << 20 else None

    parts, rows, seen, size = {"train": [], "held-out": []}, [], set(), 0
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        for entry in pool.map(load, ranked):
            if entry is None or entry[3] in seen or size > limit:
                continue
            rank, name, data, digest = entry
            seen.add(digest)
            split = "held-out" if int(rank[:8], 16) % 50 == 0 else "train"
            parts[split].append(data + b"\n\n")
            rows.append((name, len(data), digest[:12], split))
            size += len(data)
    if not parts["train"] or not parts["held-out"]:
        sys.exit(f"train_needle: {root}: found no Python sources to train on; give a folder of them with --corpus")
    join = lambda data: torch.frombuffer(bytearray(b"".join(data)), dtype=torch.uint8)
    return join(parts["train"]), join(parts["held-out"]), sorted(rows)


def write_manifest(rows, path):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "bytes", "sha256_first_12", "split"))
    writer.writerows(rows)
    with open(path, "wb") as out:
        out.write(gzip.compress(text.getvalue().encode(), 9, mtime=0))


SLOT, SUBSLOT = 48, 16  # a needle or question takes a slot, a vote a third of one
NEEDLE_BYTES = len(tasks.needle_line("k" * tasks.KEY_LETTERS, "0" * tasks.ANSWER_DIGITS))
VOTE_BYTES = len(tasks.vote_line(tasks.COLOURS[0]))
WINNER_BYTES = len(tasks.WINNER_OPEN) + tasks.COLOUR_LETTERS + 1


class Texts:
    """Draws training and evaluation texts on the device."""

    def __init__(self, data, device, seed):
        self.data, self.device = data.to(device), device
        self.source = torch.Generator(device).manual_seed(seed)
        constant = lambda text: torch.tensor(list(text.encode()), dtype=torch.uint8, device=device)
        self.needle_open, self.middle = constant(tasks.NEEDLE_OPEN), constant(tasks.NEEDLE_MIDDLE)
        self.vote_open, self.winner_open = constant(tasks.VOTE_OPEN), constant(tasks.WINNER_OPEN)
        self.line_end = constant(tasks.LINE_END)
        self.colours = torch.stack([constant(c) for c in tasks.COLOURS])  # [8, 4]
        self.answer_at = len(tasks.NEEDLE_OPEN) + tasks.KEY_LETTERS + len(tasks.NEEDLE_MIDDLE)

    def integers(self, low, high, *shape):
        return torch.randint(low, high, shape, generator=self.source, device=self.device)

    def uniform(self, *shape):
        return torch.rand(shape, generator=self.source, device=self.device)

    def shuffled(self, rows, count):
        return self.uniform(rows, count).argsort(1)

    def plain(self, rows, length):
        start = self.integers(0, self.data.numel() - length, rows, 1)
        return self.data[start + torch.arange(length, device=self.device)]

    def join(self, *parts):  # constants [n] and drawn [rows, count, n] to lines [rows, count, bytes]
        rows, count = next(p.shape[:2] for p in parts if p.dim() == 3)
        return torch.cat([p if p.dim() == 3 else p.expand(rows, count, -1) for p in parts], -1)

    def needles(self, rows, count):
        keys = self.integers(97, 123, rows, count, tasks.KEY_LETTERS).to(torch.uint8)
        numbers = self.integers(48, 58, rows, count, tasks.ANSWER_DIGITS).to(torch.uint8)
        return keys, numbers, self.join(self.needle_open, keys, self.middle, numbers, self.line_end)

    def question(self, names):  # [B, KEY_LETTERS] -> [B, bytes fed before the answer]
        return self.join(self.needle_open, names.unsqueeze(1), self.middle).squeeze(1)

    def votes(self, colour):  # [rows, count] -> lines
        return self.join(self.vote_open, self.colours[colour], self.line_end)

    def winners(self, colour):
        return self.join(self.winner_open, self.colours[colour], self.line_end)

    @staticmethod
    def put(x, place, lines):  # x [rows, bytes], place [rows, count], lines [rows, count, n]
        index = (place.unsqueeze(-1) + torch.arange(lines.size(-1), device=x.device)).flatten(1)
        x.scatter_(1, index, lines.flatten(1))

    def layout(self, rows, length, needles, questions_last, winner):
        """Byte places: facts and questions [rows, needles], the other slots [rows, M], the last slot [rows, 1]."""
        slots = length // SLOT
        usable = slots - winner
        mixed = self.shuffled(rows, usable)
        pairs = mixed[:, :2 * needles].view(rows, needles, 2).sort(-1).values
        fact, question, rest = pairs[..., 0], pairs[..., 1], mixed[:, 2 * needles:]
        last = self.shuffled(rows, usable - needles)
        at_end = usable - 1 - torch.arange(needles, device=self.device).expand(rows, -1)
        pick = questions_last.view(rows, 1)
        fact, question = torch.where(pick, last[:, :needles], fact), torch.where(pick, at_end, question)
        rest = torch.where(pick, last[:, needles:], rest)
        base = self.integers(0, length - slots * SLOT + 1, rows, 1)
        end = torch.full((rows, 1), slots - 1, device=self.device)
        return [base + t * SLOT for t in (fact, question, rest, end)]

    def jitter(self, place, room):
        return place + self.integers(0, room + 1, *place.shape)

    def draw(self, rows, length, needles, votes, decoys, winner):
        """Texts x [rows, length + 1], weights of their bytes as text, and the answers to be learnt:
        needle digits (place), votes (place, shares, weight), winners (place, colour, weight)."""
        x = F.pad(self.plain(rows, length + 1), (0, SLOT))
        weight = torch.ones(x.shape, device=self.device)
        fact, question, rest, end = self.layout(rows, length, needles, self.uniform(rows) < 0.5, winner)
        empty = lambda *shape: torch.zeros(rows, *shape, device=self.device)
        found = {"digits": empty(0).long(), "votes": (empty(0).long(), empty(0, len(tasks.COLOURS)), empty(0)),
                 "winners": (empty(0).long(), empty(0).long(), empty(0))}
        if needles:
            _, _, lines = self.needles(rows, needles)
            fact, question = (self.jitter(t, SLOT - NEEDLE_BYTES) for t in (fact, question))
            random = torch.ones(NEEDLE_BYTES, device=self.device)
            random[len(tasks.NEEDLE_OPEN):len(tasks.NEEDLE_OPEN) + tasks.KEY_LETTERS] = 0
            random[self.answer_at:self.answer_at + tasks.ANSWER_DIGITS] = 0
            for place in (fact, question):
                self.put(x, place, lines)
                self.put(weight, place, random.expand(rows, needles, -1))
            digits = question.unsqueeze(-1) + self.answer_at + torch.arange(tasks.ANSWER_DIGITS, device=self.device)
            found["digits"] = digits.flatten(1)
        if votes:
            shares = (-self.uniform(rows, len(tasks.COLOURS)).clamp_min(1e-6).log()) ** (0.4 + self.uniform(rows, 1))
            shares = shares / shares.sum(1, keepdim=True)
            colour = torch.multinomial(shares, votes, replacement=True, generator=self.source)
            used = torch.arange(votes, device=self.device) < self.integers(votes // 3, votes + 1, rows, 1)
            third = torch.arange(SLOT // SUBSLOT, device=self.device) * SUBSLOT
            places = (rest[:, decoys:].unsqueeze(-1) + third).flatten(1)
            place = places.gather(1, self.shuffled(rows, places.size(1))[:, :votes])
            place = torch.where(used, self.jitter(place, SUBSLOT - VOTE_BYTES), length + 1)
            self.put(x, place, self.votes(colour))
            first = (place + len(tasks.VOTE_OPEN)).clamp_max(length)
            weight.scatter_(1, place + len(tasks.VOTE_OPEN), 0.0)
            found["votes"] = (first, shares.unsqueeze(1).expand(-1, votes, -1), used.float())
            asked = self.jitter(torch.cat([rest[:, :decoys], end], 1), SLOT - WINNER_BYTES)
            before = (place.unsqueeze(1) < asked.unsqueeze(2)) & used.unsqueeze(1)
            counts = torch.einsum("rqv,rvc->rqc", before.float(), F.one_hot(colour, len(tasks.COLOURS)).float())
            two = counts.topk(2, -1).values
            clear = (two[..., 0] - two[..., 1] >= (0.02 * counts.sum(-1)).clamp_min(1)) & (counts.sum(-1) >= 3)
            best = counts.argmax(-1)
            shown = torch.cat([self.integers(0, len(tasks.COLOURS), rows, decoys), best[:, -1:]], 1)
            self.put(x, asked, self.winners(shown))
            weight.scatter_(1, asked + len(tasks.WINNER_OPEN), 0.0)
            found["winners"] = (asked + len(tasks.WINNER_OPEN), best, clear.float())
        return x[:, :length + 1].long(), weight[:, :length + 1], found

    def batch(self, length, mixture):
        """All texts of one step; places become flat rows (the row before the byte) of the N predictions."""
        parts, start = [], 0
        for rows, *what in mixture:
            x, weight, found = self.draw(rows, length, *what)
            row = (start + torch.arange(rows, device=self.device)).unsqueeze(1) * length - 1
            flat = {"digits": (row + found["digits"]).flatten()}
            for name in ("votes", "winners"):
                place, target, used = found[name]
                flat[name] = ((row + place).flatten(), target.flatten(0, 1), used.flatten())
            parts.append((x, weight, flat))
            start += rows
        glue = lambda name, i: torch.cat([p[2][name][i] for p in parts])
        joined = {name: tuple(glue(name, i) for i in range(3)) for name in ("votes", "winners")}
        joined["digits"] = torch.cat([p[2]["digits"] for p in parts])
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), joined

    def task(self, rows, length, keys, votes, margin):
        """Prompts [rows, P] that hold all keys and votes, the needles' keys and numbers, the winning colours."""
        prompt = length - NEEDLE_BYTES + 1
        x = self.plain(rows, prompt)
        slots = prompt // SLOT
        place = self.integers(0, prompt - slots * SLOT + 1, rows, 1) + self.shuffled(rows, slots) * SLOT
        fact, rest = place[:, :keys], place[:, keys:]
        names, numbers, lines = self.needles(rows, keys)
        self.put(x, self.jitter(fact, SLOT - NEEDLE_BYTES), lines)
        ranks = [rank for rank, n in enumerate(tasks.vote_counts(votes, margin)) for _ in range(n)]
        ranks = torch.tensor(ranks, device=self.device)
        colour = self.shuffled(rows, len(tasks.COLOURS)).gather(1, ranks.expand(rows, -1))
        third = torch.arange(SLOT // SUBSLOT, device=self.device) * SUBSLOT
        places = (rest.unsqueeze(-1) + third).flatten(1)
        place = places.gather(1, self.shuffled(rows, places.size(1))[:, :votes])
        self.put(x, self.jitter(place, SUBSLOT - VOTE_BYTES), self.votes(colour))
        return x.long(), names, numbers, colour[:, :1]
