//! How long machines have left by what was learned of their fleet.
//!
//! What was learned comes through the journal ([`crate::journal::Entry::Learned`]), and an asset names it
//! (`life_model`). A row is the mean of each reading over one stretch of time, aligned with the clock, in which
//! the machine ran; it is complete when every channel has gone on to the next one, or any to the one after.
//! Rows that lack a reading say nothing and are counted.
//!
//! Once [`ROWS_REQUIRED`] rows in a row say that a decline has begun, that is an advisory; as many that say it
//! has not, and it is over. Maintenance, another model and another fleet file without it begin anew. A machine is as
//! old as its rows, and what it had run before (`ran_before_h`); after maintenance that counts no more.
//!
//! | memory | bound | what happens there |
//! |---|---|---|
//! | models | [`MODELS_MAX`] | a further one is not taken, counted |
//! | machines | the assets of the fleet in force that name a model | those that a fleet no longer has are forgotten |
//! | open rows of a machine | [`OPEN_ROWS`] | the oldest is closed |
//! | machines that were worked on | the assets of the fleet in force | those that a fleet no longer has are forgotten |

use super::Pipeline;
use crate::advisory::{Cause, Evidence, Observation};
use crate::decision::{Decision, DecisionAction};
use crate::fleet::{Fleet, Judging};
use crate::prognosis::fleet_life::FleetLife;
use crate::prognosis::fleet_model::{FleetMember, MemberState};
use crate::prognosis::{Forecast, Method, Outlook, Prognosis};
use crate::state::SeriesKey;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use trunnion_common::feature::FeatureKind;
use trunnion_common::level::Level;
use trunnion_common::time::EventTime;

/// Models kept.
pub(super) const MODELS_MAX: usize = 32;
/// Rows in a row that must agree: one is as likely to be an odd hour.
const ROWS_REQUIRED: u8 = 3;
/// Open rows of a machine.
const OPEN_ROWS: usize = 2;

/// What was learned of fleets, and the machines that live by it.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(super) struct Learned {
    models: BTreeMap<String, Model>,
    /// By asset.
    members: BTreeMap<String, Member>,
    /// Assets that were worked on since they were first heard of.
    renewed: BTreeSet<String>,
}

/// Shared by the copies of the state of which checkpoints are made.
#[derive(Clone, PartialEq, Debug)]
struct Model(Arc<FleetLife>);

impl Serialize for Model {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.as_ref().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let life = FleetLife::deserialize(deserializer)?;
        // A row of no length could not be placed.
        if life.row_ns() <= 0 {
            return Err(D::Error::custom("a row of no length"));
        }
        Ok(Self(Arc::new(life)))
    }
}

/// A machine of a fleet that was learned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Member {
    /// By its name.
    model: String,
    /// By the number of the stretch since the epoch.
    rows: BTreeMap<i64, Vec<Mean>>,
    /// The row that each reading was last seen in.
    seen: Vec<i64>,
    /// Rows up to this one are over.
    closed: Option<i64>,
    state: MemberState,
    outlook: Outlook,
    as_of: EventTime,
    /// Rows in a row that say the other thing than what is told.
    other: u8,
    is_declining: bool,
}

/// Sum and number of readings.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
struct Mean {
    sum: f64,
    count: u32,
}

/// What has come of rows that are over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Closed {
    told: u64,
    incomplete: u64,
}

impl Learned {
    /// Takes a model in under its name: machines that live by one of that name begin anew. False where there is
    /// no room.
    fn take(&mut self, name: &str, life: FleetLife) -> bool {
        if self.models.len() >= MODELS_MAX && !self.models.contains_key(name) {
            return false;
        }
        self.models.insert(name.to_owned(), Model(Arc::new(life)));
        self.members.retain(|_, member| member.model != name);
        true
    }

    /// Forgets machines that a fleet file no longer has under the same model.
    fn retain(&mut self, fleet: &Fleet) {
        let model = |asset: &str| {
            let mut assets = fleet.assets().iter();
            assets
                .find(|known| known.id == asset)?
                .judging
                .life_model
                .as_deref()
        };
        self.members
            .retain(|asset, member| model(asset) == Some(member.model.as_str()));
        self.renewed.retain(|asset| model(asset).is_some());
    }

    /// Machines that count as having run so many rows before they were heard of.
    #[cfg(test)]
    pub(super) fn ages(&self) -> Vec<u64> {
        let members = self.members.values();
        members.map(|member| member.state.ran_before()).collect()
    }

    /// Where advisories of an asset are told, if it lives by a model.
    fn place(&self, asset: &str) -> Option<SeriesKey> {
        let member = self.members.get(asset)?;
        let model = self.models.get(&member.model)?;
        Some(model.0.first_reading()?.series(asset))
    }
}

impl Member {
    /// A machine that had run for so many rows before.
    fn new(model: &str, columns: usize, before: u64) -> Self {
        Self {
            model: model.to_owned(),
            rows: BTreeMap::new(),
            seen: vec![i64::MIN; columns],
            closed: None,
            state: MemberState::aged(before),
            outlook: Outlook::Learning,
            as_of: EventTime(0),
            other: 0,
            is_declining: false,
        }
    }

    /// Takes the mean of a reading over a window into its row.
    fn note(&mut self, column: usize, row: i64, value: f32) {
        if self.closed.is_some_and(|closed| row <= closed) || !value.is_finite() {
            return;
        }
        let columns = self.seen.len();
        let means = self
            .rows
            .entry(row)
            .or_insert_with(|| vec![Mean::default(); columns]);
        if let (Some(mean), Some(seen)) = (means.get_mut(column), self.seen.get_mut(column)) {
            mean.sum += f64::from(value);
            mean.count = mean.count.saturating_add(1);
            *seen = row.max(*seen);
        }
    }

    /// Goes through the rows that are over.
    fn close(&mut self, life: &FleetLife) -> Closed {
        let mut closed = Closed::default();
        let all_at = self.seen.iter().copied().min().unwrap_or(i64::MIN);
        while let Some(entry) = self.rows.first_entry() {
            let row = *entry.key();
            if all_at <= row && self.rows.len() <= OPEN_ROWS {
                break;
            }
            let means = self.rows.remove(&row).unwrap_or_default();
            self.closed = Some(row);
            if means.iter().any(|mean| mean.count == 0) {
                closed.incomplete += 1;
                continue;
            }
            let readings: Vec<f64> = means
                .iter()
                .map(|mean| mean.sum / f64::from(mean.count))
                .collect();
            self.as_of = EventTime(row.saturating_add(1).saturating_mul(life.row_ns()));
            let mut member = FleetMember::new(life.model(), std::mem::take(&mut self.state));
            self.outlook = member.handle_readings(self.as_of, &readings);
            self.state = member.into_state();
            self.persist();
            closed.told += 1;
        }
        closed
    }

    /// What is told follows what rows say once enough of them agree.
    fn persist(&mut self) {
        let says = matches!(self.outlook, Outlook::Declining { .. });
        self.other = if says == self.is_declining {
            0
        } else {
            self.other + 1
        };
        if self.other >= ROWS_REQUIRED {
            (self.is_declining, self.other) = (says, 0);
        }
    }
}

impl Pipeline {
    /// What was learned of a fleet has come.
    pub(super) fn handle_learned(&mut self, name: &str, bytes: &[u8]) {
        let living = self.state.learned.members.iter();
        let living = living.filter(|(_, member)| member.model == name);
        let living: Vec<_> = living.map(|(asset, _)| asset.clone()).collect();
        let is_taken = match FleetLife::from_bytes(bytes) {
            Ok(life) => {
                for asset in living {
                    self.end_decline(&asset);
                }
                self.state.learned.take(name, life)
            }
            Err(_) => false,
        };
        let counters = &mut self.state.counters;
        if is_taken {
            counters.models_taken += 1;
        } else {
            counters.models_refused += 1;
        }
    }

    /// Takes the readings of a live window of a machine that ran.
    pub(super) fn learn_of(
        &mut self,
        series: &SeriesKey,
        (start, end): (EventTime, EventTime),
        values: &[(FeatureKind, f32)],
    ) {
        let Some(name) = self.life_model(series, start) else {
            return;
        };
        let is_known = self.state.learned.members.contains_key(&series.asset);
        let judging = (!is_known).then(|| self.judging(&series.asset, start));
        let ran_before_ns = judging.flatten().map_or(0, |judging| judging.ran_before_ns);
        let learned = &mut self.state.learned;
        let Some(Model(life)) = learned.models.get(&name) else {
            return;
        };
        let renewed = &learned.renewed;
        let member = learned.members.entry(series.asset.clone()).or_insert_with(|| {
            let is_renewed = renewed.contains(&series.asset);
            let before = if is_renewed {
                0
            } else {
                ran_before_ns / life.row_ns()
            };
            Member::new(&name, life.columns().len(), before.unsigned_abs())
        });
        // Half of a window decides in which row it is.
        let middle = start.0.midpoint(end.0);
        let row = middle.div_euclid(life.row_ns());
        for (column, reading) in life.columns().iter().enumerate() {
            let value = values.iter().find(|(kind, _)| reading.is_of(series, *kind));
            if let Some((_, value)) = value {
                member.note(column, row, *value);
            }
        }
        let closed = member.close(life);
        self.state.counters.life_rows += closed.told;
        self.state.counters.life_rows_incomplete += closed.incomplete;
        if closed.told > 0 {
            self.tell_decline(&series.asset);
        }
    }

    /// What is said of a machine by what was learned of its fleet.
    pub(super) fn learned_forecast(&self, asset: &str) -> Option<Forecast> {
        let member = self.state.learned.members.get(asset)?;
        let Model(life) = self.state.learned.models.get(&member.model)?;
        Some(Forecast {
            outlook: member.outlook,
            as_of: member.as_of,
            method: Method::Fleet {
                model: member.model.clone(),
                machines: life.machines(),
            },
        })
    }

    /// Of every machine that lives by what was learned.
    pub(super) fn learned_forecasts(&self) -> impl Iterator<Item = Forecast> {
        let assets = self.state.learned.members.keys();
        assets.filter_map(|asset| self.learned_forecast(asset))
    }

    /// Machines that a decision says were worked on begin anew.
    pub(super) fn decide_learned(&mut self, decision: &Decision) {
        if matches!(decision.action, DecisionAction::Maintenance { .. }) {
            self.end_decline(&decision.asset);
            self.state.learned.members.remove(&decision.asset);
            let judging = self.judging(&decision.asset, self.state.now);
            if judging.is_some_and(|judging| judging.life_model.is_some()) {
                self.state.learned.renewed.insert(decision.asset.clone());
            }
        }
    }

    /// Another fleet file is in force.
    pub(super) fn settle_learned(&mut self) {
        let Some((_, fleet)) = self.fleets.range(..=self.state.now).next_back() else {
            return;
        };
        let mut rest = self.state.learned.clone();
        rest.retain(fleet);
        let gone = self.state.learned.members.keys();
        let gone = gone.filter(|asset| !rest.members.contains_key(*asset));
        let gone: Vec<_> = gone.cloned().collect();
        for asset in gone {
            self.end_decline(&asset);
        }
        self.state.learned = rest;
    }

    /// Of a machine of the fleet in force at a time.
    fn life_model(&self, series: &SeriesKey, at: EventTime) -> Option<String> {
        let (_, fleet) = self.fleets.range(..=at).next_back()?;
        fleet.site(series)?.life_model.clone()
    }

    /// How a machine is judged by the fleet in force at a time.
    fn judging(&self, asset: &str, at: EventTime) -> Option<&Judging> {
        let (_, fleet) = self.fleets.range(..=at).next_back()?;
        let known = fleet.assets().iter().find(|known| known.id == asset)?;
        Some(&known.judging)
    }

    /// Rows have been taken in: tells what stands of the machine again, and that a decline has begun or is over.
    fn tell_decline(&mut self, asset: &str) {
        let learned = &self.state.learned;
        let (Some(place), Some(member)) = (learned.place(asset), learned.members.get(asset)) else {
            return;
        };
        let (at, is_declining, model) = (member.as_of, member.is_declining, member.model.clone());
        let points = self.state.conditions.notices.keys();
        let points = points.chain(self.state.advisories.keys());
        let mut points: Vec<_> = points.filter(|(of, _)| of == asset).cloned().collect();
        points.dedup();
        for (asset, point) in &points {
            self.retell(asset, point, |standing| {
                !matches!(standing.cause, Cause::Instrument | Cause::RemainingLife)
            });
        }
        if !is_declining {
            return self.end_decline(asset);
        }
        self.notice(
            &place,
            Observation {
                channel: place.channel.clone(),
                cause: Cause::RemainingLife,
                at,
                held: Level::Alert,
                is_seen: true,
                evidence: Some(Evidence::Fleet { model }),
            },
        );
        self.concern(asset);
    }

    /// Whatever was told of a decline is over.
    fn end_decline(&mut self, asset: &str) {
        let Some(place) = self.state.learned.place(asset) else {
            return;
        };
        let point = (place.asset.clone(), place.point.clone());
        if self.state.conditions.has_notice(&point) {
            self.conclude(&place, Cause::RemainingLife, self.state.now);
            self.concern(asset);
        }
    }
}
