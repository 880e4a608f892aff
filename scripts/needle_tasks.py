#!/usr/bin/env python3
"""Makes evaluation prompts for the byte-level model in models/llm/needle.

A prompt is ordinary text with two kinds of line hidden in it: needles, which give a key a seven-digit
number, and votes, each for one of eight colours. The questions come after it: some keys, then, once and
last, the colour with the most votes. Needles test whether sampled attention still finds one token;
votes need an average over hundreds of them, so their accuracy depends on the sampling budget.

  python3 scripts/needle_tasks.py --text FILE... --length 4096 --seed 1 --keys 8 --votes 64 -o DIR

writes DIR/prompt.txt (raw bytes, at most --length of them) and DIR/questions.jsonl, one object a line:
  {"text": bytes to feed before the answer, "generate": bytes to decode, "expect": answer, "kind": ...}
Standard library only; the same arguments give the same bytes. train_needle.py imports the formats below.
"""
import argparse
import json
import os
import random
import sys

COLOURS = ("blue", "cyan", "gold", "jade", "lime", "navy", "pink", "rose")  # distinct first letters
COLOUR_LETTERS = 4
NEEDLE_OPEN = "\n# magic number for "
NEEDLE_MIDDLE = " is "
KEY_LETTERS = 6
ANSWER_DIGITS = 7
VOTE_OPEN = "\n# vote "
WINNER_OPEN = "\n# most votes: "
LINE_END = "\n"
# Shares of the votes: the winner, the runner-up, and six others that divide the rest equally.
SHARES = {"clear": (0.24, 0.16), "close": (0.19, 0.16)}


def needle_line(key, number):
    return NEEDLE_OPEN + key + NEEDLE_MIDDLE + number + LINE_END


def needle_question(key):
    return NEEDLE_OPEN + key + NEEDLE_MIDDLE


def vote_line(colour):
    return VOTE_OPEN + colour + LINE_END


def vote_counts(votes, margin="clear"):
    """Counts by rank (winner first) that sum to `votes`; the first is strictly the largest."""
    if votes < 1:
        raise ValueError(f"votes: found {votes}, expected at least 1")
    first = max(1, round(SHARES[margin][0] * votes))
    second = min(round(SHARES[margin][1] * votes), first - 1)
    others = len(COLOURS) - 2
    base, extra = divmod(votes - first - second, others)
    counts = [first, second] + [base + (i < extra) for i in range(others)]
    while max(counts[1:]) >= counts[0]:  # only with few votes: hand the excess to the winner
        counts[counts.index(max(counts[1:]), 1)] -= 1
        counts[0] += 1
    return counts


def filler_lines(text):
    """The text's lines without any that look like ours, so that no answer is there twice."""
    marks = [mark.strip().encode() for mark in (NEEDLE_OPEN, VOTE_OPEN, WINNER_OPEN)]
    return [line + b"\n" for line in text.split(b"\n") if not any(mark in line for mark in marks)]


def make_task(text, length, seed, keys=8, votes=64, questions=None, margin="clear"):
    """(prompt bytes, list of questions) from filler bytes `text`; asks `questions` of the keys."""
    questions = keys if questions is None else questions
    if keys < 0 or votes < 0 or keys + votes == 0:
        raise ValueError(f"keys {keys}, votes {votes}: expected neither negative nor both 0")
    if not 0 <= questions <= keys:
        raise ValueError(f"questions: found {questions}, expected 0 to {keys} (the number of keys)")
    rng = random.Random(seed)
    names = set()
    while len(names) < keys:
        names.add("".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=KEY_LETTERS)))
    names = sorted(names)
    rng.shuffle(names)
    numbers = ["".join(rng.choices("0123456789", k=ANSWER_DIGITS)) for _ in names]
    ranking = list(COLOURS)
    rng.shuffle(ranking)
    counts = vote_counts(votes, margin) if votes else []
    # each line loses its leading newline: the line before it ends with one
    hidden = [needle_line(k, n)[1:].encode() for k, n in zip(names, numbers)]
    hidden += [vote_line(c)[1:].encode() for c, n in zip(ranking, counts) for _ in range(n)]
    rng.shuffle(hidden)
    room = length - sum(map(len, hidden)) + 1
    if room < 64:
        raise ValueError(f"length: found {length}, expected at least {length - room + 64} bytes for "
                         f"{keys} keys and {votes} votes; ask for fewer or a longer prompt")
    lines = filler_lines(text)
    if sum(map(len, lines)) < 64:
        raise ValueError("text: found less than 64 bytes of filler, expected some lines of text")
    at, body, size = rng.randrange(len(lines)), [], 0
    while True:
        line = lines[at % len(lines)]
        if size + len(line) > room:
            break
        body.append(line)
        size += len(line)
        at += 1
    places = sorted(rng.randint(0, len(body)) for _ in hidden)
    for place, line in zip(reversed(places), hidden):
        body.insert(place, line)
    prompt = b"".join(body)[:-1]  # every question starts with the newline
    asked = [{"text": needle_question(names[i]), "generate": ANSWER_DIGITS, "expect": numbers[i],
              "kind": "needle"} for i in rng.sample(range(keys), questions)]
    if votes:
        asked.append({"text": WINNER_OPEN, "generate": COLOUR_LETTERS, "expect": ranking[0],
                      "kind": "aggregate"})
    return prompt, asked


def write_task(directory, prompt, questions):
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "prompt.txt"), "wb") as out:
        out.write(prompt)
    with open(os.path.join(directory, "questions.jsonl"), "w", encoding="ascii", newline="\n") as out:
        for question in questions:
            out.write(json.dumps(question) + "\n")


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--text", nargs="+", required=True, metavar="FILE", help="filler text")
    parser.add_argument("--length", type=int, default=4096, help="bytes of the prompt at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keys", type=int, default=8)
    parser.add_argument("--votes", type=int, default=64)
    parser.add_argument("--margin", choices=sorted(SHARES), default="clear", help="lead of the winning colour")
    parser.add_argument("--questions", type=int, help="keys to ask for (all of them)")
    parser.add_argument("-o", "--output", required=True, metavar="DIR")
    options = parser.parse_args(arguments)
    try:
        text = b""
        for name in options.text:
            with open(name, "rb") as source:
                text += source.read() + b"\n"
        prompt, questions = make_task(text, options.length, options.seed, options.keys, options.votes,
                                      options.questions, options.margin)
        write_task(options.output, prompt, questions)
    except (OSError, ValueError) as error:
        print(f"needle_tasks: {error}", file=sys.stderr)
        return 2
    print(f"{options.output}: {len(prompt)} bytes, {len(questions)} questions")
    return 0


if __name__ == "__main__":
    sys.exit(main())
