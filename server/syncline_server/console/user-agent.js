// What people call the program of a session. Pure: the text with which it introduced itself in, its name out.
//
// A browser names others before itself, so the order counts: whoever claims to be somebody else comes first.

const BROWSERS = [
  [/Edg/, "Edge"],
  [/OPR\//, "Opera"],
  [/SamsungBrowser/, "Samsung Internet"],
  [/Firefox|FxiOS/, "Firefox"],
  [/Chromium|HeadlessChrome/, "Chromium"],
  [/Chrome|CriOS/, "Chrome"],
  [/Safari/, "Safari"],
];
const SYSTEMS = [
  [/Android/, "Android"],
  [/iPhone|iPad/, "iOS"],
  [/CrOS/, "ChromeOS"],
  [/Windows/, "Windows"],
  [/Mac OS X/, "macOS"],
  [/Linux|X11/, "Linux"],
];

/** A browser and its system; any other program is called as it calls itself. */
export function programOf(agent) {
  const browser = /^Mozilla\//.test(agent) && nameIn(BROWSERS, agent);
  if (!browser) return agent || "A login";
  const system = nameIn(SYSTEMS, agent);
  return system ? `${browser} on ${system}` : browser;
}

const nameIn = (names, text) => names.find(([mark]) => mark.test(text))?.[1];
