//! Commands to gateways: what the plant wants of them and their nodes, until they say that it is so. Pure.
//!
//! ```text
//! fleet file: wanted --+
//!                      +--> Desk --> journal --> sign --> gateway --> result --> journal --> CommandLog --+
//! person: order -------+      ^---------------------------------------------------------------------------+
//! ```
//!
//! What is wanted stands in the fleet file, so a command is the difference between that and what was last
//! confirmed; a person's orders ([`request`]) are one-shot. Every command and result is in the journal
//! before it counts: [`CommandLog`] is a function of the journal, and numbering goes on from there after a
//! restart. After a restore from a backup the gateway names the highest number that it has begun, and
//! numbering goes on above that.
//!
//! A gateway has one command at a time. It is sent again until it is answered or expires; what was not done
//! is tried anew under the next number, after a pause that grows. A wish that changes meanwhile takes the
//! place of the former one at once.
//!
//! Which gateway a node is at, the gateways say: each reports the nodes that it holds data of. A node that
//! was moved is listed by both for a while, and the one that no longer has it answers *unknown node*.
//!
//! | bound | what happens there |
//! |---|---|
//! | [`NODES_MAX`] nodes of a gateway | the rest gets no commands from it |
//! | [`SUBJECTS_MAX`] subjects of a gateway | the one issued longest ago is forgotten |
//! | [`ORDERS_MAX`] orders that wait | a further one is refused |

pub mod learned;
pub mod request;
pub mod signer;
#[cfg(test)]
mod tests;

use crate::journal::Entry;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use trunnion_common::block::{Block, Body, Kind};
use trunnion_common::frame::ChannelPlan;
use trunnion_common::id::{BootId, ChannelId, GatewayId, NodeId};
use trunnion_common::message::{Action, Command, CommandOutcome, CommandResult, GatewaySettings};
use trunnion_common::time::EventTime;
use trunnion_common::watch::{BearingSearch, GroupWatch, SpectrumWatch, UnusualWatch, WATCHES_MAX, Watch};

/// Nodes of one gateway that can be commanded.
pub const NODES_MAX: usize = 256;

/// What one gateway's commands were last about: its nodes twice (settings, orders), the channels that it
/// watches four times (how, for what they are searched, for what in their spectra, and whether they are as they were),
/// and itself.
pub const SUBJECTS_MAX: usize = 2 * NODES_MAX + 4 * WATCHES_MAX + 1;

/// Orders of people that wait for their gateway.
pub const ORDERS_MAX: usize = 64;

/// How long an order waits for its gateway to be there.
const ORDER_PATIENCE: i64 = 60 * SECOND;

/// How long a command is good for, on the gateway's clock: longer than a lost connection takes to come
/// back, shorter than anybody would wonder where that came from.
const GOOD_FOR: i64 = 120 * SECOND;

/// First and longest pause before a command that nobody answered is sent again.
const RESEND: (i64, i64) = (2 * SECOND, 30 * SECOND);

/// First and longest pause before what was not done is tried anew.
const ANEW: (i64, i64) = (30 * SECOND, 3_600 * SECOND);

/// Nobody has begun so many commands; a gateway that says so is not believed.
const NUMBER_MAX: u64 = 1 << 48;

const SECOND: i64 = 1_000_000_000;

/// From one look at what is wanted to the next, when nothing has changed.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the plant wants.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// Of gateways; one that is not listed is left to its own configuration.
    pub gateways: BTreeMap<GatewayId, GatewaySettings>,
    /// Of nodes, a plan for each channel in the order of the table; one that is not listed sends all.
    pub nodes: BTreeMap<NodeId, Vec<ChannelPlan>>,
    /// Gateways that judge machines themselves.
    pub watching: BTreeSet<GatewayId>,
    /// Of channels, what the gateway that hears them judges them by; one that is not listed is not watched.
    pub watches: BTreeMap<(NodeId, ChannelId), Watch>,
    /// Of those, for what it searches them.
    pub searches: BTreeMap<(NodeId, ChannelId), BearingSearch>,
    /// Of those, what it looks for in their spectra.
    pub examinations: BTreeMap<(NodeId, ChannelId), SpectrumWatch>,
    /// Of the slow ones among those, by what it judges whether they are as they were.
    pub unusuals: BTreeMap<(NodeId, ChannelId), UnusualWatch>,
}

/// What a command is about: the next one about the same takes its place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum Subject {
    /// The gateway's own settings.
    Gateway,
    /// A node's sampling plan.
    Settings(NodeId),
    /// What a person asked of a node.
    Order(NodeId),
    /// How a channel is watched by its gateway.
    Watch(NodeId, ChannelId),
    /// For what a channel is searched by its gateway.
    Search(NodeId, ChannelId),
    /// What is looked for in the spectra of a channel by its gateway.
    Examine(NodeId, ChannelId),
    /// Whether a slow channel is as it was, judged by its gateway.
    Unusual(NodeId, ChannelId),
}

impl Subject {
    /// What a command is about.
    pub(crate) fn of(action: &Action) -> Self {
        match action {
            Action::Gateway(_) => Self::Gateway,
            Action::WatchPlain { node, channel, .. } | Action::Watch { node, channel, .. } => {
                Self::Watch(*node, *channel)
            }
            Action::Search { node, channel, .. } => Self::Search(*node, *channel),
            Action::Unusual { node, channel, .. } => Self::Unusual(*node, *channel),
            Action::Examine { node, channel, .. } => Self::Examine(*node, *channel),
            Action::Settings { node, .. } => Self::Settings(*node),
            Action::Identify { node, .. } | Action::Capture { node, .. } | Action::Calibrate { node, .. } => {
                Self::Order(*node)
            }
        }
    }
}

/// The last command about a subject.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Standing {
    /// Number, time of expiry and action.
    pub command: Command,
    /// When it was journaled, on the collector's clock.
    pub issued: EventTime,
    /// The life of the node that it was meant for.
    pub boot: Option<BootId>,
    /// How often the same was tried before without success.
    pub failures: u32,
    /// What became of it, and when the collector heard so.
    pub outcome: Option<(CommandOutcome, EventTime)>,
}

impl Standing {
    fn is_done(&self) -> bool {
        self.outcome.is_some_and(|(outcome, _)| outcome.is_done())
    }

    /// Whether an answer may still come.
    fn is_open(&self, now: EventTime) -> bool {
        self.outcome.is_none() && now <= self.command.expires
    }

    /// When the same may be tried anew.
    fn due(&self) -> EventTime {
        let pause = match self.outcome {
            // It would be refused again.
            Some((CommandOutcome::RefusedByNode(_) | CommandOutcome::Unsupported, _)) => ANEW.1,
            _ => backoff(ANEW, self.failures),
        };
        self.issued.plus_nanos(pause)
    }
}

fn backoff((first, longest): (i64, i64), failures: u32) -> i64 {
    first.saturating_mul(1 << failures.min(20)).min(longest)
}

/// What is known of one gateway.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
struct GatewayLog {
    /// The highest number given, or begun as the gateway says.
    highest: u64,
    /// The newest life of each node that it last said to hold data of.
    nodes: BTreeMap<NodeId, BootId>,
    subjects: BTreeMap<Subject, Standing>,
}

/// What the journal says of commands.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct CommandLog {
    gateways: BTreeMap<GatewayId, GatewayLog>,
}

impl CommandLog {
    /// Takes a committed entry.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::Command {
                gateway,
                issued,
                command,
            } => {
                let log = self.gateways.entry(gateway.clone()).or_default();
                log.highest = log.highest.max(command.number);
                let subject = Subject::of(&command.action);
                let failures = match log.subjects.get(&subject) {
                    Some(former) if former.command.action == command.action && !former.is_done() => {
                        former.failures.saturating_add(1)
                    }
                    _ => 0,
                };
                let boot = command
                    .action
                    .node()
                    .and_then(|node| log.nodes.get(&node).copied());
                let standing = Standing {
                    command: (**command).clone(),
                    issued: *issued,
                    boot,
                    failures,
                    outcome: None,
                };
                log.subjects.insert(subject, standing);
                if log.subjects.len() > SUBJECTS_MAX {
                    let oldest = log.subjects.iter().min_by_key(|(_, standing)| standing.issued);
                    let oldest = oldest.map(|(subject, _)| *subject);
                    oldest.and_then(|subject| log.subjects.remove(&subject));
                }
            }
            Entry::CommandResult {
                gateway,
                received,
                result,
            } => {
                let log = self.gateways.entry(gateway.clone()).or_default();
                if result.highest <= NUMBER_MAX {
                    log.highest = log.highest.max(result.highest);
                }
                if let Some(standing) = log.standing_mut(result.number) {
                    standing.outcome.get_or_insert((result.outcome, *received));
                }
            }
            _ => {}
        }
    }

    /// Takes a committed block: a gateway's report of what it holds names its nodes.
    pub fn apply_block(&mut self, gateway: &GatewayId, block: &Block<'_>) {
        if block.envelope.kind != Kind::Status as u8 {
            return;
        }
        let Ok(Body::Status(holdings)) = block.decode() else {
            return;
        };
        let mut nodes = BTreeMap::new();
        for holding in holdings.map_while(Result::ok) {
            if nodes.len() < NODES_MAX || nodes.contains_key(&holding.node) {
                let newest = nodes.entry(holding.node).or_insert(holding.boot);
                *newest = holding.boot.max(*newest);
            }
        }
        self.gateways.entry(gateway.clone()).or_default().nodes = nodes;
    }

    /// Whether a result says anything that is not known: what else a gateway says is not journaled.
    pub fn is_news(&self, gateway: &GatewayId, result: &CommandResult) -> bool {
        let Some(log) = self.gateways.get(gateway) else {
            return (1..=NUMBER_MAX).contains(&result.highest);
        };
        let raises = (log.highest + 1..=NUMBER_MAX).contains(&result.highest);
        let answers = log
            .subjects
            .values()
            .any(|standing| standing.command.number == result.number && standing.outcome.is_none());
        raises || answers
    }

    /// Of each gateway that was ever commanded, the last command about each subject.
    pub fn standings(
        &self,
    ) -> impl Iterator<Item = (&GatewayId, impl Iterator<Item = (&Subject, &Standing)>)> {
        self.gateways
            .iter()
            .map(|(gateway, log)| (gateway, log.subjects.iter()))
    }
}

impl GatewayLog {
    fn standing_mut(&mut self, number: u64) -> Option<&mut Standing> {
        self.subjects
            .values_mut()
            .find(|standing| standing.command.number == number)
    }

    /// The command that has not been answered, if one is still good.
    fn open(&self, now: EventTime) -> Option<(&Subject, &Standing)> {
        self.subjects
            .iter()
            .find(|(_, standing)| standing.command.number == self.highest && standing.is_open(now))
    }

    /// What is wanted of a subject now, if anything.
    fn wish(&self, gateway: &GatewayId, subject: Subject, wanted: &Wanted) -> Option<Action> {
        let is_managed = self.subjects.contains_key(&subject);
        let is_watching = wanted.watching.contains(gateway);
        match subject {
            Subject::Gateway => match wanted.gateways.get(gateway) {
                Some(settings) => Some(Action::Gateway(*settings)),
                // No longer listed: as its own configuration says.
                None => is_managed.then(|| Action::Gateway(GatewaySettings::default())),
            },
            Subject::Settings(node) => {
                let plans = wanted.nodes.get(&node);
                (plans.is_some() || is_managed).then(|| Action::Settings {
                    node,
                    plans: plans.into_iter().flatten().copied().collect(),
                })
            }
            Subject::Watch(node, channel) => {
                let watch = wanted.watches.get(&(node, channel)).filter(|_| is_watching);
                let watch = watch.cloned();
                (watch.is_some() || is_managed).then_some(Action::Watch { node, channel, watch })
            }
            Subject::Search(node, channel) => {
                let search = wanted.searches.get(&(node, channel)).filter(|_| is_watching);
                let search = search.cloned();
                (search.is_some() || is_managed).then_some(Action::Search {
                    node,
                    channel,
                    search,
                })
            }
            Subject::Examine(node, channel) => {
                let examinations = &wanted.examinations;
                let spectra = examinations.get(&(node, channel)).filter(|_| is_watching);
                let spectra = spectra.cloned();
                (spectra.is_some() || is_managed).then_some(Action::Examine {
                    node,
                    channel,
                    spectra,
                })
            }
            Subject::Unusual(node, channel) => {
                let unusual = wanted.unusuals.get(&(node, channel)).filter(|_| is_watching);
                let unusual = unusual.and_then(|unusual| self.heard_of(unusual));
                (unusual.is_some() || is_managed).then_some(Action::Unusual {
                    node,
                    channel,
                    unusual,
                })
            }
            Subject::Order(_) => None,
        }
    }

    /// What it can judge of that: a group only where it hears all of its channels.
    fn heard_of(&self, unusual: &UnusualWatch) -> Option<UnusualWatch> {
        let hears = |group: &&GroupWatch| group.row().all(|(node, _)| self.nodes.contains_key(&node));
        let heard = UnusualWatch {
            alone_ns: unusual.alone_ns,
            group: unusual.group.as_ref().filter(hears).cloned(),
        };
        (heard.alone_ns.is_some() || heard.group.is_some()).then_some(heard)
    }

    /// Channels that the gateway is to watch, or was told to. Where there are more than it can watch, slow ones
    /// are left out first.
    fn watched(&self, gateway: &GatewayId, wanted: &Wanted) -> BTreeSet<(NodeId, ChannelId)> {
        let is_watching = wanted.watching.contains(gateway);
        let is_here = |(node, _): &&(NodeId, ChannelId)| is_watching && self.nodes.contains_key(node);
        let of_kind = |is_slow: bool| {
            let watches = wanted.watches.iter();
            let of_kind = watches.filter(move |(_, watch)| watch.slow.is_some() == is_slow);
            of_kind.map(|(name, _)| name).filter(is_here)
        };
        let wished = of_kind(false).chain(of_kind(true)).take(WATCHES_MAX).copied();
        let managed = self.subjects.keys().filter_map(|subject| match subject {
            Subject::Watch(node, channel) => Some((*node, *channel)),
            Subject::Gateway
            | Subject::Settings(_)
            | Subject::Search(..)
            | Subject::Examine(..)
            | Subject::Unusual(..)
            | Subject::Order(_) => None,
        });
        wished.chain(managed).collect()
    }

    /// What it is to do with those beside watching them, or was told to.
    fn looked_into(&self, watched: &BTreeSet<(NodeId, ChannelId)>, wanted: &Wanted) -> Vec<Subject> {
        let subjects = watched.iter().flat_map(|&(node, channel)| {
            let name = (node, channel);
            [
                (
                    Subject::Search(node, channel),
                    wanted.searches.contains_key(&name),
                ),
                (
                    Subject::Examine(node, channel),
                    wanted.examinations.contains_key(&name),
                ),
                (
                    Subject::Unusual(node, channel),
                    wanted.unusuals.contains_key(&name),
                ),
            ]
        });
        let wished =
            subjects.filter(|(subject, is_wished)| *is_wished || self.subjects.contains_key(subject));
        wished.map(|(subject, _)| subject).collect()
    }

    /// The first wish that is neither in effect nor has to wait.
    fn next_wish(&self, gateway: &GatewayId, wanted: &Wanted, now: EventTime) -> Option<Action> {
        let nodes = self.nodes.keys().map(|node| Subject::Settings(*node));
        let watched = self.watched(gateway, wanted);
        let looked_into = self.looked_into(&watched, wanted);
        let watched = watched.into_iter();
        let watched = watched.map(|(node, channel)| Subject::Watch(node, channel));
        let mut subjects = std::iter::once(Subject::Gateway)
            .chain(nodes)
            .chain(watched)
            .chain(looked_into);
        subjects.find_map(|subject| {
            let action = self.wish(gateway, subject, wanted)?;
            let boot = action.node().and_then(|node| self.nodes.get(&node).copied());
            let is_due = match self.subjects.get(&subject) {
                Some(standing) if standing.command.action == action && standing.boot == boot => {
                    !standing.is_done() && !standing.is_open(now) && standing.due() <= now
                }
                // Another wish, or another life of the node, which is asked whether it still knows.
                _ => true,
            };
            is_due.then_some(action)
        })
    }
}

/// What is to be done.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Journal it, and send it when that is durable.
    Issue(GatewayId, Command),
    /// Send it once more.
    Resend(GatewayId, Command),
}

/// Compares what is wanted with what is so.
#[derive(Debug, Default)]
pub struct Desk {
    wanted: Wanted,
    orders: VecDeque<Order>,
    /// By gateway, the number sent last, when, and how often before.
    sent: BTreeMap<GatewayId, (u64, EventTime, u32)>,
}

/// What a person asked for.
#[derive(Clone, PartialEq, Debug)]
struct Order {
    action: Action,
    since: EventTime,
    /// To whom it has been given.
    given: BTreeSet<GatewayId>,
}

impl Desk {
    /// This is wanted from now on.
    pub fn want(&mut self, wanted: Wanted) {
        self.wanted = wanted;
    }

    /// A person asks for an action, once; false when too many wait already.
    pub fn order(&mut self, action: Action, now: EventTime) -> bool {
        let has_room = self.orders.len() < ORDERS_MAX;
        if has_room {
            self.orders.push_back(Order {
                action,
                since: now,
                given: BTreeSet::new(),
            });
        }
        has_room
    }

    /// What to tell the gateways that are `connected`.
    pub fn poll(&mut self, log: &CommandLog, connected: &[GatewayId], now: EventTime) -> Vec<Step> {
        let mut steps = Vec::new();
        let nothing = GatewayLog::default();
        for gateway in connected {
            let log = log.gateways.get(gateway).unwrap_or(&nothing);
            let open = log.open(now);
            let is_outdated = open.is_some_and(|(subject, standing)| {
                let wish = log.wish(gateway, *subject, &self.wanted);
                wish.is_some_and(|wish| wish != standing.command.action)
            });
            if let Some((_, standing)) = open
                && !is_outdated
            {
                if self.is_send_due(gateway, standing.command.number, now) {
                    steps.push(Step::Resend(gateway.clone(), standing.command.clone()));
                }
                continue;
            }
            let action = match self.take_order(gateway, log) {
                Some(action) => Some(action),
                None => log.next_wish(gateway, &self.wanted, now),
            };
            if let Some(action) = action {
                let command = Command {
                    number: log.highest + 1,
                    expires: now.plus_nanos(GOOD_FOR),
                    action,
                };
                self.sent.insert(gateway.clone(), (command.number, now, 0));
                steps.push(Step::Issue(gateway.clone(), command));
            }
        }
        self.orders.retain(|order| {
            let is_good = (0..ORDER_PATIENCE).contains(&now.nanos_since(order.since));
            if !is_good && order.given.is_empty() {
                tracing::warn!(action = ?order.action, "an order is given up: no connected gateway has the node");
            }
            is_good
        });
        steps
    }

    /// The first order for a node of this gateway that it has not been given yet.
    fn take_order(&mut self, gateway: &GatewayId, log: &GatewayLog) -> Option<Action> {
        let order = self.orders.iter_mut().find(|order| {
            let node = order.action.node();
            node.is_some_and(|node| log.nodes.contains_key(&node)) && !order.given.contains(gateway)
        })?;
        order.given.insert(gateway.clone());
        Some(order.action.clone())
    }

    fn is_send_due(&mut self, gateway: &GatewayId, number: u64, now: EventTime) -> bool {
        let sent = self.sent.get(gateway).filter(|(sent, ..)| *sent == number);
        let times = match sent {
            // Not by this process.
            None => 0,
            Some((_, at, times)) => {
                let waited = now.nanos_since(*at);
                if (0..backoff(RESEND, *times)).contains(&waited) {
                    return false;
                }
                times + 1
            }
        };
        self.sent.insert(gateway.clone(), (number, now, times));
        true
    }

    /// What people see: every subject of every gateway, and whether it is as wanted.
    pub fn rows(&self, log: &CommandLog) -> BTreeMap<GatewayId, Vec<CommandRow>> {
        let mut rows = BTreeMap::new();
        for (gateway, log) in &log.gateways {
            let mut subjects: BTreeSet<Subject> = log.subjects.keys().copied().collect();
            subjects.extend(log.nodes.keys().map(|node| Subject::Settings(*node)));
            subjects.insert(Subject::Gateway);
            let of = subjects.into_iter().filter_map(|subject| {
                let standing = log.subjects.get(&subject);
                let wish = log.wish(gateway, subject, &self.wanted);
                let wanted = wish.or_else(|| standing.map(|standing| standing.command.action.clone()))?;
                Some(CommandRow {
                    in_effect: standing
                        .is_some_and(|standing| standing.command.action == wanted && standing.is_done()),
                    wanted,
                    last: standing.cloned(),
                })
            });
            rows.insert(gateway.clone(), of.collect());
        }
        rows
    }
}

/// One subject, for people.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct CommandRow {
    /// What is wanted.
    pub wanted: Action,
    /// Whether that was confirmed.
    pub in_effect: bool,
    /// The last command about it.
    pub last: Option<Standing>,
}
