#!/usr/bin/env python3
"""Opens a report in headless Chromium with the network off and says how long that takes and what went wrong.

  report_browser.py REPORT.html [--runs 5] [--shots FOLDER] [--json]

Times are those of a first visit, each in a browser of its own: until something is painted, until the load event, and
until the page stands: everything that can be seen without scrolling is drawn and the main thread is free (two frames
and an idle moment later). That is measured twice: from the top of the page, and opened at its first figure, which then
has to be drawn too. Beside these times stands the CPU time of the page's main thread, which says what an idle machine
would need at least. Afterwards the page is scrolled from figure to figure until every one is drawn. Printed: the
median of all runs, and how much of the machine's CPU time others took meanwhile. Exit code 3: the page's script complained, a figure
stayed empty, or something was asked of the network. Exit code 77: no Chromium here.

It speaks the DevTools protocol over a pipe, so it needs nothing but Python's own library.
"""

import argparse
import base64
import json
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DAMAGED, SKIPPED = 3, 77
PART = 3000  # pixels of a screenshot


class Browser:
    """One Chromium with an empty profile and one page."""

    def __init__(self, name, folder, width=1280, height=900):
        to_child, self.out = os.pipe()
        self.back, from_child = os.pipe()
        command = [name, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--remote-debugging-pipe",
                   "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--proxy-server=127.0.0.1:9",
                   "--disable-background-networking", "--no-first-run", f"--user-data-dir={folder}",
                   f"--window-size={width},{height}", "about:blank"]
        if subprocess.run(["unshare", "-n", "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0:
            command[:0] = ["unshare", "-n"]  # no network at all, not even a card

        def wire():  # the protocol is spoken over descriptors 3 and 4
            read, write = os.dup(to_child), os.dup(from_child)
            os.dup2(read, 3)
            os.dup2(write, 4)

        self.process = subprocess.Popen(command, preexec_fn=wire, close_fds=False, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_child)
        os.close(from_child)
        self.number, self.rest, self.complaints, self.asked, self.events = 0, b"", [], [], []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = None
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Performance.enable", timeDomain="threadTicks")

    def message(self):
        while b"\0" not in self.rest:
            got = os.read(self.back, 1 << 16)
            if not got:
                raise SystemExit("report_browser: the browser ended")
            self.rest += got
        line, self.rest = self.rest.split(b"\0", 1)
        return json.loads(line)

    def note(self, event):
        method, about = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(a.get("value", a.get("description"))) for a in about["args"]))
        elif method == "Runtime.exceptionThrown":
            what = about["exceptionDetails"]
            self.complaints.append(what.get("exception", {}).get("description", what["text"]))
        elif method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning"):
            # A browser without a graphics card says that it reads pixels slowly; that is not the page's doing.
            if about["entry"]["source"] != "rendering" and "GPU stall" not in about["entry"]["text"]:
                self.complaints.append(about["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            url = about["request"]["url"]
            if not url.startswith(("file:", "data:", "blob:", "about:")):
                self.asked.append(url)
        self.events.append(method)

    def call(self, method, **params):
        self.number += 1
        request = {"id": self.number, "method": method, "params": params}
        if getattr(self, "session", None):
            request["sessionId"] = self.session
        os.write(self.out, json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"report_browser: {method}: {answer['error']['message']}")
                return answer["result"]
            self.note(answer)

    def run(self, script):
        """The value of an expression or promise on the page."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise SystemExit(f"report_browser: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, url):
        self.events.clear()
        began = time.monotonic()
        self.call("Page.navigate", url=url)
        while "Page.loadEventFired" not in self.events:
            self.note(self.message())
        self.run(IN_SIGHT)
        ready = time.monotonic() - began
        work = {each["name"]: each["value"] for each in self.call("Performance.getMetrics")["metrics"]}["TaskDuration"]
        painted = self.run("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        loaded = self.run("performance.getEntriesByType('navigation')[0].loadEventEnd")
        return {"painted": painted / 1e3, "loaded": loaded / 1e3, "ready": ready, "work": work}

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.out)
        os.close(self.back)


SCROLL = """(async () => {
  const pause = ms => new Promise(done => setTimeout(done, ms));
  const all = Array.from(document.querySelectorAll('div.plot[id]'));
  for (const each of all) {
    each.scrollIntoView();
    for (let i = 0; i < 300 && !each.hasAttribute('data-drawn'); ++i) await pause(50);
  }
  window.scrollTo(0, 0);
  await pause(200);
  const empty = all.filter(each => !each.hasAttribute('data-drawn') || !each.querySelector('svg.main-svg'));
  return [all.length, all.length - empty.length, document.getElementsByTagName('*').length];
})()"""

# Resolves when every figure that can be seen without scrolling is drawn.
IN_SIGHT = """(async () => {
  const sight = Array.from(document.querySelectorAll('div.plot[id]')).filter(each => {
    const box = each.getBoundingClientRect();
    return box.top < window.innerHeight && box.bottom > 0;
  });
  while (!sight.every(each => each.hasAttribute('data-drawn')) || !performance.getEntriesByName('first-contentful-paint').length)
    await new Promise(done => requestAnimationFrame(done));
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 0))));
  return sight.length;
})()"""


def busy_ticks():
    """CPU time of everything on this machine, and of this process's dead children."""
    with open("/proc/stat", encoding="ascii") as stat:
        all_of = [int(each) for each in stat.readline().split()[1:9]]
    return sum(all_of) - all_of[3] - all_of[4], sum(all_of)


def write_png(browser, folder, name):
    """The whole page in parts: larger pictures than the browser's textures repeat themselves."""
    size = browser.call("Page.getLayoutMetrics")["cssContentSize"]
    for part in range(-(-int(size["height"]) // PART)):
        clip = {"x": 0, "y": part * PART, "width": size["width"], "height": min(PART, size["height"] - part * PART), "scale": 1}
        browser.run(f"window.scrollTo(0, {part * PART})")
        shot = browser.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        (folder / f"{name}-{part + 1}.png").write_bytes(base64.b64decode(shot["data"]))


def shots(browser, folder):
    """The whole page as it looks wide, dark, in grey, narrow, and on paper."""
    folder.mkdir(parents=True, exist_ok=True)
    write_png(browser, folder, "wide")
    browser.call("Emulation.setEmulatedVisionDeficiency", type="achromatopsia")
    write_png(browser, folder, "grey")
    browser.call("Emulation.setEmulatedVisionDeficiency", type="none")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.run("new Promise(done => setTimeout(done, 1500))")
    write_png(browser, folder, "dark")
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])
    browser.call("Emulation.setDeviceMetricsOverride", width=500, height=900, deviceScaleFactor=1, mobile=False)
    browser.run("new Promise(done => setTimeout(done, 1500))")
    write_png(browser, folder, "narrow")
    browser.call("Emulation.clearDeviceMetricsOverride")
    browser.run("new Promise(done => setTimeout(done, 500))")
    paper = browser.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    (folder / "print.pdf").write_bytes(base64.b64decode(paper["data"]))


def main():
    words = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    words.add_argument("report", type=pathlib.Path)
    words.add_argument("--runs", type=int, default=5)
    words.add_argument("--shots", type=pathlib.Path, help="folder for PNG (wide, grey, dark, narrow) and a PDF")
    words.add_argument("--json", action="store_true")
    asked = words.parse_args()
    name = next((each for each in BROWSERS if shutil.which(each)), None)
    if name is None:
        print("report_browser: skipped, no chromium here (apt-get install chromium)")
        return SKIPPED
    if not asked.report.is_file():
        print(f"report_browser: {asked.report}: no such file", file=sys.stderr)
        return 2
    url = asked.report.resolve().as_uri()
    first = re.search(rb'<section class="figure" id="([^"]+)"', asked.report.read_bytes())
    places = [url] + ([f"{url}#{first.group(1).decode()}"] if first else [])
    times, complaints, requests, plots = {place: [] for place in places}, [], [], (0, 0, 0)
    began = busy_ticks()
    own = sum(os.times()[2:4])
    for turn, place in [(turn, place) for turn in range(max(1, asked.runs)) for place in places]:
        with tempfile.TemporaryDirectory(prefix="stoat-browser-", ignore_cleanup_errors=True) as folder:
            browser = Browser(name, folder)
            try:
                times[place].append(browser.open(place))
                if turn == 0 and place == url:
                    plots = browser.run(SCROLL)
                    if asked.shots:
                        shots(browser, asked.shots)
                complaints += browser.complaints
                requests += browser.asked
            finally:
                browser.close()
    ended = busy_ticks()
    own = (sum(os.times()[2:4]) - own) * os.sysconf("SC_CLK_TCK")
    others = max(0.0, (ended[0] - began[0] - own) / max(1, ended[1] - began[1]))
    def middle(place):
        return {key: round(statistics.median(each[key] for each in times[place]), 3) for key in times[place][0]} | {
            "slowest": round(max(each["ready"] for each in times[place]), 3)}

    top, figure = middle(url), middle(places[-1])
    answer = {"bytes": asked.report.stat().st_size, "runs": len(times[url]), "median_seconds": top,
              "median_seconds_at_first_figure": figure, "cores": os.cpu_count(),
              "cpu_of_others_percent": round(100 * others), "figures": plots[0], "drawn": plots[1], "elements": plots[2],
              "complaints": complaints, "requests": requests}
    if asked.json:
        print(json.dumps(answer, indent=2))
    else:
        print(f"{asked.report.name}: {answer['bytes'] / 1e6:.1f} MB, {plots[1]} of {plots[0]} figures drawn, network off")
        for name, each in (("at its top", top), ("at its first figure", figure)):
            print(f"  opened {name}: painted {each['painted']:.2f} s, loaded {each['loaded']:.2f} s, stands after "
                  f"{each['ready']:.2f} s (median of {answer['runs']}, slowest {each['slowest']:.2f} s); "
                  f"its main thread worked {each['work']:.2f} s")
        print(f"  meanwhile others took {answer['cpu_of_others_percent']} % of {answer['cores']} cores")
    for each in complaints:
        print(f"report_browser: the page's script complained: {each}", file=sys.stderr)
    for each in requests:
        print(f"report_browser: the page asked the network for {each}", file=sys.stderr)
    if plots[1] < plots[0] or plots[0] == 0:
        print(f"report_browser: {plots[1]} of {plots[0]} figures were drawn", file=sys.stderr)
    return DAMAGED if complaints or requests or plots[1] < plots[0] or plots[0] == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
