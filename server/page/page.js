/* The page at the stats port: asks for stats.json every two seconds, and shows figures, what is wrong and what to do about it, and charts of
 * the last five minutes. Nothing is loaded from elsewhere. */
"use strict";

const PERIOD_MS = 2000;
const POINTS = 150;
const element = id => document.getElementById(id);
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/* --- numbers for people --- */

const whole = value => Math.round(value).toLocaleString("en");
const bytes = value => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; value >= 1024 && unit < units.length - 1; unit++) value /= 1024;
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
};
const milliseconds = value => `${(value * 1000).toLocaleString("en", {maximumSignificantDigits: 3})} ms`;
const percent = value => `${Math.round(value * 100)} %`;
const span = seconds => seconds < 120 ? `${Math.round(seconds)} s` : seconds < 7200 ? `${Math.round(seconds / 60)} min`
  : seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} days`;

/* --- what came between two looks; a server that was started anew begins at 0 --- */

const sum = object => Object.values(object).reduce((a, b) => a + b, 0);
const rate = (now, before, seconds) => Math.max(0, now - before) / seconds;

/* Below which so much of the histogram lies: the bound of its place. */
function quantile(now, before, share) {
  const counts = now.counts.map((count, i) => Math.max(0, count - before.counts[i]));
  const all = counts.reduce((a, b) => a + b, 0);
  let below = 0;
  for (let i = 0; i < now.bounds.length && all > 0; i++) {
    below += counts[i];
    if (below >= all * share) return now.bounds[i];
  }
  return all > 0 ? now.bounds[now.bounds.length - 1] : 0;
}

function derive(now, before, seconds) {
  const rates = {};
  for (const answer of Object.keys(now.lookups)) rates[answer] = rate(now.lookups[answer], before.lookups[answer], seconds);
  const busy = now.worker_busy_seconds.map((value, i) => rate(value, before.worker_busy_seconds[i] ?? 0, seconds));
  return {
    rates, busy, lookups: sum(rates), wait: quantile(now.waits, before.waits, 0.99),
    p50: quantile(now.turns, before.turns, 0.5), p99: quantile(now.turns, before.turns, 0.99),
    updates: rate(sum(now.updates), sum(before.updates), seconds), lost: now.query_log.lost - before.query_log.lost,
    refused: rate(sum(now.connections_refused), sum(before.connections_refused), seconds),
  };
}

/* --- tiles: name, raw value (as in stats.json), text, and a sentence if it is wrong --- */

function tiles(now, d) {
  const log = now.query_log, journal = now.journal ?? {}, age = Date.now() / 1000 - now.snapshot.written_at_ms / 1000;
  const days = now.certificate_ends_at === null ? null : (now.certificate_ends_at - Date.now() / 1000) / 86400;
  const list = [
    ["ready", "State", now.ready, now.ready ? "ready" : now.loading_percent !== null ? `loading, ${now.loading_percent} %` : "not ready",
      !now.ready && now.loading_percent === null && "It cannot log what it answers: the query log is full. Make room on its disk, or see that Redis takes it."],
    ["registered", "Registered numbers", now.directory.registered, whole(now.directory.registered)],
    ["lookups", "Lookups a second", d.lookups, whole(d.lookups)],
    ["wait", "What arrives waits, p99", d.wait, d.wait > 0 ? `≤ ${milliseconds(d.wait)}` : "–"],
    ["latency", "A turn takes, p99", d.p99, d.p99 > 0 ? `≤ ${milliseconds(d.p99)}` : "–"],
    ["busy", "Workers busy", d.busy, d.busy.map(percent).join(", ")],
    ["connections", "Connections", now.connections_open, whole(now.connections_open)],
    ["limited", "Numbers LIMITED", now.lookups.limited, whole(now.lookups.limited)],
    ["refused", "Connections refused a second", d.refused, whole(d.refused)],
    ["journal", "Registrations are", journal.read_only, journal.read_only ? "read-only" : now.journal === null ? "loading" : "taken",
      journal.read_only && "The journal cannot be written. Mend the disk or make room, then run numberctl snapshot. Lookups go on."],
    ["snapshot", "Snapshot", now.snapshot.written_at_ms, now.snapshot.written_at_ms ? `${span(age)} old` : "none yet",
      now.snapshot.good_number < now.snapshot.number && "The last snapshot failed: the log says why. The journal keeps all changes meanwhile."],
    ["stored", "Query events stored", log.stored, whole(log.stored)],
    ["in_flight", "Query events in flight", log.in_flight, whole(log.in_flight)],
    ["lost", "Query events lost", log.lost, whole(log.lost),
      d.lost > 0 && "Query events are being lost: the log's disk, or query-log-bytes, is full. Make room."],
    ["erasure", "Kept beyond its time", log.erasure_lag_seconds, log.erasure_lag_seconds > 0 ? span(log.erasure_lag_seconds) : "nothing",
      log.erasure_lag_seconds > 0 && "The query log is not erased in time: see that the data directory can be written and the clock is right."],
    ["memory", "Memory", now.resident_bytes, bytes(now.resident_bytes)],
    ["uptime", "Up for", now.uptime_seconds, span(now.uptime_seconds)],
  ];
  if (log.redis !== "not used")
    list.push(["redis", "Redis", log.redis, log.redis,
      log.redis === "away" ? "Redis does not take the query log: see that it runs and is reachable. Events wait in the data directory."
        : log.redis_may_evict ? "Redis may evict the query log before its time: set its maxmemory-policy to noeviction."
        : log.redis_persists_nothing && "A restart of Redis loses the query log: set appendonly yes, or save."]);
  if (days !== null)
    list.push(["certificate", "Certificate ends in", now.certificate_ends_at, days > 0 ? span(days * 86400) : "it has ended",
      days < 14 && "Put a new certificate in its place, then systemctl reload numberd."]);
  return list;
}

function showTiles(list) {
  const kept = new Set();
  for (const [name, title, value, text, wrong] of list) {
    let tile = element(`tile-${name}`);
    if (tile === null) {
      tile = document.createElement("div");
      tile.id = `tile-${name}`;
      tile.append(document.createElement("dt"), document.createElement("dd"));
      tile.firstChild.textContent = title;
      element("tiles").append(tile);
    }
    tile.dataset.value = JSON.stringify(value);
    tile.lastChild.textContent = text;
    tile.classList.toggle("wrong", Boolean(wrong));
    kept.add(tile.id);
  }
  for (const tile of [...element("tiles").children]) if (!kept.has(tile.id)) tile.remove();
  complain(list.filter(tile => tile[4]).map(tile => `${tile[1]}: ${tile[3]}. ${tile[4]}`));
}

/* Only what is new is put there, so that a screen reader does not begin again every two seconds. */
function complain(sentences) {
  const list = element("complaints");
  if (JSON.stringify([...list.children].map(item => item.textContent)) === JSON.stringify(sentences)) return;
  list.replaceChildren(...sentences.map(sentence => Object.assign(document.createElement("li"), {textContent: sentence})));
}

/* --- charts --- */

const charts = [];

/* `max`: what the scale always goes up to. */
function addChart(title, series, format, max) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const box = document.createElement("div"), canvas = document.createElement("canvas");
  caption.textContent = title;
  canvas.setAttribute("role", "img");
  box.append(canvas);
  figure.append(caption, box);
  element("charts").append(figure);
  const datasets = series.map(([label], i) => ({
    label, data: Array(POINTS).fill(null), borderColor: style(`--series-${i}`), backgroundColor: style(`--series-${i}`), borderWidth: 1.5, pointRadius: 0,
  }));
  const ticks = {color: style("--dim"), maxTicksLimit: 5, callback: format, ...(format === whole && {precision: 0})};
  const scale = {suggestedMax: max, ticks, grid: {color: style("--line")}, beginAtZero: true};
  const chart = new Chart(canvas, {
    type: "line", data: {labels: Array(POINTS).fill(""), datasets},
    options: {animation: false, maintainAspectRatio: false, interaction: {mode: "index", intersect: false},
      plugins: {legend: {display: series.length > 1, labels: {color: style("--text"), boxWidth: 12}},
        tooltip: {callbacks: {label: item => `${item.dataset.label}: ${format(item.parsed.y)}`}}},
      scales: {x: {display: false}, y: scale}},
  });
  charts.push({title, series, format, chart, canvas});
}

function recolour() {
  for (const {chart} of charts) {
    chart.data.datasets.forEach((dataset, i) => dataset.borderColor = dataset.backgroundColor = style(`--series-${i}`));
    Object.assign(chart.options.scales.y.ticks, {color: style("--dim")});
    Object.assign(chart.options.scales.y.grid, {color: style("--line")});
    chart.options.plugins.legend.labels.color = style("--text");
    chart.update("none");
  }
}

function makeCharts() {
  addChart("Lookups a second", [["registered", d => d.rates.registered], ["not registered", d => d.rates.not_registered],
    ["invalid", d => d.rates.invalid], ["limited", d => d.rates.limited]], whole);
  addChart("Times, at most", [["wait p99", d => d.wait], ["turn p50", d => d.p50], ["turn p99", d => d.p99]], milliseconds);
  addChart("Workers busy", [["mean", d => d.busy.reduce((a, b) => a + b, 0) / Math.max(1, d.busy.length)]], percent, 1);
  addChart("Memory", [["resident", (d, now) => now.resident_bytes], ["tables", (d, now) => now.directory.bytes]], bytes);
  addChart("Query events in flight", [["in flight", (d, now) => now.query_log.in_flight]], whole);
  addChart("Registrations changed a second", [["changes", d => d.updates]], whole);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
}

function push(now, d) {
  for (const {title, series, format, chart, canvas} of charts) {
    series.forEach(([, of], i) => {
      chart.data.datasets[i].data.shift();
      chart.data.datasets[i].data.push(of(d, now));
    });
    chart.update("none");
    canvas.setAttribute("aria-label", `${title}: ${series.map(([label, of]) => `${label} ${format(of(d, now))}`).join(", ")}`);
  }
}

/* --- the loop --- */

let before = null, beforeMs = 0;

function setState(text, wrong) {
  element("state").textContent = text;
  element("state").classList.toggle("wrong", wrong);
}

async function look() {
  try {
    const answer = await fetch("stats.json", {cache: "no-store", signal: AbortSignal.timeout(4000)});
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const now = await answer.json(), nowMs = performance.now();
    const isNew = before === null || now.uptime_seconds < before.uptime_seconds;
    const d = derive(now, isNew ? now : before, Math.max(0.1, (nowMs - beforeMs) / 1000));
    element("version").textContent = now.version;
    const list = tiles(now, d);
    showTiles(list);
    setState(list.some(tile => tile[4]) ? "something is wrong" : now.ready ? "all is well" : "loading", list.some(tile => tile[4]));
    if (!isNew) push(now, d);
    [before, beforeMs] = [now, nowMs];
  } catch (error) {
    setState("no answer", true);
    complain([`numberd does not answer (${error.message}): see whether it runs (systemctl status numberd). The figures are the last ones.`]);
  }
  setTimeout(look, PERIOD_MS);
}

makeCharts();
look();
