"use strict";

// Everything shown comes from the public API and is written as text.

const REFRESH_MS = 2000;

// A mark beside the colour and the word, for those who see neither well.
const GRADES = {
  danger: "■ Danger",
  fault: "▲ Fault",
  watch: "△ Watch",
  healthy: "● Healthy",
  off: "○ Off",
  unknown: "? Unknown",
};

const ELEMENTS = {
  outer_race: "Outer race",
  inner_race: "Inner race",
  ball: "Ball",
  cage: "Cage",
  undetermined: "Undetermined element",
};

function element(tag, text, name) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (name) made.className = name;
  return made;
}

function place(id, children) {
  document.getElementById(id).replaceChildren(...children);
}

function row(cells) {
  const made = element("tr");
  for (const cell of cells) {
    made.append(cell instanceof Node ? cell : element("td", cell));
  }
  return made;
}

function nothing(columns, text) {
  const cell = element("td", text, "faint");
  cell.colSpan = columns;
  return row([cell]);
}

function instant(text) {
  return text === null ? "never" : new Date(text).toLocaleString();
}

// How long before `now` something was; both as the collector says, so that this screen's clock does not matter.
function age(text, now) {
  if (text === null) return "never";
  const seconds = Math.max(0, Math.round((new Date(now) - new Date(text)) / 1000));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min ago`;
  return instant(text);
}

function count(value) {
  return value.toLocaleString();
}

function number(value, digits) {
  return Number.isFinite(value) ? value.toLocaleString(undefined, { maximumSignificantDigits: digits }) : "–";
}

// A line of the evidence. Beside a harmonic of the element stand sidebands, whole shaft turns away.
function spectralLine(line, order) {
  const sideband = Math.round(line.order - line.harmonic * order);
  const name = line.harmonic === 1 ? "fundamental" : `harmonic ${line.harmonic}`;
  const offset = sideband === 0 ? "" : ` ${sideband < 0 ? "−" : "+"} ${Math.abs(sideband)} × shaft`;
  return `${number(line.frequency_hz, 4)} Hz, ${number(line.prominence, 2)} × background (${name}${offset})`;
}

function gradeCell(grade, reasons) {
  const cell = element("td", GRADES[grade] ?? grade, `grade ${Object.hasOwn(GRADES, grade) ? grade : "unknown"}`);
  cell.title = reasons.map((reason) => `${[reason.point, reason.channel].filter(Boolean).join(" ")}: ${reason.what}`).join("\n");
  return cell;
}

// Channels differ in quantity and unit, so no figure is taken over several of them.
function rmsByChannel(asset) {
  const values = asset.points.flatMap((point) =>
    point.channels
      .filter((channel) => Number.isFinite(channel.values.rms))
      .map((channel) => `${point.point} ${channel.channel}: ${number(channel.values.rms, 3)}`),
  );
  return values.join("; ") || "–";
}

function showAssets(answer) {
  const rows = answer.assets.map((asset) =>
    row([
      asset.name && asset.name !== asset.asset ? `${asset.name} (${asset.asset})` : asset.asset,
      gradeCell(asset.grade, asset.reasons),
      [asset.site, asset.area].filter(Boolean).join(" / ") || "not in the fleet file",
      age(asset.last_data, answer.now),
      rmsByChannel(asset),
    ]),
  );
  if (rows.length === 0) rows.push(nothing(5, "No assets yet."));
  if (answer.truncated) rows.push(nothing(5, "There are more; the API lists the first of them only."));
  place("asset-rows", rows);
}

function title(advisory) {
  if (advisory.cause === "bearing") return ELEMENTS[advisory.element] ?? advisory.element;
  if (advisory.cause === "deviation") return `${advisory.feature}, ${advisory.level}`;
  return `${advisory.cause[0].toUpperCase()}${advisory.cause.slice(1)}, ${advisory.level}`;
}

function evidenceText(advisory) {
  const evidence = advisory.evidence;
  if (evidence.fault) return `${evidence.fault.replaceAll("_", " ")}, channel ${evidence.channel}`;
  if (evidence.feature) {
    const zone = evidence.zone ? `, zone ${evidence.zone} (${evidence.standard})` : "";
    const basis = evidence.basis === "baseline" ? `normal ${number(evidence.normal, 3)}` : "without a baseline";
    return `${evidence.feature} of ${evidence.channel} ${number(evidence.value, 3)}, limit ${number(evidence.limit, 3)}, ${basis}${zone}`;
  }
  if (!evidence.band_hz) return "–";
  return (
    `${number(evidence.order, 4)} × shaft speed in the envelope of ` +
    `${number(evidence.band_hz[0], 3)} to ${number(evidence.band_hz[1], 3)} Hz; score ${number(evidence.score, 3)}, ` +
    (evidence.runner_up > 0 ? `next best explanation ${number(evidence.runner_up, 3)}` : "no other explanation")
  );
}

function showAdvisories(answer) {
  const cards = answer.advisories.map((advisory) => {
    const card = element("li", undefined, "advisory");
    const evidence = advisory.evidence;
    card.append(
      element("strong", `▲ ${title(advisory)}: ${advisory.asset}, ${advisory.point}`),
      element("p", advisory.recommendation),
      element("p", `Evidence: ${evidenceText(advisory)}`),
    );
    if (evidence.lines?.length > 0) {
      const lines = element("ul", undefined, "lines");
      lines.append(...evidence.lines.map((line) => element("li", spectralLine(line, evidence.order))));
      card.append(lines);
    }
    card.append(
      element(
        "p",
        `Raised ${instant(advisory.raised)}, last seen ${instant(advisory.last_seen)}` +
          (advisory.backfill ? ", from history" : ""),
        "faint",
      ),
    );
    return card;
  });
  if (cards.length === 0) cards.push(element("li", "None.", "faint"));
  place("advisories", cards);
}

function showLedger(answer) {
  const totals = answer.totals;
  const causes = Object.entries(totals.lost_by_cause).map(([cause, samples]) => `${count(samples)} ${cause}`);
  const lost = causes.length === 0 ? "0 lost" : `${count(totals.lost)} lost (${causes.join(", ")})`;
  const line = document.getElementById("ledger");
  line.textContent =
    `${count(totals.produced)} samples produced = ${count(totals.stored)} stored + ${lost}` +
    ` + ${count(totals.pending)} pending + ${count(totals.unexplained)} unexplained;` +
    ` ${count(totals.duplicated)} came again and were recognised. ` +
    (answer.balanced ? "Balanced." : "NOT balanced: see /api/v1/ledger for the channel.");
  line.className = answer.balanced ? "" : "fault";
}

// What the gateway expects of its spool, where that is known.
function outlook(health) {
  if (health === null) return "";
  const hours = (seconds) => (seconds < 172800 ? `${number(seconds / 3600, 2)} h` : `${number(seconds / 86400, 2)} d`);
  const holds = health.holds_s === null ? "" : `, holds ${hours(health.holds_s)}`;
  return holds + (health.drains_s ? `, drains in ${hours(health.drains_s)}` : "");
}

function showGateways(answer, now) {
  const rows = answer.gateways.map((gateway) =>
    row([
      gateway.gateway,
      gateway.connected ? "● connected" : "▲ away",
      age(gateway.last_heard, now),
      gateway.nodes === null ? "–" : String(gateway.nodes),
      gateway.spool_blocks === null ? "–" : `${count(gateway.spool_blocks)} blocks, ${number(gateway.spool_bytes / 1e3, 3)} kB${outlook(gateway.health)}`,
    ]),
  );
  if (rows.length === 0) rows.push(nothing(5, "No gateway has come yet."));
  place("gateway-rows", rows);
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10000) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error ? body.error.message : `${path}: ${answer.status}`);
  return body;
}

async function refresh() {
  const state = document.getElementById("state");
  try {
    const [assets, advisories, ledger, gateways] = await Promise.all([
      ask("/api/v1/assets"),
      ask("/api/v1/advisories?active=true"),
      ask("/api/v1/ledger"),
      ask("/api/v1/gateways"),
    ]);
    showAssets(assets);
    showAdvisories(advisories);
    showLedger(ledger);
    showGateways(gateways, assets.now);
    document.getElementById("as-of").textContent = `Updated ${instant(assets.now)} (collector's clock)`;
    // A live region speaks when its text changes: it does when an advisory comes or goes, not each time.
    const standing = advisories.advisories.length;
    const news = standing === 0 ? "No active advisories" : `Active advisories: ${count(standing)}`;
    if (state.textContent !== news) state.textContent = news;
    state.className = "";
  } catch (error) {
    state.textContent = `No answer from the collector; what is shown may be old. ${error.message}`;
    state.className = "fault";
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
