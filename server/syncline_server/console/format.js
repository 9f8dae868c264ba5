// How numbers, ages and moments are written on this page.

const grouped = new Intl.NumberFormat("en");
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const dayOfYear = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "2-digit" });

export const number = (value) => grouped.format(value);

export const counted = (count, noun) => `${number(count)} ${noun}${count === 1 ? "" : "s"}`;

/** How long ago, in at most nine characters. A server whose clock is ahead of ours still says `now`. */
export function age(thenMs, nowMs) {
  const seconds = Math.floor((nowMs - thenMs) / 1000);
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
  const then = new Date(thenMs);
  return (then.getFullYear() === new Date(nowMs).getFullYear() ? day : dayOfYear).format(then);
}

/** The moment itself, to the millisecond, in local time with its offset. */
export function moment(ms) {
  const date = new Date(ms);
  const offset = -date.getTimezoneOffset();
  const local = new Date(ms + offset * 60_000).toISOString().slice(0, -1).replace("T", " ");
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  return `${local} ${offset < 0 ? "−" : "+"}${two(Math.abs(offset) / 60)}:${two(Math.abs(offset) % 60)}`;
}

export function size(chars) {
  return chars < 1024 ? `${chars} characters` : `${number(Math.round(chars / 1024))} kB`;
}

const momentToTheMinute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** A moment as people say it, to the minute, in local time. */
export const dateAndTime = (ms) => momentToTheMinute.format(ms);

/** A number of bytes in the largest unit that leaves it readable: `1.5 MB`. */
export function bytes(count) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  let power = 0;
  while (count >= 1000 && power < units.length - 1) {
    count /= 1000;
    power += 1;
  }
  return `${number(Number(count.toPrecision(3)))} ${units[power]}`;
}
