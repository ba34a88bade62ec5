"use strict";

// Everything shown comes from the public API and is written as text.

const REFRESH_MS = 2000;

// A mark beside the colour and the word, for those who see neither well.
const GRADES = {
  fault: "▲ Fault",
  healthy: "● Healthy",
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

function number(value, digits) {
  return Number.isFinite(value) ? value.toLocaleString(undefined, { maximumSignificantDigits: digits }) : "–";
}

function gradeCell(grade) {
  return element("td", GRADES[grade] ?? grade, `grade ${Object.hasOwn(GRADES, grade) ? grade : "unknown"}`);
}

// Channels differ in quantity and unit, so no figure is taken over several of them.
function rmsByChannel(asset) {
  const values = asset.points.flatMap((point) =>
    point.channels
      .filter((channel) => Number.isFinite(channel.values.rms))
      .map((channel) => `${point.point} ${channel.channel}: ${number(channel.values.rms, 3)}`),
  );
  return values.join(", ") || "–";
}

function showAssets(answer) {
  const rows = answer.assets.map((asset) =>
    row([
      asset.name ? `${asset.name} (${asset.asset})` : asset.asset,
      gradeCell(asset.grade),
      [asset.site, asset.area].filter(Boolean).join(" / ") || "not in the fleet file",
      instant(asset.last_data),
      rmsByChannel(asset),
    ]),
  );
  if (rows.length === 0) rows.push(nothing(5, "No assets yet."));
  if (answer.truncated) rows.push(nothing(5, "There are more; the API lists the first of them only."));
  place("asset-rows", rows);
}

function showAdvisories(answer) {
  const cards = answer.advisories.map((advisory) => {
    const card = element("li", undefined, "advisory");
    const evidence = advisory.evidence;
    const found = evidence.lines
      .map((line) => `${number(line.order, 4)} orders (${number(line.frequency_hz, 4)} Hz, harmonic ${line.harmonic})`)
      .join(", ");
    card.append(
      element("strong", `${ELEMENTS[advisory.element] ?? advisory.element}: ${advisory.asset}, ${advisory.point}`),
      element("p", advisory.recommendation),
      element(
        "p",
        `Evidence: score ${number(evidence.score, 3)}, next best ${number(evidence.runner_up, 3)}; ` +
          `band ${number(evidence.band_hz[0], 3)} to ${number(evidence.band_hz[1], 3)} Hz` +
          (found ? `; lines at ${found}` : ""),
      ),
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
  const causes = Object.entries(totals.lost_by_cause).map(([cause, samples]) => `${samples} ${cause}`);
  const lost = causes.length === 0 ? "0 lost" : `${totals.lost} lost (${causes.join(", ")})`;
  const line = document.getElementById("ledger");
  line.textContent =
    `${totals.produced} samples produced = ${totals.stored} stored + ${lost} + ${totals.pending} pending` +
    ` + ${totals.unexplained} unexplained; ${totals.duplicated} came again. ` +
    (answer.balanced ? "Balanced." : "NOT balanced: see /api/v1/ledger for the channel.");
  line.className = answer.balanced ? "" : "fault";
}

function showGateways(answer) {
  const rows = answer.gateways.map((gateway) =>
    row([
      gateway.gateway,
      gateway.connected ? "connected" : "away",
      instant(gateway.last_heard),
      gateway.nodes === null ? "–" : String(gateway.nodes),
      gateway.spool_blocks === null ? "–" : `${gateway.spool_blocks} blocks, ${gateway.spool_bytes} bytes`,
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
    showGateways(gateways);
    // A live region speaks when its text changes, so the minute is enough.
    const minute = new Date(assets.now).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    if (state.textContent !== `As of ${minute}`) state.textContent = `As of ${minute}`;
    state.className = "";
  } catch (error) {
    state.textContent = `No answer from the collector; what is shown may be old. ${error.message}`;
    state.className = "fault";
  }
  setTimeout(refresh, REFRESH_MS);
}

refresh();
