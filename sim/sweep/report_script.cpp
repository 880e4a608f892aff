// The page's own script. See report_style.h.
#include "sim/sweep/report_style.h"

namespace stoat::sim {

std::string_view report_script() {
  return R"js(
(function () {
  'use strict';
  var root = document.documentElement;
  // "@name" or "@name/alpha" in a colour of a figure is a custom property of the style sheet.
  function lookUp(text) {
    var parts = text.slice(1).split('/');
    var value = getComputedStyle(root).getPropertyValue('--' + parts[0]).trim();
    if (parts.length < 2 || value.length !== 7) return value;
    var n = parseInt(value.slice(1), 16);
    return 'rgba(' + (n >> 16) + ',' + ((n >> 8) & 255) + ',' + (n & 255) + ',' + parts[1] + ')';
  }
  function paint(value, isColour) {
    if (typeof value === 'string') return isColour && value[0] === '@' ? lookUp(value) : value;
    if (Array.isArray(value)) {
      if (typeof value[0] === 'number' && typeof value[1] !== 'string') return value;
      return isColour ? value.map(function (v) { return paint(v, true); })
                      : value.map(function (v) { return v && typeof v === 'object' ? paint(v, false) : v; });
    }
    if (value && typeof value === 'object') {
      var out = {};
      Object.keys(value).forEach(function (key) { out[key] = paint(value[key], /color(scale)?$/.test(key)); });
      return out;
    }
    return value;
  }
  function json(id) {
    var node = document.getElementById(id);
    return node && JSON.parse(node.textContent);
  }
  var shared = null;
  function sharedData() { return shared || (shared = json('shared') || { columns: [], csv: {}, rows: null }); }
  function columnsOf(about) {
    return about.columns.map(function (n) { return sharedData().columns[n].split('\n'); });
  }

  // plotly.js is megabytes of text until the first figure comes into sight.
  function plotly() {
    if (!window.Plotly) {
      var script = document.createElement('script');
      script.textContent = document.getElementById('plotly').textContent;
      document.head.append(script);
    }
    return window.Plotly;
  }

  // Clouds: one path a series instead of an element a dot. plotly keeps axes, legend and hovering.
  var kCloud = 400;
  function stamp(symbol, r) {
    var d = 2 * r, e = r * 0.9, t = r / 2.5;
    switch (symbol) {
      case 'square': return 'm' + -e + ',' + -e + 'h' + 2 * e + 'v' + 2 * e + 'h' + -2 * e + 'z';
      case 'diamond': return 'm0,' + -1.3 * r + 'l' + 1.3 * r + ',' + 1.3 * r + 'l' + -1.3 * r + ',' + 1.3 * r + 'l' + -1.3 * r + ',' + -1.3 * r + 'z';
      case 'triangle-up': return 'm0,' + -1.2 * r + 'l' + 1.15 * r + ',' + d + 'h' + -2.3 * r + 'z';
      case 'triangle-down': return 'm0,' + 1.2 * r + 'l' + 1.15 * r + ',' + -d + 'h' + -2.3 * r + 'z';
      case 'cross': return 'm' + -t + ',' + -r + 'h' + 2 * t + 'v' + (r - t) + 'h' + (r - t) + 'v' + 2 * t + 'h' + (t - r) + 'v' + (r - t) +
          'h' + -2 * t + 'v' + (t - r) + 'h' + (t - r) + 'v' + -2 * t + 'h' + (r - t) + 'z';
      case 'x': return 'm' + -r + ',' + -r + 'h' + 2 * t + 'l' + (r - 2 * t) + ',' + r + 'l' + (r - 2 * t) + ',' + -r + 'h' + 2 * t + 'l' + (t - r) + ',' + r +
          'l' + (r - t) + ',' + r + 'h' + -2 * t + 'l' + (2 * t - r) + ',' + -r + 'l' + (2 * t - r) + ',' + r + 'h' + -2 * t + 'l' + (r - t) + ',' + -r + 'z';
      case 'star': return 'm0,' + -1.4 * r + 'l' + 0.4 * r + ',' + r + 'l' + r + ',' + 0.4 * r + 'l' + -r + ',' + 0.4 * r + 'l' + -0.4 * r + ',' + r +
          'l' + -0.4 * r + ',' + -r + 'l' + -r + ',' + -0.4 * r + 'l' + r + ',' + -0.4 * r + 'z';
      default: return 'm' + -r + ',0a' + r + ',' + r + ' 0 1,0 ' + d + ',0a' + r + ',' + r + ' 0 1,0 ' + -d + ',0z';
    }
  }
  // plotly leaves no room for dots that it does not draw.
  function setRange(spec, letter, name) {
    var axis = spec.layout[letter + 'axis' + name.slice(1)], low = Infinity, high = -Infinity;
    if (!axis || axis.range || axis.autorange === 'reversed' || axis.type === 'category') return;
    spec.data.forEach(function (s) {
      if ((s[letter + 'axis'] || letter) !== name) return;
      s[letter].forEach(function (v) {
        var at = v === null ? NaN : axis.type === 'log' ? Math.log10(v) : v;
        if (isFinite(at)) { low = Math.min(low, at); high = Math.max(high, at); }
      });
    });
    var room = (high - low) * 0.04 || 0.05;
    if (high >= low) axis.range = [low - room, high + room];
  }
  function thinClouds(spec) {
    var keys = [];
    spec.data.forEach(function (s) {
      if (s.type !== 'scatter' || s.mode !== 'markers' || s.x.length <= kCloud) return;
      var key = { type: 'scatter', mode: 'markers', x: [null], y: [null], name: s.name, hoverinfo: 'skip', legendgroup: s.name,
                  marker: Object.assign({}, s.marker, { opacity: 1, size: 8 }), xaxis: s.xaxis || 'x', yaxis: s.yaxis || 'y' };
      setRange(spec, 'x', key.xaxis);
      setRange(spec, 'y', key.yaxis);
      s.cloud = s.marker;
      s.mode = 'none';
      s.showlegend = false;
      s.legendgroup = s.name;
      keys.push(key);
    });
    spec.clouds = spec.data.map(function (s) { var c = s.cloud; delete s.cloud; return c; });
    spec.data = spec.data.concat(keys);
  }
  function drawClouds(figure) {
    var node = figure.node, full = node._fullLayout, clouds = figure.clouds;
    if (!full || !clouds || !clouds.some(Boolean)) return;
    node.querySelectorAll('.cloud').forEach(function (old) { old.remove(); });
    node._fullData.forEach(function (trace, i) {
      var look = clouds[i];
      if (!look || trace.visible !== true) return;
      var place = full._plots[trace.xaxis + trace.yaxis];
      var xa = place.xaxis, ya = place.yaxis, dot = stamp(look.symbol, 3.4), d = [];
      for (var k = 0; k < trace.x.length; ++k) {
        var x = xa.d2p(trace.x[k]), y = ya.d2p(trace.y[k]);
        if (isFinite(x) && isFinite(y)) d.push('M' + x.toFixed(1) + ',' + y.toFixed(1) + dot);
      }
      var path = document.createElementNS('http://www.w3.org/2000/svg', 'path');
      path.setAttribute('class', 'cloud');
      path.setAttribute('d', d.join(''));
      path.setAttribute('fill', look.color);
      path.setAttribute('fill-opacity', 0.8);
      place.plot.node().prepend(path);
    });
  }

  var figures = Array.prototype.map.call(document.querySelectorAll('div.plot[id]'), function (node) {
    return { node: node, drawn: false };
  });
  // Parallel coordinates as plain lines, for paper and where there is no WebGL: five shades.
  var webgl = null;
  function hasWebgl() {
    if (webgl === null) webgl = !!document.createElement('canvas').getContext('webgl');
    return webgl;
  }
  function flatParallel(spec) {
    var from = spec.data[0], ink = lookUp('@ink'), shades = from.line.colorscale, traces = [], notes = [];
    var values = from.line.color, low = Math.min.apply(null, values), high = Math.max.apply(null, values);
    var axes = from.dimensions.map(function (d, n) {
      var least = Math.min.apply(null, d.values), most = Math.max.apply(null, d.values), span = most - least || 1;
      var ticks = d.tickvals && d.tickvals.length <= 14 ? d.tickvals : [least, most];
      ticks.forEach(function (v, i) {
        notes.push({ x: n, y: (v - least) / span, text: ' ' + (ticks === d.tickvals ? d.ticktext[i] : +v.toPrecision(3)), showarrow: false,
                     xanchor: 'left', font: { size: 9, color: ink } });
      });
      return d.values.map(function (v) { return (v - least) / span; });
    });
    for (var k = 0; k < 5; ++k) traces.push({ type: 'scatter', mode: 'lines', x: [], y: [], hoverinfo: 'skip', showlegend: false,
                                              line: { width: 0.7, color: shades[Math.min(k, shades.length - 1)][1] } });
    values.forEach(function (v, i) {
      var t = traces[Math.min(4, Math.floor(5 * (v - low) / (high - low || 1)))];
      axes.forEach(function (axis, n) { t.x.push(n); t.y.push(axis[i]); });
      t.x.push(null);
      t.y.push(null);
    });
    spec.data = traces;
    spec.layout.annotations = notes;
    spec.layout.margin = { l: 8, r: 60, t: 8, b: 8 };
    spec.layout.xaxis = { tickvals: axes.map(function (_, n) { return n; }), ticktext: from.dimensions.map(function (d) { return d.label; }),
                          automargin: true, gridcolor: lookUp('@muted'), zeroline: false, fixedrange: true };
    spec.layout.yaxis = { visible: false, range: [-0.04, 1.04], fixedrange: true };
  }
  function draw(figure, width) {
    var spec = paint(JSON.parse(document.getElementById(figure.node.id + '-data').textContent), false);
    var room = width || figure.node.clientWidth;
    var parallel = spec.data[0].type === 'parcoords';
    if (width) {
      spec.layout.width = width;
      // Two on a sheet of paper, where nothing is listed line by line and the legend is short.
      var listed = spec.data.filter(function (s) { return s.name && s.showlegend !== false; }).length;
      if (spec.layout.height <= 440 && !spec.layout.xaxis2 && listed <= 8) spec.layout.height = Math.min(spec.layout.height, 320);
    }
    if (room < 560) {  // narrow: smaller text, fewer ticks, a plain colour bar
      spec.layout.font.size = 11;
      spec.data.forEach(function (s) {
        if (s.colorbar) { s.colorbar.title.text = ''; s.colorbar.thickness = 8; }
        if (parallel) { s.labelangle = -30; s.labelfont.size = 9; }
      });
      (spec.layout.annotations || []).forEach(function (note) { note.text = note.text.replace(/, [^,]* a row$/, ''); });
      Object.keys(spec.layout).forEach(function (key) {
        if (/^xaxis/.test(key) && !spec.layout[key].tickvals) spec.layout[key].nticks = 5;
      });
    }
    if (parallel && (width || !hasWebgl())) flatParallel(spec);
    thinClouds(spec);
    figure.clouds = spec.clouds;
    figure.drawn = true;
    return plotly().react(figure.node, spec.data, spec.layout, { displayModeBar: false, responsive: !width, showTips: false })
      .then(function () {
        listen(figure);
        drawClouds(figure);
        figure.node.setAttribute('data-drawn', '');
      });
  }
  // One after the other, so that the page answers in between.
  var queue = [], busy = false;
  function pump() {
    if (busy || !queue.length) return;
    busy = true;
    requestAnimationFrame(function () {
      setTimeout(function () {
        var figure = queue.shift();
        new Promise(function (done) { done(figure && !figure.drawn ? draw(figure) : null); })
          .catch(function (error) { console.error(error); })  // the others are drawn nevertheless
          .then(function () {
            busy = false;
            pump();
          });
      }, 0);
    });
  }
  function redraw() {
    figures.forEach(function (figure) { if (figure.drawn) draw(figure); });
  }

  // The whole configuration of a point that is clicked.
  function unquote(cell) {
    return cell && cell[0] === '"' ? cell.slice(1, -1).replace(/""/g, '"') : cell;
  }
  function listen(figure) {
    var box = document.getElementById('picked-' + figure.node.id.slice(5));
    if (figure.listens) return;
    figure.listens = true;
    figure.node.on('plotly_afterplot', function () { drawClouds(figure); });
    if (!box) return;
    figure.node.on('plotly_click', function (event) {
      var row = event.points[0].customdata, table = sharedData().rows;
      if (typeof row !== 'number' || !table) return;
      var columns = columnsOf(table);
      var list = document.createElement('dl');
      table.names.forEach(function (name, i) {
        var item = document.createElement('div'), key = document.createElement('dt'), value = document.createElement('dd');
        key.textContent = name;
        value.textContent = unquote(columns[i][row]) || '-';
        item.append(key, value);
        list.append(item);
      });
      box.replaceChildren(list);
      box.hidden = false;
    });
  }
  // A long CSV is put together when it is asked for.
  document.querySelectorAll('a[data-csv]').forEach(function (link) {
    link.addEventListener('click', function () {
      if (link.href.slice(0, 5) === 'blob:') return;
      var about = sharedData().csv[link.getAttribute('data-csv')], columns = columnsOf(about), lines = [about.head];
      for (var i = 0; i + 1 < columns[0].length; ++i) lines.push(columns.map(function (c) { return c[i]; }).join(','));
      link.href = URL.createObjectURL(new Blob([lines.join('\n') + '\n'], { type: 'text/csv' }));
    });
  });

  if ('IntersectionObserver' in window) {
    var watcher = new IntersectionObserver(function (entries) {
      entries.forEach(function (entry) {
        if (!entry.isIntersecting) return;
        watcher.unobserve(entry.target);
        queue.push(figures.filter(function (f) { return f.node === entry.target; })[0]);
      });
      pump();
    }, { rootMargin: '300px' });
    figures.forEach(function (f) { watcher.observe(f.node); });
  } else {
    queue = figures.slice();
    pump();
  }
  var narrow = window.innerWidth < 620;
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', redraw);
  window.addEventListener('resize', function () {
    if ((window.innerWidth < 620) !== narrow) { narrow = !narrow; redraw(); }
  });
  var opened = [];
  window.addEventListener('beforeprint', function () {
    root.classList.add('printing');
    opened = Array.prototype.filter.call(document.querySelectorAll('details'), function (d) { return !d.open; });
    opened.forEach(function (d) { d.open = true; });
    figures.forEach(function (figure) { draw(figure, 670); });
  });
  window.addEventListener('afterprint', function () {
    root.classList.remove('printing');
    opened.forEach(function (d) { d.open = false; });
    redraw();
  });
})();
)js";
}

}  // namespace stoat::sim
