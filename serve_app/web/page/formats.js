/** Figures as people write them in the language that the page is shown in. */
const code = () => document.documentElement.lang;

export function number(value) {
  return new Intl.NumberFormat(code(), { maximumFractionDigits: 1 }).format(value);
}

/** A moment of the server's, ISO 8601, by this browser's clock. */
export function moment(iso) {
  return new Intl.DateTimeFormat(code(), { dateStyle: "short", timeStyle: "medium" }).format(new Date(iso));
}

export function bytes(value) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  const power = Math.min(units.length - 1, value < 1 ? 0 : Math.floor(Math.log10(value) / 3));
  const style = { style: "unit", unit: units[power], maximumFractionDigits: 1 };
  return new Intl.NumberFormat(code(), style).format(value / 1000 ** power);
}

/** Seconds as minutes and seconds. */
export function duration(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}
