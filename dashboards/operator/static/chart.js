// One chart: the readings of a datastream, its thresholds as lines and bands, and doubtful readings marked.

import uPlot from "../web/vendor/uplot/uPlot.js";
import { currentLanguage, number } from "../web/language.js";
import { clockText, dayText, momentText, valueText } from "./format.js";
import { model, now } from "./model.js";
import { NAMES } from "./shapes.js";

const SUSPECT = 3;
const FAIL = 4;
const MISSING = 9;

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function withAlpha(hex, alpha) {
  const n = parseInt(hex.slice(1), 16);
  return `rgba(${n >> 16}, ${(n >> 8) & 255}, ${n & 255}, ${alpha})`;
}

/** The span of the y axis: all readings, and as many thresholds as fit without flattening them. */
export function valueSpan(values, stream) {
  const good = values.filter((v) => v !== null && Number.isFinite(v));
  let low = good.length ? Math.min(...good) : 0;
  let high = good.length ? Math.max(...good) : 1;
  const steps = stream.steps.map((s) => s.value);
  const smallest = 10 ** -stream.about.decimals * 5;
  const inside = Math.max(high - low, smallest);
  const widest = Math.max(inside * 5, Math.abs(high) * 0.6);
  for (const step of steps) {
    const wider = Math.max(high, step) - Math.min(low, step);
    if (wider <= widest) {
      low = Math.min(low, step);
      high = Math.max(high, step);
    }
  }
  // The next threshold ahead is worth seeing whatever it costs.
  const ahead = steps.find((s) => (stream.direction > 0 ? s > high : s < low));
  if (ahead !== undefined && !steps.some((s) => s >= low && s <= high)) {
    low = Math.min(low, ahead);
    high = Math.max(high, ahead);
  }
  const margin = Math.max((high - low) * 0.12, smallest / 2);
  const floor = low >= 0 && low - margin < 0 ? 0 : low - margin;
  return [floor, high + margin];
}

/** Whether a reading may be drawn as part of the line. */
const usable = (flag, value) => flag !== FAIL && flag !== MISSING && value !== null;

export class Chart {
  /** ``series``: what /api/series said; ``spanMs``: how much time the chart shows, ending now. */
  constructor(node, stream, series, spanMs, onHover) {
    this.node = node;
    this.stream = stream;
    this.spanMs = spanMs;
    this.onHover = onHover;
    this.windows = series.kind === "windows";
    this.rain = stream.property === "rain_mm";
    this.time = series.time_ms.map((ms) => this.x(ms));
    this.value = series.value;
    this.flag = series.flag;
    this.low = series.minimum ?? null;
    this.high = series.maximum ?? null;
    this.draw();
    this.watch = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.watch.observe(node);
    this.onTheme = () => this.draw();
    addEventListener("pantau-theme", this.onTheme);
  }

  /** Seconds in the city's own time, so that the axis falls on its hours. */
  x(ms) {
    return ms / 1000 + model.city.utc_offset_h * 3600;
  }

  ms(x) {
    return (x - model.city.utc_offset_h * 3600) * 1000;
  }

  size() {
    return { width: Math.max(200, this.node.clientWidth), height: this.node.clientHeight || 170 };
  }

  get doubtful() {
    return this.flag.includes(SUSPECT);
  }

  get failed() {
    return this.flag.includes(FAIL);
  }

  columns() {
    const line = this.value.map((v, i) => (usable(this.flag[i], v) ? v : null));
    return this.windows ? [this.time, this.high, this.low, line] : [this.time, line];
  }

  /** A new reading came live. */
  append(ms, value, flag) {
    const x = this.x(ms);
    const last = this.time.length - 1;
    if (last >= 0 && x < this.time[last]) return;
    if (last >= 0 && x === this.time[last]) {
      this.value[last] = value;
      this.flag[last] = flag;
    } else {
      this.time.push(x);
      this.value.push(value);
      this.flag.push(flag);
      this.low?.push(value);
      this.high?.push(value);
    }
    const first = this.x(now() - this.spanMs * 1.05);
    let old = 0;
    while (old < this.time.length && this.time[old] < first) old += 1;
    if (old > 50) for (const column of [this.time, this.value, this.flag, this.low, this.high]) column?.splice(0, old);
    this.stale = true;
  }

  /** Move the time axis on and show what was appended. */
  refresh() {
    if (this.stale) this.plot.setData(this.columns(), false);
    this.stale = false;
    this.rescale();
  }

  rescale() {
    const end = this.x(now());
    this.plot.batch(() => {
      this.plot.setScale("x", { min: end - this.spanMs / 1000, max: end });
      const shown = this.windows && !this.rain ? [...this.high, ...this.low] : this.columns().at(-1);
      const [min, max] = valueSpan(shown, this.stream);
      this.plot.setScale("y", { min: this.rain ? 0 : min, max }); // a bar stands on zero
    });
  }

  draw() {
    this.plot?.destroy();
    const muted = css("muted");
    const grid = { stroke: css("line"), width: 1 };
    const font = `13px ${getComputedStyle(document.body).fontFamily}`;
    const ink = css("text");
    const bars = this.rain;
    const rain = css("rain");
    const line = {
      stroke: bars ? rain : ink,
      width: 1.75,
      points: { show: this.time.length < 40 && !bars, size: 4, fill: ink },
      spanGaps: false,
      // A bar ends at its reading: the depth fell before it. That of a window stands in its middle.
      ...(bars ? { paths: uPlot.paths.bars({ size: [0.8, 24], align: this.windows ? 0 : -1 }), fill: rain, width: 0 } : {}),
    };
    const edge = { stroke: "transparent", points: { show: false } };
    const options = {
      ...this.size(),
      tzDate: (ts) => uPlot.tzDate(new Date(ts * 1000), "Etc/UTC"),
      legend: { show: false },
      padding: [10, 8, 0, 0],
      cursor: { y: false, points: { size: 8 }, drag: { x: false, y: false } },
      scales: { x: { time: true, auto: false }, y: { auto: false } },
      series: this.windows ? [{}, edge, edge, line] : [{}, line],
      bands: this.windows && !bars ? [{ series: [1, 2], fill: withAlpha(ink, 0.18) }] : [],
      axes: [
        {
          stroke: muted,
          font,
          grid: { show: false },
          ticks: { ...grid, size: 5 },
          space: 64,
          size: 28,
          values: (_, at) => at.map((s) => (s % 86400 === 0 ? dayText(this.ms(s)) : clockText(this.ms(s)))),
        },
        {
          stroke: muted,
          font,
          grid,
          ticks: { show: false },
          space: 34,
          size: 56,
          values: (_, at) => at.map((v) => number(v, this.axisDecimals(at))),
        },
      ],
      hooks: {
        drawClear: [(u) => this.drawBands(u)],
        draw: [(u) => this.drawThresholds(u, font), (u) => this.drawDoubts(u)],
        setCursor: [(u) => this.say(u)],
      },
    };
    this.plot = new uPlot(options, this.columns(), this.node);
    this.language = currentLanguage();
    this.rescale();
  }

  axisDecimals(at) {
    const step = at.length > 1 ? Math.abs(at[1] - at[0]) : 1;
    let digits = 0;
    while (digits < 4 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6) digits += 1;
    return digits;
  }

  drawBands(u) {
    const { left, top, width, height } = u.bbox;
    const { steps, direction } = this.stream;
    const pen = u.ctx;
    pen.save();
    pen.beginPath();
    pen.rect(left, top, width, height);
    pen.clip();
    steps.forEach((step, i) => {
      const from = u.valToPos(step.value, "y", true);
      const next = steps[i + 1];
      const to = next ? u.valToPos(next.value, "y", true) : direction > 0 ? top : top + height;
      if ((direction > 0 && from < top) || (direction < 0 && from > top + height)) return;
      pen.fillStyle = withAlpha(css(NAMES[step.severity]), 0.13);
      pen.fillRect(left, Math.min(from, to), width, Math.abs(from - to));
    });
    pen.restore();
  }

  drawThresholds(u, font) {
    const { left, top, width, height } = u.bbox;
    const pen = u.ctx;
    const ratio = devicePixelRatio || 1;
    pen.save();
    pen.font = font.replace("13px", `600 ${12 * ratio}px`);
    pen.textAlign = "left";
    pen.lineWidth = 1.5 * ratio;
    let lastLabel = -Infinity;
    for (const step of [...this.stream.steps].sort((a, b) => a.value - b.value)) {
      const y = u.valToPos(step.value, "y", true);
      if (y < top || y > top + height) continue;
      pen.strokeStyle = css(`${NAMES[step.severity]}-text`);
      pen.setLineDash(step.severity === 3 ? [] : step.severity === 2 ? [8 * ratio, 4 * ratio] : [3 * ratio, 4 * ratio]);
      pen.beginPath();
      pen.moveTo(left, y);
      pen.lineTo(left + width, y);
      pen.stroke();
      if (Math.abs(y - lastLabel) < 15 * ratio) continue;
      lastLabel = y;
      const text = `${step.label || NAMES[step.severity]} ${valueText(step.value, this.stream.about)}`;
      const above = y - top > 18 * ratio;
      pen.setLineDash([]);
      pen.lineJoin = "round";
      pen.textBaseline = above ? "bottom" : "top";
      pen.strokeStyle = css("surface");
      pen.lineWidth = 3 * ratio;
      const at = [left + 6 * ratio, above ? y - 3 * ratio : y + 3 * ratio];
      pen.strokeText(text, ...at);
      pen.fillStyle = css(`${NAMES[step.severity]}-text`);
      pen.fillText(text, ...at);
      pen.lineWidth = 1.5 * ratio;
    }
    pen.restore();
  }

  /** Suspect readings get a ring, failed ones a cross; both at their value, or at the edge if it is far off. */
  drawDoubts(u) {
    const { left, top, width, height } = u.bbox;
    const pen = u.ctx;
    const ratio = devicePixelRatio || 1;
    const r = 4.5 * ratio;
    pen.save();
    pen.lineWidth = 2 * ratio;
    pen.strokeStyle = css("silence");
    for (let i = 0; i < this.time.length; i++) {
      const flag = this.flag[i];
      if ((flag !== SUSPECT && flag !== FAIL) || this.value[i] === null) continue;
      const x = u.valToPos(this.time[i], "x", true);
      if (x < left || x > left + width) continue;
      const y = Math.max(top + r, Math.min(top + height - r, u.valToPos(this.value[i], "y", true)));
      pen.beginPath();
      if (flag === SUSPECT) {
        pen.arc(x, y, r, 0, 7);
      } else {
        pen.moveTo(x - r, y - r);
        pen.lineTo(x + r, y + r);
        pen.moveTo(x + r, y - r);
        pen.lineTo(x - r, y + r);
      }
      pen.stroke();
    }
    pen.restore();
  }

  say(u) {
    const i = u.cursor.idx;
    if (i === null || i === undefined || u.cursor.left < 0) {
      this.onHover(null);
      return;
    }
    this.onHover({ time: momentText(this.ms(this.time[i]), now()), value: valueText(this.value[i], this.stream.about), flag: this.flag[i] });
  }

  remove() {
    removeEventListener("pantau-theme", this.onTheme);
    this.watch.disconnect();
    this.plot.destroy();
  }
}
