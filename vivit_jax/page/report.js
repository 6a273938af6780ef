"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const hidden = new Set();
  const look = { smoothing: 0, logarithmic: false };
  const tip = document.body.appendChild(document.createElement("div"));
  tip.id = "tip";
  tip.hidden = true;

  // Makes an element of SVG.
  function svg(name, attributes = {}, parent = null, text = null) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    if (parent) parent.appendChild(made);
    return made;
  }

  function tell(event, lines) {
    tip.replaceChildren();
    for (const [swatch, text] of lines) {
      const line = tip.appendChild(document.createElement("div"));
      if (swatch !== null) line.appendChild(document.createElement("i")).className = "swatch " + swatch;
      line.append(text);
    }
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    const right = event.clientX + 16 + box.width > innerWidth;
    tip.style.left = `${right ? event.clientX - 16 - box.width : event.clientX + 16}px`;
    tip.style.top = `${Math.max(4, Math.min(event.clientY + 12, innerHeight - box.height - 4))}px`;
  }
  const untell = () => { tip.hidden = true; };

  function number(value) {
    if (value === null) return "no number";
    const size = Math.abs(value);
    if (size && (size < 1e-3 || size >= 1e5)) return value.toExponential(2);
    return String(Number(value.toPrecision(4)));
  }

  // Round numbers between two, about so many.
  function ticks(low, high, count) {
    if (!(high > low)) return [low];
    const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 5, 10].map(x => x * power).find(x => x >= rough);
    const made = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) made.push(i * step);
    return made;
  }

  // The exponential moving average, without the pull of a beginning at 0.
  function smoothed(values, share) {
    let sum = 0, weight = 0;
    return values.map(value => {
      if (value === null) return null;
      sum = share * sum + (1 - share) * value;
      weight = share * weight + (1 - share);
      return sum / weight;
    });
  }

  function path(xs, ys, px, py, logarithmic) {
    let made = "", gap = true;
    ys.forEach((y, i) => {
      if (y === null || (logarithmic && y <= 0)) { gap = true; return; }
      made += `${gap ? "M" : "L"}${px(xs[i]).toFixed(1)} ${py(y).toFixed(1)}`;
      gap = false;
    });
    return made;
  }

  function drawChart(figure) {
    const chart = data.charts[Number(figure.dataset.chart)];
    const W = 420, H = 230, L = 52, R = 18, T = 10, B = 26;
    figure.querySelector("svg")?.remove();
    const made = svg("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": chart.title }, figure);
    const lines = chart.lines.filter(line => !hidden.has(line.run));
    const xs = lines.flatMap(line => line.x);
    let ys = lines.flatMap(line => line.y).filter(y => y !== null);
    const logarithmic = look.logarithmic && ys.some(y => y > 0);
    if (logarithmic) ys = ys.filter(y => y > 0);
    if (!ys.length) {
      svg("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, made, "no numbers");
      return;
    }
    const f = logarithmic ? Math.log10 : y => y;
    let low = f(ys.reduce((a, b) => Math.min(a, b))), high = f(ys.reduce((a, b) => Math.max(a, b)));
    const spare = high > low ? 0.06 * (high - low) : 0.1 * Math.abs(high) || 1;
    const zero = !logarithmic && low >= 0 && low < 0.35 * high;
    low = zero ? 0 : low - spare;
    high += spare;
    let first = xs.reduce((a, b) => Math.min(a, b)), last = xs.reduce((a, b) => Math.max(a, b));
    if (first === last) { first -= 1; last += 1; }
    const px = x => L + (W - L - R) * (x - first) / (last - first);
    const py = y => T + (H - T - B) * (1 - (f(y) - low) / (high - low));
    const marks = logarithmic ? logTicks(low, high) : ticks(low, high, 4);
    for (const y of marks) {
      svg("line", { class: "grid", x1: L, x2: W - R, y1: py(y), y2: py(y) }, made);
      svg("text", { x: L - 7, y: py(y) + 4, "text-anchor": "end" }, made, number(y));
    }
    for (const x of ticks(first, last, 5).filter(Number.isInteger)) {
      svg("text", { x: px(x), y: H - 8, "text-anchor": "middle" }, made, x.toLocaleString("en"));
    }
    svg("line", { class: "axis", x1: L, x2: W - R, y1: H - B, y2: H - B }, made);
    // Curves stay in their frame, with room for dots at its edges.
    const frame = { x: L - 6, y: 0, width: W - L - R + 12, height: H - B + 6 };
    const inside = svg("svg", { ...frame, viewBox: Object.values(frame).join(" ") }, made);
    for (const line of lines) {
      const kind = `run${line.run % 8}${line.run > 7 ? " again" : ""}`;
      if (line.kind === "line" && line.x.length > 1) {
        let { x, y } = line;
        if (look.smoothing > 0) {
          svg("path", { class: `raw ${kind}`, d: path(x, y, px, py, logarithmic) }, inside);
          ({ x, y } = line.means || line);  // a thinned line is of extremes
          y = smoothed(y, look.smoothing);
        }
        svg("path", { class: `curve ${kind}`, d: path(x, y, px, py, logarithmic) }, inside);
        continue;
      }
      svg("path", { class: `thread ${kind}`, d: path(line.x, line.y, px, py, logarithmic) }, inside);
      line.y.forEach((y, i) => {
        if (y === null || (logarithmic && y <= 0)) return;
        const dot = line.kind === "dots" ? "dot" : "lone";
        svg("circle", { class: `${dot} ${kind}`, cx: px(line.x[i]), cy: py(y), r: 4 }, inside);
      });
    }
    hover(made, lines, W, L, R, T, H - B, first, last, px);
  }

  function logTicks(low, high) {
    const made = [];
    for (let power = Math.floor(low); power <= high; power++) {
      for (const digit of high - low < 1.5 ? [1, 2, 5] : [1]) {
        const place = Math.log10(digit) + power;
        if (place >= low && place <= high) made.push(digit * 10 ** power);
      }
    }
    return made.length > 1 ? made : ticks(10 ** low, 10 ** high, 4).filter(y => y > 0);
  }

  function hover(made, lines, W, L, R, T, bottom, first, last, px) {
    const cursor = svg("line", { class: "cursor", y1: T, y2: bottom, visibility: "hidden" }, made);
    made.addEventListener("pointermove", event => {
      const box = made.getBoundingClientRect();
      const at = (event.clientX - box.left) / box.width * W;
      const x = first + (at - L) / (W - L - R) * (last - first);
      const found = lines.filter(line => line.x.length).map(line => [line, nearest(line.x, x)]);
      if (!found.length) return;
      const [line, i] = found.reduce((a, b) =>
        Math.abs(b[0].x[b[1]] - x) < Math.abs(a[0].x[a[1]] - x) ? b : a);
      const step = line.x[i];
      cursor.setAttribute("x1", px(step));
      cursor.setAttribute("x2", px(step));
      cursor.setAttribute("visibility", "visible");
      tell(event, [[null, `step ${step.toLocaleString("en")}`], ...found.map(([line, i]) => [
        `run${line.run % 8}`,
        `${number(line.y[i])}${line.kind === "dots" ? " judged" : ""}` +
          (line.x[i] === step ? "" : ` at ${line.x[i].toLocaleString("en")}`) +
          (data.runs.length > 1 ? `  ${data.runs[line.run]}` : ""),
      ])]);
    });
    made.addEventListener("pointerleave", () => {
      cursor.setAttribute("visibility", "hidden");
      untell();
    });
  }

  // The place in rising numbers of the one that is nearest to another.
  function nearest(xs, x) {
    let low = 0, high = xs.length - 1;
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (xs[middle] < x) low = middle; else high = middle;
    }
    return Math.abs(xs[low] - x) <= Math.abs(xs[high] - x) ? low : high;
  }

  function drawMatrix(figure) {
    const matrix = data.matrices[Number(figure.dataset.run)][Number(figure.dataset.head)];
    const names = matrix.names, K = names.length;
    const most = names.reduce((a, b) => Math.max(a, b.length), 0);
    const side = 560, named = K <= 40, cell = side / K;
    const short = name => name.length > 18 ? name.slice(0, 17) + "…" : name;
    const L = named ? 30 + 6.4 * Math.min(18, most) : 26, B = named ? 26 + 5.8 * Math.min(18, most) : 26;
    const made = svg("svg", { viewBox: `0 0 ${L + side + 4} ${side + B + 4}`, role: "img",
      "aria-label": "confusion matrix" }, figure);
    svg("rect", { class: "empty", x: L, y: 0, width: side, height: side }, made);
    const sums = new Array(K).fill(0), counts = new Map();
    for (const [i, j, n] of matrix.cells) { sums[i] += n; counts.set(i * K + j, n); }
    for (const [i, j, n] of matrix.cells) {
      const share = n / sums[i], gap = cell > 6 ? 0.5 : 0;
      // By the root, for rare confusions to be seen; what is right is blue.
      const fill = `var(--run${i === j ? 0 : 1})`;
      svg("rect", { class: "cell", x: L + j * cell + gap, y: i * cell + gap, fill,
        width: cell - 2 * gap, height: cell - 2 * gap, "fill-opacity": 0.08 + 0.92 * Math.sqrt(share) },
        made);
      if (cell > 22) {
        const light = share > 0.3 ? " light" : "";
        svg("text", { class: "count" + light, x: L + (j + .5) * cell, y: (i + .5) * cell + 4,
          "text-anchor": "middle" }, made, n);
      }
    }
    if (named) names.forEach((name, i) => {
      const middle = (i + .5) * cell, size = Math.min(12, Math.max(8, cell - 2));
      const label = svg("text", { x: L - 6, y: middle + 4, "text-anchor": "end" }, made, short(name));
      const below = svg("text", { "text-anchor": "end",
        transform: `translate(${L + middle + 4} ${side + 8}) rotate(-60)` }, made, short(name));
      label.style.fontSize = below.style.fontSize = `${size}px`;
    });
    svg("text", { transform: `translate(12 ${side / 2}) rotate(-90)`, "text-anchor": "middle" },
      made, "true");
    svg("text", { x: L + side / 2, y: side + B, "text-anchor": "middle" }, made, "predicted");
    made.addEventListener("pointermove", event => {
      const box = made.getBoundingClientRect(), scale = (L + side + 4) / box.width;
      const j = Math.floor(((event.clientX - box.left) * scale - L) / cell);
      const i = Math.floor((event.clientY - box.top) * scale / cell);
      if (i < 0 || j < 0 || i >= K || j >= K) { untell(); return; }
      const n = counts.get(i * K + j) || 0;
      const share = sums[i] ? ` (${(100 * n / sums[i]).toFixed(1)} %)` : "";
      tell(event, [[null, `true: ${names[i]}`], [null, `predicted: ${names[j]}`],
        [null, `${n} of ${sums[i]} videos${share}`]]);
    });
    made.addEventListener("pointerleave", untell);
  }

  function sortable(table) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.tabIndex = 0;
      const sort = () => {
        const rows = [...body.rows], cells = rows.map(row => row.cells[column]);
        const numeric = cells.some(cell => cell.dataset.v);
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numeric;
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const value = row => {
          const cell = row.cells[column];
          return numeric ? (cell.dataset.v ? Number(cell.dataset.v) : null) : cell.textContent;
        };
        rows.sort((a, b) => {
          const x = value(a), y = value(b);
          if (x === null || y === null) return (x === null) - (y === null);
          const order = numeric ? x - y : x.localeCompare(y);
          return down ? -order : order;
        });
        body.append(...rows);
      };
      head.addEventListener("click", sort);
      head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
    });
  }

  const charts = [...document.querySelectorAll("[data-chart]")];
  const redraw = () => charts.forEach(drawChart);
  const legend = document.getElementById("legend");
  if (legend && data.runs.length > 1) data.runs.forEach((name, run) => {
    const button = legend.appendChild(document.createElement("button"));
    button.appendChild(document.createElement("i")).className = `swatch run${run % 8}`;
    button.append(name);
    button.addEventListener("click", () => {
      if (!hidden.delete(run)) hidden.add(run);
      button.classList.toggle("off", hidden.has(run));
      redraw();
    });
  });
  document.getElementById("smoothing")?.addEventListener("input", event => {
    look.smoothing = Number(event.target.value);
    redraw();
  });
  document.getElementById("logarithmic")?.addEventListener("change", event => {
    look.logarithmic = event.target.checked;
    redraw();
  });
  redraw();
  document.querySelectorAll(".matrix").forEach(drawMatrix);
  document.querySelectorAll("table.sortable").forEach(sortable);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  document.querySelectorAll("video").forEach(video => {
    if (still) { video.autoplay = false; video.pause(); }
    video.addEventListener("click", () => video.paused ? video.play() : video.pause());
  });
  document.body.dataset.drawn = "yes";
})();
