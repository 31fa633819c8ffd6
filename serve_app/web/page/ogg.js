/** Opus packets as an Ogg stream (RFC 3533 and 7845), a page for each. */
const [CONTINUES, BEGINS] = [0, 2];
const SERIAL = 0x736f_7474;

export class OggOpus {
  #numPages = 0;
  #granule = 0; // samples at 48 kHz

  /** The pages that hold `packet`; the headers too where it is the first. */
  pages(packet, durationUs) {
    const pages = [];
    if (this.#numPages === 0) {
      pages.push(this.#page(opusHead(), BEGINS), this.#page(tags(), CONTINUES));
    }
    this.#granule += Math.round((48 * durationUs) / 1000);
    pages.push(this.#page(packet, CONTINUES));
    return joined(pages);
  }

  #page(packet, flags) {
    const numSegments = Math.floor(packet.length / 255) + 1;
    const page = new Uint8Array(27 + numSegments + packet.length);
    const view = new DataView(page.buffer);
    page.set([0x4f, 0x67, 0x67, 0x53, 0, flags]); // "OggS"
    view.setBigUint64(6, BigInt(this.#granule), true);
    view.setUint32(14, SERIAL, true);
    view.setUint32(18, this.#numPages, true);
    page[26] = numSegments;
    page.fill(255, 27, 26 + numSegments);
    page[26 + numSegments] = packet.length % 255;
    page.set(packet, 27 + numSegments);
    view.setUint32(22, checksum(page), true);
    this.#numPages += 1;
    return page;
  }
}

/** One channel from 16 kHz, and libopus's look-ahead of 312 samples to be skipped. */
function opusHead() {
  const page = new Uint8Array(19);
  page.set(new TextEncoder().encode("OpusHead"));
  page.set([1, 1], 8);
  const view = new DataView(page.buffer);
  view.setUint16(10, 312, true);
  view.setUint32(12, 16_000, true);
  return page;
}

function tags() {
  const page = new Uint8Array(21);
  page.set(new TextEncoder().encode("OpusTags"));
  page[8] = 5;
  page.set(new TextEncoder().encode("sotto"), 12);
  return page;
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let value = byte << 24;
  for (let bit = 0; bit < 8; bit += 1) value = (value << 1) ^ (value < 0 ? 0x04c1_1db7 : 0);
  return value;
});

function checksum(page) {
  let value = 0;
  for (const byte of page) value = (value << 8) ^ TABLE[((value >>> 24) ^ byte) & 255];
  return value >>> 0;
}
