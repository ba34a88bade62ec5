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

const SUSPECTED = {
  unbalance: "unbalance",
  misalignment: "misalignment",
  looseness: "looseness",
  gear_mesh: "damage of a gear",
  blade_pass: "badly cut flow at the blades",
  electrical: "an uneven field of the motor",
};

// Why the spectra do not tell what is wrong.
const UNDETERMINED = {
  speed_unknown: "the speed of the shaft is not known",
  nothing_declared: "nothing is declared of the machine",
  no_spectrum: "the sensor does not reach, or the window is too short",
  unresolved: "the window is too short for so slow a shaft",
  speed_differs: "the shaft does not turn at the known speed, or changes it",
  ambiguous: "more than one cause would look like this",
  like_none: "it vibrates like none of the known causes",
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

function duration(seconds) {
  const [unit, name] = [[86400, "d"], [3600, "h"], [60, "min"]].find(([unit]) => seconds >= 2 * unit) ?? [1, "s"];
  return `${number(seconds / unit, 2)} ${name}`;
}

// How long the machine has left; nothing where nothing is followed.
function lifeText(life) {
  if (life === null) return "";
  const normal = life.basis === "baseline" ? `normal ${number(life.normal, 3)}` : "normal as first measured";
  const by =
    life.basis === "fleet"
      ? `by ${life.model}, learned from ${life.machines} machines`
      : `${life.feature} of ${life.channel} to ${number(life.limit, 3)}, ${normal}`;
  const way = `${by}, as of ${instant(life.as_of)}`;
  if (life.state === "declining") {
    const share = `${number(100 * life.confidence, 2)} %`;
    return (
      `Remaining life: ${duration(life.earliest_s)} to ${duration(life.latest_s)} (${share}), ` +
      `most likely about ${duration(life.median_s)}; declining since ${instant(life.since)} (${way})`
    );
  }
  const states = {
    before_onset: "no decline has begun, so that no end is told",
    learning: "what is normal is not known yet",
    undetermined: "normal and limit lie too close together to tell",
  };
  return `Remaining life: ${states[life.state] ?? life.state} (${way})`;
}

function explanationText(explanation) {
  if (explanation === null) return "";
  if (explanation.state === "suspected") {
    const name = (by) => (by.element ? `bearing, ${ELEMENTS[by.element] ?? by.element}` : (SUSPECTED[by.suspected] ?? by.cause));
    return `Suspected: ${explanation.by.map(name).join("; ")}`;
  }
  if (explanation.state === "transmitted") return `Heard from ${explanation.from}, which has risen more`;
  if (explanation.state === "shared") return "All points of the machine have risen alike: look at load and speed first";
  return `Cause undetermined: ${UNDETERMINED[explanation.reason] ?? explanation.reason}`;
}

// A line at an order of the shaft's speed; gears are told in the channel's unit, all else in mm/s.
function orderLine(line, suspected) {
  const unit = suspected === "gear_mesh" ? "" : " mm/s";
  return `${number(line.order, 3)} × shaft speed, ${number(line.frequency_hz, 4)} Hz: ${number(line.rms, 3)}${unit}`;
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
  if (advisory.cause === "suspected") {
    return `Suspected ${SUSPECTED[advisory.suspected] ?? advisory.suspected}, ${advisory.level}`;
  }
  if (advisory.cause === "deviation") return `${advisory.feature}, ${advisory.level}`;
  const cause = advisory.cause.replaceAll("_", " ");
  return `${cause[0].toUpperCase()}${cause.slice(1)}, ${advisory.level}`;
}

function evidenceText(advisory) {
  const evidence = advisory.evidence;
  if (evidence.fault) return `${evidence.fault.replaceAll("_", " ")}, channel ${evidence.channel}`;
  if (advisory.cause === "drift") {
    return `${evidence.feature} of ${evidence.channel} has moved by ${number(evidence.deviations, 2)} standard deviations`;
  }
  if (advisory.cause === "remaining_life") return `reads like others of ${evidence.model} before they failed`;
  if (advisory.cause === "unusual") {
    const shares = evidence.contributions.map((each) => `${each.channel} ${number(100 * each.share, 2)} %`);
    return shares.length > 0 ? shares.join(", ") : `a rare reading of ${evidence.channel}`;
  }
  if (evidence.feature) {
    const side = evidence.below ? "lower limit" : "limit";
    const zone = evidence.zone ? `, zone ${evidence.zone} (${evidence.standard})` : "";
    const basis = evidence.basis === "baseline" ? `normal ${number(evidence.normal, 3)}` : "without a baseline";
    const edges = evidence.band?.hz ?? evidence.band?.orders;
    const unit = evidence.band?.hz ? "Hz" : "× shaft speed";
    const band = edges ? ` (${number(edges[0], 4)} to ${number(edges[1], 4)} ${unit})` : "";
    return `${evidence.feature}${band} of ${evidence.channel} ${number(evidence.value, 3)}, ${side} ${number(evidence.limit, 3)}, ${basis}${zone}`;
  }
  if (!evidence.band_hz) return "–";
  if (advisory.cause === "suspected") {
    const holds = advisory.suspected === "gear_mesh" ? "sidebands over mesh" : "share of the vibration in these lines";
    return `channel ${evidence.channel}; ${holds} ${number(evidence.score, 2)}`;
  }
  return (
    `${number(evidence.order, 4)} × shaft speed in the envelope of ` +
    `${number(evidence.band_hz[0], 3)} to ${number(evidence.band_hz[1], 3)} Hz; score ${number(evidence.score, 3)}, ` +
    (evidence.runner_up > 0 ? `next best explanation ${number(evidence.runner_up, 3)}` : "no other explanation") +
    confirmedText(evidence.confirmed)
  );
}

function confirmedText(band) {
  if (!band) return "";
  const [low, high] = band.band_hz.map((hz) => number(hz, 3));
  return `; also where it rings most, ${low} to ${high} Hz: score ${number(band.score, 3)}`;
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
      const told = (line) =>
        advisory.cause === "suspected" ? orderLine(line, advisory.suspected) : spectralLine(line, evidence.order);
      lines.append(...evidence.lines.map((line) => element("li", told(line))));
      card.append(lines);
    }
    for (const text of [explanationText(advisory.explanation), lifeText(advisory.remaining_life)]) {
      if (text) card.append(element("p", text));
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
