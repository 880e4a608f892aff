// Style sheet of the report, and where plotly.js lies. See report_style.h.
#include "sim/sweep/report_style.h"

#include <array>
#include <filesystem>

#include "models/error.h"
#include "models/files.h"

namespace stoat::sim {

std::string_view report_style() {
  return R"css(
:root {
  color-scheme: light dark;
  --paper: #ffffff; --ink: #1d2126; --muted: #5d6771; --rule: #d9dde1; --grid: #e9ecee; --wash: #f5f6f7;
  --mac: #56626e; --gather_add: #0b7d78; --ternary: #c05a10; --topk: #7452a6; --other: #3c6aa0;
  --shade0: #26323d; --shade1: #44576a; --shade2: #63798e; --shade3: #8599ab;
  --shade4: #a3b2c0; --shade5: #bcc7d1; --shade6: #d2dae1; --shade7: #93a08f;
  --layer0: #1f5a94; --layer1: #9a3f74; --layer2: #66731a; --layer3: #4d4a9e; --layer4: #2f7f58; --layer5: #7d5130;
  --heat0: #eef4f4; --heat1: #b5d6d4; --heat2: #5fa9a5; --heat3: #12706c; --heat4: #062f2e;
}
@media (prefers-color-scheme: dark) {
  :root:not(.printing) {
    --paper: #15181c; --ink: #e6e9ec; --muted: #9ba5af; --rule: #353c44; --grid: #272d34; --wash: #1c2126;
    --mac: #9eabb8; --gather_add: #3dbab3; --ternary: #f0954a; --topk: #b294e0; --other: #7fb0e6;
    --shade0: #e3e9ee; --shade1: #c3ced8; --shade2: #a2b1bf; --shade3: #8294a5;
    --shade4: #67798a; --shade5: #51606f; --shade6: #3f4b57; --shade7: #8d9b87;
    --layer0: #6fb1ee; --layer1: #e38fc0; --layer2: #c3cf6c; --layer3: #a6a3f0; --layer4: #77cfa3; --layer5: #d9a883;
    --heat0: #1b2628; --heat1: #14494a; --heat2: #1d8480; --heat3: #6fcfc6; --heat4: #eafaf7;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 16px;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
}
main, header, footer { max-width: 60rem; margin: 0 auto; padding: 0 1.5rem; }
header { padding-top: 3.5rem; }
.kind { color: var(--muted); font-size: .875rem; margin: 0 0 .75rem; }
h1 { font-size: 1.75rem; line-height: 1.25; font-weight: 620; margin: 0 0 1rem; letter-spacing: -.012em;
     text-wrap: balance; overflow-wrap: anywhere; }
.lede { color: var(--muted); max-width: 46rem; margin: 0 0 1.5rem; overflow-wrap: anywhere; }
nav { font-size: .875rem; color: var(--muted); border-top: 1px solid var(--rule); border-bottom: 1px solid var(--rule);
      padding: .6rem 0; margin: 2rem 0 0; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; }
a { color: var(--gather_add); text-decoration-thickness: 1px; text-underline-offset: .18em; }
nav a { color: var(--muted); text-decoration: none; }
a:hover, nav a:hover { color: var(--ink); }
a:focus-visible, summary:focus-visible { outline: 2px solid var(--gather_add); outline-offset: 2px; }
section { margin: 3.5rem 0; }
h2 { font-size: 1.2rem; font-weight: 620; margin: 0 0 .35rem; letter-spacing: -.006em; }
.caption { color: var(--muted); max-width: 46rem; margin: 0 0 1.1rem; overflow-wrap: anywhere; }
.plot { width: 100%; }
.get { font-size: .8125rem; color: var(--muted); margin: .4rem 0 0; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--muted); padding: 0 0 .5rem; }
th, td { text-align: left; padding: .42rem .9rem .42rem 0; vertical-align: baseline; border-bottom: 1px solid var(--grid); }
th:last-child, td:last-child { padding-right: 0; }
thead th { font-weight: 600; vertical-align: bottom; border-bottom: 1px solid var(--muted); line-height: 1.3; }
tbody th { font-weight: 500; }
td { white-space: pre-line; }
td, tbody th { overflow-wrap: break-word; min-width: 4rem; max-width: 24rem; }
.name-cell { min-width: 9rem; max-width: 22rem; }
td.num, th.num { text-align: right; white-space: nowrap; min-width: 0; }
thead th.num { white-space: normal; }
.unit { display: block; font-weight: 400; color: var(--muted); font-size: .8125rem; }
.swatch { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .55em; background: var(--other); }
.swatch.mac { background: var(--mac); } .swatch.gather_add { background: var(--gather_add); }
.swatch.ternary { background: var(--ternary); } .swatch.topk { background: var(--topk); }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: 1.25rem; margin: 2rem 0 1rem; }
.card { border-top: 3px solid var(--other); padding: .7rem 0 0; }
.card.mac { border-color: var(--mac); } .card.gather_add { border-color: var(--gather_add); }
.card.ternary { border-color: var(--ternary); } .card.topk { border-color: var(--topk); }
.card .name { font-size: .875rem; color: var(--muted); overflow-wrap: anywhere; }
.card .big { font-size: 1.9rem; font-weight: 600; letter-spacing: -.02em; line-height: 1.25; font-variant-numeric: tabular-nums; }
.card .big small { font-size: .95rem; font-weight: 400; color: var(--muted); letter-spacing: 0; }
.card .rest { font-size: .875rem; color: var(--muted); }
.note { border-left: 3px solid var(--rule); padding: .1rem 0 .1rem .9rem; color: var(--muted); max-width: 46rem;
        font-size: .9375rem; overflow-wrap: anywhere; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--muted); font-size: .9375rem; }
code, .mono { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .86em;
              overflow-wrap: anywhere; }
footer { color: var(--muted); font-size: .8125rem; padding-bottom: 3rem; }
.picked { border-left: 3px solid var(--gather_add); padding: .2rem 0 .2rem .9rem; margin: .6rem 0; font-size: .875rem; }
.picked dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(14rem, 1fr)); gap: .2rem 1.2rem; margin: 0; }
.picked dt { color: var(--muted); display: inline; } .picked dt::after { content: ' '; } .picked dd { display: inline; margin: 0; }
.js-plotly-plot .plotly .main-svg { overflow: visible; }
@media (max-width: 40rem) {
  main, header, footer { padding-left: 1rem; padding-right: 1rem; }
  header { padding-top: 2rem; } h1 { font-size: 1.4rem; } section { margin: 2.5rem 0; }
  th, td { padding-right: .7rem; }
}
@media print {
  @page { size: A4; margin: 16mm 15mm; }
  body { font-size: 10.5pt; } header { padding-top: 0; } main, header, footer { max-width: none; padding: 0; }
  nav, .get { display: none; } section { margin: 1.6rem 0; } h2, .caption { break-after: avoid; }
  .plot { min-height: 0 !important; }
  .plot, tr, .card, .figure { break-inside: avoid; } .table { overflow: visible; } table { font-size: 8.5pt; }
  th, td { padding-right: .5rem; }
}
)css";
}

std::string plotly_source(const std::string& path) {
  constexpr std::uint64_t kLimit = 64u << 20;
  if (!path.empty()) return read_file(path, kLimit);
  constexpr std::array<const char*, 5> kPlaces = {
      "/usr/share/python3-plotly/plotly.js",
      "/usr/lib/python3/dist-packages/plotly/package_data/plotly.min.js",
      "/usr/share/python3-plotly/plotly.min.js", "/usr/share/javascript/plotly/plotly.min.js",
      "/usr/local/lib/python3/dist-packages/plotly/package_data/plotly.min.js"};
  std::string searched;
  for (const char* place : kPlaces) {
    std::error_code ignored;
    if (std::filesystem::is_regular_file(place, ignored)) return read_file(place, kLimit);
    searched += searched.empty() ? place : std::string(", ") + place;
  }
  throw usage_error({}, "plotly.js was not found (searched " + searched + ")",
                    "the package python3-plotly, whose plotly.js is written into the report",
                    "apt-get install python3-plotly, or name the file with --plotly FILE");
}

}  // namespace stoat::sim
