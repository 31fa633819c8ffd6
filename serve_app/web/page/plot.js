const NUM_VALUES = 100;

/** The newest values as bars from `floor` to `ceiling`, which grows where a value needs it. */
export class Plot {
  #canvas;
  #floor;
  #ceiling;
  #values = [];
  #isDue = false;

  constructor(canvas, { floor = 0, ceiling }) {
    this.#canvas = canvas;
    this.#floor = floor;
    this.#ceiling = ceiling;
  }

  push(value) {
    this.#values.push(value);
    if (this.#values.length > NUM_VALUES) this.#values.shift();
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    this.#isDue = false;
    const canvas = this.#canvas;
    const scale = globalThis.devicePixelRatio ?? 1;
    const [width, height] = [Math.round(canvas.clientWidth * scale), Math.round(canvas.clientHeight * scale)];
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, width, height);
    context.fillStyle = getComputedStyle(canvas).getPropertyValue("--accent");
    const ceiling = Math.max(this.#ceiling, ...this.#values);
    const step = width / NUM_VALUES;
    const first = NUM_VALUES - this.#values.length;
    this.#values.forEach((value, index) => {
      const size = Math.max(scale, (height * (value - this.#floor)) / (ceiling - this.#floor));
      context.fillRect((first + index) * step, height - size, Math.max(1, step - scale), size);
    });
  }
}
