//! How an asset's condition is judged: by which standard, against which normal, and from where on it is told.
//!
//! A template states it for a class of machines; an asset that names the template inherits all of it, and what
//! the asset writes itself goes before. Where neither says anything, the default holds. Each value knows which
//! of the three it is from ([`Origin`]).

use super::section::{At, Section};
use super::{ChannelSite, PointBand, Support, UNIT_OF_ZONES};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use trunnion_common::baseline::{Minimum, WATCHED_MAX};
use trunnion_common::detection::change;
use trunnion_common::detection::multivariate::LEARNING_CELLS;
use trunnion_common::feature::FeatureKind;
use trunnion_common::feature::velocity::Passband;
use trunnion_common::id::Name;
use trunnion_common::level::Persistence;
use trunnion_common::monitor::{self, Relative, Watched};
use trunnion_common::operating::{GateSettings, Regimes};
use trunnion_common::severity::{Class, Criterion, Group, Limits, Standard};

/// Features that are compared with their normal on every vibration channel, without anybody asking: the
/// first signs of what the velocity from 10 Hz to 1 kHz does not show.
const WATCHED: [FeatureKind; 1] = [FeatureKind::Rms];

/// Alarms of an asset at most: what a monitor watches beside what it always watches.
pub const ALARMS_MAX: usize = WATCHED_MAX - WATCHED.len();

/// A number that can be set: its key, the least and the most, and the default, none where it is off.
struct Number {
    key: &'static str,
    least: f64,
    most: f64,
    default: Option<f64>,
}

const fn number(key: &'static str, least: f64, most: f64, default: Option<f64>) -> Number {
    Number {
        key,
        least,
        most,
        default,
    }
}

/// Each default is explained where it is used: [`GateSettings`], [`Persistence`], [`Minimum`], [`Relative`].
const NUMBERS: [Number; 17] = [
    number("off_below", 1e-9, 1e9, None),
    number("settle_s", 0.0, 86_400.0, Some(10.0)),
    number("speed_change_percent", 0.1, 100.0, Some(2.0)),
    number("windows_required", 1.0, 10.0, Some(3.0)),
    number("windows_of", 1.0, 10.0, Some(5.0)),
    number("baseline_windows", 2.0, 1e7, Some(300.0)),
    number("baseline_hours", 0.0, 8_760.0, Some(24.0)),
    number("alert_ratio", 1.01, 1_000.0, Some(2.0)),
    number("alarm_ratio", 1.01, 1_000.0, Some(10.0)),
    number("deviations", 0.0, 100.0, Some(4.0)),
    number("trip_mm_s", 1e-3, 1e3, None),
    number("reading_s", 1.0, 86_400.0, Some(600.0)),
    number("expected_s", 0.1, 31.0 * 86_400.0, None),
    number("unusual_alone_s", 1.0, 86_400.0, None),
    number("unusual_together_s", 1.0, 86_400.0, None),
    // A century.
    number("ran_before_h", 0.0, 1e6, None),
    // What the multivariate detector was chosen with, and at least the history that it looks back on.
    number(
        "unusual_rows",
        change::HISTORY as f64,
        LEARNING_CELLS as f64,
        Some(400.0),
    ),
];

/// The key of what was learned of a fleet.
const LIFE_MODEL: &str = "life_model";

/// Lists that can be set.
const LISTS: [&str; 2] = ["speed_edges_rpm", "load_edges"];

/// Where a value is from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody wrote anything.
    Default,
    /// The template of that id.
    Template(String),
    /// The asset itself.
    Asset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Template(id) => write!(f, "template {id}"),
            Self::Asset => f.write_str("asset"),
        }
    }
}

/// One value as it holds, for people.
#[derive(Clone, PartialEq, Debug)]
pub struct Told {
    /// Its key.
    pub key: String,
    /// What holds.
    pub value: String,
    /// Where that is from.
    pub origin: Origin,
}

/// How an asset's condition is judged.
#[derive(Clone, PartialEq, Debug)]
pub struct Judging {
    /// By which zones; none: severity is not graded.
    pub criterion: Option<Criterion>,
    /// A TRIP limit below that of the criterion, mm/s.
    pub trip: Option<f32>,
    /// How run states are told apart.
    pub gate: GateSettings,
    /// Operating regimes.
    pub regimes: Regimes,
    /// How many windows must agree.
    pub persistence: Persistence,
    /// What a baseline is proposed on.
    pub minimum: Minimum,
    /// Features that are watched beside the overall vibration, but for bands that points declare.
    pub watched: Vec<Watched>,
    /// Limits against the normal.
    pub relative: Relative,
    /// Windows of so long, nanoseconds, are one reading of the remaining life.
    pub reading_ns: i64,
    /// From one window to the next, nanoseconds, where that is declared.
    pub expected_ns: Option<i64>,
    /// Over how long readings of slow channels are averaged that are judged by themselves, nanoseconds; none:
    /// they are not.
    pub alone_ns: Option<i64>,
    /// From one row of slow channels that are judged together to the next, nanoseconds; none: they are not.
    pub together_ns: Option<i64>,
    /// Rows that are learned from.
    pub unusual_rows: u16,
    /// What was learned of its fleet, by name; none: its remaining life follows from trends alone.
    pub life_model: Option<String>,
    /// How long it had run before it was first heard of, nanoseconds.
    pub ran_before_ns: i64,
    /// Every value, with where it is from.
    pub told: Vec<Told>,
}

impl Default for Judging {
    fn default() -> Self {
        Draft::default().merge(None)
    }
}

impl Judging {
    /// What is watched at a point with those bands of its own: a limit of theirs goes before the asset's.
    fn watched(&self, bands: &[PointBand]) -> Vec<Watched> {
        let mut watched = self.watched.clone();
        for (kind, band) in FeatureKind::BANDS.into_iter().zip(bands) {
            let asset = watched.iter().position(|watched| watched.kind == kind);
            let asset = asset.map(|place| watched.remove(place));
            watched.push(Watched {
                kind,
                absolute: band.limits.or(asset.and_then(|asset| asset.absolute)),
                relative: Some(self.relative),
            });
        }
        watched.truncate(WATCHED_MAX);
        watched
    }

    /// Refuses bands that are too many beside the asset's alarms.
    pub(super) fn check_room(&self, point: &Section<'_>, bands: &[PointBand]) {
        let kinds: BTreeSet<FeatureKind> = self.watched.iter().map(|watched| watched.kind).collect();
        let own = FeatureKind::BANDS.into_iter().zip(bands);
        let own = own.filter(|(kind, _)| !kinds.contains(kind)).count();
        // A baseline learns the overall velocity, too, where that is judged.
        let most = WATCHED_MAX - usize::from(self.criterion.is_some());
        if kinds.len() + own > most {
            let what = format!(
                "{} alarms of the asset and {own} bands are more than can be watched",
                kinds.len()
            );
            let fix = format!("leave at most {most} together, the RMS among them");
            point.source.refuse(&point.at, what, fix);
        }
    }

    /// What the monitor of a vibration channel judges by.
    pub(super) fn monitor(&self, site: &ChannelSite, interval_ns: Option<i64>) -> monitor::Settings {
        let band = Passband::for_speed(site.shaft_hz);
        let reaches =
            site.band_low_hz <= f64::from(band.low_hz) && site.band_high_hz >= f64::from(band.high_hz);
        let severity = self.criterion.map(|criterion| monitor::Severity {
            criterion,
            kind: FeatureKind::VelocityRms,
            unit: Some(UNIT_OF_ZONES),
            band_hz: reaches.then_some([band.low_hz, band.high_hz]),
            trip: self.trip,
        });
        monitor::Settings {
            severity,
            watched: self.watched(&site.bands).into_iter().collect(),
            gate: self.gate,
            regimes: self.regimes.clone(),
            persistence: self.persistence,
            learning: Some(self.minimum),
            range: Some((site.range * site.gain.abs()) as f32),
            // 0: as long as the windows themselves.
            interval_ns: self.expected_ns.or(interval_ns).unwrap_or(0),
        }
    }
}

/// What a template or an asset writes.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Draft {
    criterion: Option<Criterion>,
    numbers: BTreeMap<&'static str, f64>,
    lists: BTreeMap<&'static str, Vec<f64>>,
    alarms: Vec<(FeatureKind, [f32; 2])>,
    life_model: Option<String>,
}

impl Draft {
    /// Reads a template's or an asset's keys.
    pub(super) fn read(section: &Section<'_>) -> Self {
        let mut draft = Self {
            criterion: read_criterion(section),
            ..Self::default()
        };
        let Some(condition) = section.table("condition", "condition") else {
            return draft;
        };
        for number in &NUMBERS {
            if let Some(value) = read_number(&condition, number) {
                draft.numbers.insert(number.key, value);
            }
        }
        for key in LISTS {
            if let Some(value) = read_edges(&condition, key) {
                draft.lists.insert(key, value);
            }
        }
        draft.check_pairs(&condition);
        draft.life_model = read_life_model(&condition);
        for alarm in condition.tables("alarm") {
            draft.alarms.extend(read_alarm(&alarm));
        }
        if draft.alarms.len() > ALARMS_MAX {
            let what = format!("{} alarms are more than can be watched", draft.alarms.len());
            condition
                .source
                .refuse(&condition.at, what, format!("leave at most {ALARMS_MAX}"));
        }
        draft
    }

    /// What holds for an asset that writes this and names that template.
    pub(super) fn merge(&self, template: Option<(&str, &Self)>) -> Judging {
        let mut told = Vec::new();
        let mut note = |key: &str, value: String, origin: Origin| {
            told.push(Told {
                key: key.to_owned(),
                value,
                origin,
            });
        };
        let from = |id: &str| Origin::Template(id.to_owned());
        let criterion = match (self.criterion, template) {
            (None, Some((id, template))) => template.criterion.map(|found| (found, from(id))),
            (own, _) => own.map(|own| (own, Origin::Asset)),
        };
        match &criterion {
            Some((found, origin)) => note("criterion", describe(found), origin.clone()),
            None => note(
                "criterion",
                "none: severity is not graded".to_owned(),
                Origin::Default,
            ),
        }
        let mut numbers: BTreeMap<&str, f64> = BTreeMap::new();
        for Number { key, default, .. } in &NUMBERS {
            let inherited = template.and_then(|(id, template)| Some((*template.numbers.get(key)?, from(id))));
            let own = self.numbers.get(key).map(|own| (*own, Origin::Asset));
            let default = default.map(|default| (default, Origin::Default));
            if let Some((value, origin)) = own.or(inherited).or(default) {
                numbers.insert(key, value);
                note(key, value.to_string(), origin);
            }
        }
        let mut lists: BTreeMap<&str, &[f64]> = BTreeMap::new();
        for key in LISTS {
            let inherited = template.and_then(|(id, template)| Some((template.lists.get(key)?, from(id))));
            let own = self.lists.get(key).map(|own| (own, Origin::Asset));
            if let Some((value, origin)) = own.or(inherited) {
                lists.insert(key, value);
                note(key, format!("{value:?}"), origin);
            }
        }
        let mut alarms: BTreeMap<FeatureKind, ([f32; 2], Origin)> = BTreeMap::new();
        if let Some((id, template)) = template {
            alarms.extend(
                template
                    .alarms
                    .iter()
                    .map(|(kind, limits)| (*kind, (*limits, from(id)))),
            );
        }
        alarms.extend(
            self.alarms
                .iter()
                .map(|(kind, limits)| (*kind, (*limits, Origin::Asset))),
        );
        for (kind, (limits, origin)) in &alarms {
            note(
                &format!("alarm {}", kind.label()),
                format!("{limits:?}"),
                origin.clone(),
            );
        }
        let inherited = template.and_then(|(id, template)| Some((template.life_model.clone()?, from(id))));
        let own = self.life_model.clone().map(|own| (own, Origin::Asset));
        let life_model = own.or(inherited).map(|(name, origin)| {
            note(LIFE_MODEL, name.clone(), origin);
            name
        });
        let number = |key| numbers.get(key).copied();
        let or = |key, fallback: f64| number(key).unwrap_or(fallback);
        let list = |key, factor: f64| -> Vec<f32> {
            let list = lists.get(key).copied().unwrap_or_default();
            list.iter().map(|value| (value * factor) as f32).collect()
        };
        let relative = Relative {
            alert: or("alert_ratio", 2.0) as f32,
            alarm: or("alarm_ratio", 10.0).max(or("alert_ratio", 2.0)) as f32,
            deviations: or("deviations", 4.0) as f32,
        };
        let required = Persistence::new(or("windows_required", 3.0) as u8, or("windows_of", 5.0) as u8);
        Judging {
            criterion: criterion.map(|(found, _)| found),
            trip: number("trip_mm_s").map(|trip| trip as f32),
            gate: GateSettings {
                off_below: number("off_below").map(|floor| floor as f32),
                speed_change: (0.01 * or("speed_change_percent", 2.0)) as f32,
                settle_ns: nanos(or("settle_s", 10.0)),
            },
            // Edges that do not rise have been refused where they stand.
            regimes: Regimes::new(&list("speed_edges_rpm", 1.0 / 60.0), &list("load_edges", 1.0))
                .unwrap_or_default(),
            persistence: required.unwrap_or_default(),
            minimum: Minimum {
                windows: or("baseline_windows", 300.0) as u32,
                span_ns: nanos(3_600.0 * or("baseline_hours", 24.0)),
            },
            watched: watched(&alarms, relative),
            relative,
            reading_ns: nanos(or("reading_s", 600.0)),
            expected_ns: number("expected_s").map(nanos),
            alone_ns: number("unusual_alone_s").map(nanos),
            together_ns: number("unusual_together_s").map(nanos),
            unusual_rows: or("unusual_rows", 400.0) as u16,
            life_model,
            ran_before_ns: nanos(3_600.0 * or("ran_before_h", 0.0)),
            told,
        }
    }

    /// What can only be judged together, as far as one table says both.
    fn check_pairs(&self, condition: &Section<'_>) {
        let number = |key| self.numbers.get(key).copied();
        if let (Some(required), Some(of)) = (number("windows_required"), number("windows_of"))
            && Persistence::new(required as u8, of as u8).is_none()
        {
            let what = format!("{required} of {of} windows are no majority");
            let fix = "make windows_required more than half of windows_of";
            condition.source.refuse(&condition.at, what, fix);
        }
        if let (Some(alert), Some(alarm)) = (number("alert_ratio"), number("alarm_ratio"))
            && alarm <= alert
        {
            let what = format!("an alarm at {alarm} times the normal is not above an alert at {alert}");
            condition
                .source
                .refuse(&condition.at, what, "make alarm_ratio the larger one");
        }
    }
}

fn watched(alarms: &BTreeMap<FeatureKind, ([f32; 2], Origin)>, relative: Relative) -> Vec<Watched> {
    let of = |kind: FeatureKind| Watched {
        kind,
        absolute: alarms.get(&kind).map(|(limits, _)| *limits),
        relative: Some(relative),
    };
    let mut watched: Vec<_> = WATCHED.into_iter().map(of).collect();
    let further = alarms.keys().filter(|kind| !WATCHED.contains(kind));
    watched.extend(further.map(|kind| of(*kind)));
    watched.truncate(WATCHED_MAX);
    watched
}

fn nanos(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

fn describe(criterion: &Criterion) -> String {
    let limits = criterion.limits();
    let of = match criterion.standard() {
        Standard::Iso20816Part3(group, support) | Standard::Iso10816Part3(group, support) => {
            let group = match group {
                Group::Large => 1,
                Group::Medium => 2,
            };
            let support = match support {
                Support::Rigid => "rigid",
                Support::Flexible => "flexible",
            };
            format!(", group {group}, {support}")
        }
        Standard::Iso10816Part1(class) => format!(", class {class:?}"),
        Standard::Entered => String::new(),
    };
    let (edition, unit) = (criterion.standard().edition(), criterion.unit().symbol());
    let (ab, bc, cd) = (limits.ab(), limits.bc(), limits.cd());
    format!("{edition}{of}: zones end at {ab}, {bc} and {cd} {unit}")
}

fn read_number(condition: &Section<'_>, number: &Number) -> Option<f64> {
    let Number { key, least, most, .. } = number;
    let (value, at) = condition.number(key)?;
    if (*least..=*most).contains(&value) {
        return Some(value);
    }
    let what = format!("{key} = {value} is out of range");
    condition
        .source
        .refuse(&at, what, format!("give a number from {least} to {most}"));
    None
}

/// What was learned of a fleet is known to the collector by its name, and not to the file.
fn read_life_model(condition: &Section<'_>) -> Option<String> {
    let (name, at) = condition.text(LIFE_MODEL)?;
    if Name::new(name).is_ok() {
        return Some(name.to_owned());
    }
    condition.source.refuse(
        &at,
        format!("{name:?} is no name"),
        "use 1 to 32 of a to z, 0 to 9 and -",
    );
    None
}

fn read_edges(condition: &Section<'_>, key: &'static str) -> Option<Vec<f64>> {
    let (edges, at) = condition.numbers(key)?;
    let narrow: Vec<f32> = edges.iter().map(|edge| *edge as f32).collect();
    if Regimes::new(&narrow, &[]).is_some() {
        return Some(edges);
    }
    let fix = format!(
        "give at most {} numbers that rise",
        trunnion_common::operating::EDGES_MAX
    );
    condition
        .source
        .refuse(&at, format!("{key} {edges:?} are no edges of regimes"), fix);
    None
}

fn read_alarm(alarm: &Section<'_>) -> Option<(FeatureKind, [f32; 2])> {
    let feature = alarm.text("feature");
    let feature = alarm.require("feature", feature, "name the feature, as its series is called");
    let kind = feature.and_then(|(label, at)| {
        let kind = FeatureKind::from_label(label);
        if kind.is_none() {
            let known: Vec<_> = FeatureKind::ALL.iter().map(|kind| kind.label()).collect();
            let fix = format!("write one of: {}", known.join(", "));
            alarm
                .source
                .refuse(&at, format!("there is no feature {label:?}"), fix);
        }
        kind
    });
    let level = |key| alarm.require(key, alarm.positive(key), "give the limit, in the feature's unit");
    let (low, high) = (level("alert"), level("alarm"));
    let ((alert, _), (high, at)) = (low?, high?);
    if high <= alert {
        let what = format!("an alarm at {high} is not above an alert at {alert}");
        alarm.source.refuse(&at, what, "make alarm the larger one");
        return None;
    }
    Some((kind?, [alert as f32, high as f32]))
}

/// The criterion that a section names, in one of three ways.
fn read_criterion(section: &Section<'_>) -> Option<Criterion> {
    let part_3 = read_part_3(section);
    let class = section.text("iso_class").and_then(|(class, at)| match class {
        "I" => Some(Class::I),
        "II" => Some(Class::II),
        "III" => Some(Class::III),
        "IV" => Some(Class::IV),
        _ => {
            let what = format!("ISO 10816-1 has no class {class:?}");
            section
                .source
                .refuse(&at, what, "write \"I\", \"II\", \"III\" or \"IV\"");
            None
        }
    });
    let entered = section.numbers("zones_mm_s").and_then(|(zones, at)| {
        let limits = match zones[..] {
            [ab, bc, cd] => Limits::new(ab as f32, bc as f32, cd as f32),
            _ => None,
        };
        if limits.is_none() {
            let what = format!("{zones:?} are no limits between four zones");
            section
                .source
                .refuse(&at, what, "give three numbers that rise: A/B, B/C, C/D");
        }
        Some(Criterion::entered(limits?, UNIT_OF_ZONES))
    });
    let ways = ["iso_group", "iso_class", "zones_mm_s"];
    if ways.iter().filter(|key| section.has(key)).count() > 1 {
        let fix = "give only one of iso_group, iso_class and zones_mm_s";
        section
            .source
            .refuse(&section.at, "severity is judged in one way", fix);
    }
    let class = class.and_then(|class| Criterion::of(Standard::Iso10816Part1(class)));
    part_3.and_then(Criterion::of).or(class).or(entered)
}

fn read_part_3(section: &Section<'_>) -> Option<Standard> {
    let power = section.positive("power_kw");
    let support = section.text("support").and_then(|(support, at)| match support {
        "rigid" => Some(Support::Rigid),
        "flexible" => Some(Support::Flexible),
        _ => {
            let what = format!("a machine does not stand {support:?}");
            section
                .source
                .refuse(&at, what, "write \"rigid\" or \"flexible\"");
            None
        }
    });
    let edition = section.text("edition");
    let (group, at) = section.whole("iso_group", 2)?;
    let group = match group {
        1 => Group::Large,
        2 => Group::Medium,
        _ => {
            section
                .source
                .refuse(&at, "ISO 20816-3 has no group 0", "write 1 or 2, or leave it out");
            return None;
        }
    };
    let why = "its ISO 20816-3 group cannot be judged without";
    let power = section.require("power_kw", power, why);
    let support = section.require("support", support, why);
    refuse_small(section, power?);
    let support = support?;
    match edition {
        None | Some(("ISO 20816-3:2022", _)) => Some(Standard::Iso20816Part3(group, support)),
        Some(("ISO 10816-3:2009", _)) => Some(Standard::Iso10816Part3(group, support)),
        Some((other, at)) => {
            let fix = "write \"ISO 20816-3:2022\" or \"ISO 10816-3:2009\"";
            section
                .source
                .refuse(&at, format!("{other:?} is no edition with groups"), fix);
            None
        }
    }
}

fn refuse_small(section: &Section<'_>, (power_kw, at): At<f64>) {
    /// Where the scope of ISO 20816-3 and ISO 10816-3 begins, kW.
    const LEAST_KW: f64 = 15.0;
    if power_kw <= LEAST_KW {
        let what = format!("ISO 20816-3 begins above {LEAST_KW} kW, and this has {power_kw}");
        let fix = "give iso_class = \"I\" (ISO 10816-1) in place of iso_group, or limits of your own";
        section.source.refuse(&at, what, fix);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Fleet;
    use super::*;

    /// A fleet of one asset with those keys, and what stands above it.
    fn text(above: &str, asset: &str) -> String {
        format!(
            "{above}\n[[site]]\nid = \"plant\"\n[[site.area]]\nid = \"hall\"\n[[site.area.asset]]\nid = \"fan\"\n{asset}\n"
        )
    }

    fn judging(above: &str, asset: &str) -> Judging {
        let fleet = Fleet::parse(&text(above, asset), "f");
        fleet.unwrap_or_else(|problems| panic!("{problems:#?}")).assets()[0]
            .judging
            .clone()
    }

    fn told<'j>(judging: &'j Judging, key: &str) -> (&'j str, &'j Origin) {
        let found = judging.told.iter().find(|told| told.key == key).unwrap();
        (&found.value, &found.origin)
    }

    const TEMPLATE: &str = "[[template]]\nid = \"fans\"\niso_group = 2\npower_kw = 75\nsupport = \"rigid\"\n\
        [template.condition]\nbaseline_hours = 48\nalert_ratio = 3\nspeed_edges_rpm = [900, 1500]\n\
        [[template.condition.alarm]]\nfeature = \"crest_factor\"\nalert = 6\nalarm = 10\n";

    #[test]
    fn what_nobody_says_is_the_default_and_severity_is_not_graded() {
        let judging = judging("", "");
        assert_eq!(judging, Judging::default());
        assert_eq!(judging.criterion, None);
        assert_eq!(judging.gate, GateSettings::default());
        assert_eq!(judging.persistence, Persistence::default());
        assert_eq!(judging.minimum, Minimum::default());
        assert_eq!(judging.watched[0].relative, Some(Relative::default()));
        assert!(judging.told.iter().all(|told| told.origin == Origin::Default));
    }

    #[test]
    fn an_asset_inherits_its_template_and_overrides_it_visibly() {
        let own = "template = \"fans\"\n[site.area.asset.condition]\nalert_ratio = 2.5\n\
            [[site.area.asset.condition.alarm]]\nfeature = \"crest_factor\"\nalert = 7\nalarm = 12\n";
        let judging = judging(TEMPLATE, own);
        let standard = Standard::Iso20816Part3(Group::Medium, Support::Rigid);
        assert_eq!(judging.criterion, Criterion::of(standard));
        assert_eq!(judging.minimum.span_ns, 48 * 3_600_000_000_000);
        let template = Origin::Template("fans".into());
        assert_eq!(told(&judging, "baseline_hours"), ("48", &template));
        assert_eq!(told(&judging, "alert_ratio"), ("2.5", &Origin::Asset));
        assert_eq!(told(&judging, "deviations"), ("4", &Origin::Default));
        assert_eq!(
            told(&judging, "alarm crest_factor"),
            ("[7.0, 12.0]", &Origin::Asset)
        );
        let (criterion, origin) = told(&judging, "criterion");
        assert_eq!(origin, &template);
        assert_eq!(
            criterion,
            "ISO 20816-3:2022, group 2, rigid: zones end at 1.4, 2.8 and 4.5 mm/s"
        );
        assert_eq!(judging.regimes, Regimes::new(&[15.0, 25.0], &[]).unwrap());
        let kinds: Vec<_> = judging.watched.iter().map(|watched| watched.kind).collect();
        assert_eq!(kinds, [FeatureKind::Rms, FeatureKind::CrestFactor]);
    }

    #[test]
    fn severity_can_be_judged_by_class_by_an_older_edition_or_by_entered_limits() {
        let edition = |asset: &str| judging("", asset).criterion.unwrap().standard().edition();
        assert_eq!(edition("iso_class = \"II\""), "ISO 10816-1:1995 annex B");
        assert_eq!(edition("zones_mm_s = [2.5, 4.0, 6.6]"), "entered limits");
        let old = "iso_group = 1\npower_kw = 500\nsupport = \"flexible\"\nedition = \"ISO 10816-3:2009\"";
        assert_eq!(edition(old), "ISO 10816-3:2009");
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        let condition = |keys: &str| format!("[site.area.asset.condition]\n{keys}");
        let alarm = |keys: &str| format!("[[site.area.asset.condition.alarm]]\n{keys}");
        for (asset, expected) in [
            (
                "template = \"pumps\"".to_owned(),
                "there is no template \"pumps\"",
            ),
            ("iso_class = \"V\"".to_owned(), "has no class \"V\""),
            (
                "zones_mm_s = [1, 1, 2]".to_owned(),
                "no limits between four zones",
            ),
            (
                "iso_class = \"I\"\nzones_mm_s = [1, 2, 3]".to_owned(),
                "judged in one way",
            ),
            (
                "iso_group = 2\npower_kw = 11\nsupport = \"rigid\"".to_owned(),
                "begins above 15 kW",
            ),
            (
                "iso_group = 2\npower_kw = 75\nsupport = \"rigid\"\nedition = \"DIN\"".to_owned(),
                "is no edition",
            ),
            (condition("baseline_windows = 1"), "give a number from 2 to"),
            (condition("speed_edges_rpm = [2, 1]"), "are no edges of regimes"),
            (
                condition("windows_required = 2\nwindows_of = 4"),
                "are no majority",
            ),
            (
                condition("alert_ratio = 4\nalarm_ratio = 3"),
                "is not above an alert",
            ),
            (condition("settel_s = 3"), "a condition has no settel_s"),
            (
                alarm("feature = \"loudness\"\nalert = 1\nalarm = 2"),
                "there is no feature \"loudness\"",
            ),
            (
                alarm("feature = \"rms\"\nalert = 2\nalarm = 1"),
                "make alarm the larger one",
            ),
            (alarm("feature = \"rms\"\nalert = 2"), "this alarm has no alarm"),
        ] {
            let problems = Fleet::parse(&text("", &asset), "f").unwrap_err();
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert!(
                told.iter().any(|told| told.contains(expected)),
                "{asset}: {told:?}"
            );
        }
    }
}
