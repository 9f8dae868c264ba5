// How many changes a second the followed store had over the last minute: a count per second and its drawing.

import { number } from "./format.js";

const SECONDS = 60;
const MEAN_OVER_S = 3;
const WIDTH = 180;
const HEIGHT = 32;
const SVG = "http://www.w3.org/2000/svg";

export class Pace {
  #counts = new Array(SECONDS).fill(0);
  #now = 0;
  #bars;
  #drawing;
  #label;

  constructor({ drawing, label }) {
    this.#drawing = drawing;
    this.#label = label;
    const base = document.createElementNS(SVG, "path");
    base.setAttribute("class", "pace-base");
    base.setAttribute("d", `M0 ${HEIGHT - 0.5}H${WIDTH}`);
    this.#bars = document.createElementNS(SVG, "path");
    this.#bars.setAttribute("class", "pace-bars");
    drawing.append(base, this.#bars);
    setInterval(() => this.#tick(), 1_000);
  }

  count(changes) {
    this.#now += changes;
  }

  clear() {
    this.#counts.fill(0);
    this.#now = 0;
    this.#draw();
  }

  #tick() {
    this.#counts.shift();
    this.#counts.push(this.#now);
    this.#now = 0;
    if (!document.hidden) this.#draw();
  }

  #draw() {
    const peak = Math.max(...this.#counts);
    // Below ten a second one change is a tenth of the height, so that a single one does not look like a flood.
    const scale = (HEIGHT - 2) / Math.max(10, peak);
    let path = "";
    for (const [index, count] of this.#counts.entries()) {
      if (count) path += `M${index * 3 + 1.5} ${HEIGHT - 1}V${(HEIGHT - 1 - Math.max(1.5, count * scale)).toFixed(1)}`;
    }
    this.#bars.setAttribute("d", path);
    const mean = this.#counts.slice(-MEAN_OVER_S).reduce((sum, count) => sum + count, 0) / MEAN_OVER_S;
    this.#label.textContent = mean > 0 && mean < 10 ? mean.toFixed(1) : number(Math.round(mean));
    this.#drawing.setAttribute("aria-label", `Changes per second over the last minute, at most ${number(peak)}`);
  }
}
