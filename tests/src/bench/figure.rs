//! A measured figure, its goal, and the report that holds them.

use serde::Serialize;
use std::borrow::Cow;

/// Which way a figure improves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// More is better.
    Higher,
    /// Less is better.
    Lower,
}

/// One figure.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Figure {
    /// Its name, which never changes.
    pub name: Cow<'static, str>,
    /// What was measured; nothing when it could not be.
    pub value: Option<f64>,
    /// In what.
    pub unit: &'static str,
    /// What it must reach, unless it is the peer's.
    pub goal: Option<f64>,
    /// Which way it improves.
    pub better: Better,
    /// Whom it is compared with.
    pub peer: Option<Cow<'static, str>>,
    /// What the peer reached in the same run.
    pub peer_value: Option<f64>,
    /// Why there is no value, if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Figure {
    /// A figure that is the better the lower it is, not measured yet.
    pub const fn at_most(name: &'static str, goal: f64, unit: &'static str) -> Self {
        Self::new(name, Some(goal), unit, Better::Lower)
    }

    /// A figure that is the better the higher it is, not measured yet.
    pub const fn at_least(name: &'static str, goal: f64, unit: &'static str) -> Self {
        Self::new(name, Some(goal), unit, Better::Higher)
    }

    /// A figure of a peer, who owes us nothing: the better the higher, not measured yet.
    pub const fn of_peer(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, None, unit, Better::Higher)
    }

    /// A figure without a goal, the better the lower it is, not measured yet.
    pub const fn told(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, None, unit, Better::Lower)
    }

    /// A figure without a goal, the better the higher it is, not measured yet.
    pub const fn told_higher(name: &'static str, unit: &'static str) -> Self {
        Self::new(name, None, unit, Better::Higher)
    }

    const fn new(name: &'static str, goal: Option<f64>, unit: &'static str, better: Better) -> Self {
        Self {
            name: Cow::Borrowed(name),
            value: None,
            unit,
            goal,
            better,
            peer: None,
            peer_value: None,
            reason: None,
        }
    }

    /// Under a name that the data gives: of a set, a folder, a machine.
    pub fn named(self, name: impl Into<String>) -> Self {
        Self {
            name: Cow::Owned(name.into()),
            ..self
        }
    }

    /// With what was measured.
    pub fn measured(self, value: f64) -> Self {
        Self {
            value: Some(value),
            ..self
        }
    }

    /// Without a value, and why.
    pub fn missing(self, reason: impl Into<String>) -> Self {
        Self {
            reason: Some(reason.into()),
            ..self
        }
    }

    /// Whether the goal is reached; `None` when nothing was measured, or there is none.
    pub fn is_reached(&self) -> Option<bool> {
        let (value, goal) = self.value.zip(self.goal)?;
        Some(match self.better {
            Better::Higher => value >= goal,
            Better::Lower => value <= goal,
        })
    }
}

/// Figures of one run on one machine.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Report {
    /// Processors and memory.
    pub machine: String,
    /// The commit that was measured.
    pub commit: String,
    /// The figures.
    pub figures: Vec<Figure>,
}

impl Report {
    /// A report of this machine.
    pub fn new(commit: String, figures: Vec<Figure>) -> Self {
        Self {
            machine: machine(),
            commit,
            figures,
        }
    }

    /// The same as a table.
    pub fn table(&self) -> String {
        let mut text = format!("{}, commit {}\n\n", self.machine, self.commit);
        for figure in &self.figures {
            let Figure { name, unit, .. } = figure;
            let goal = figure.goal.map_or_else(String::new, |goal| match figure.better {
                Better::Higher => format!(">= {goal}"),
                Better::Lower => format!("<= {goal}"),
            });
            let (value, verdict) = match (figure.value, figure.is_reached()) {
                (Some(value), Some(true)) => (format!("{value:.3}"), "reached".to_owned()),
                (Some(value), Some(false)) => (format!("{value:.3}"), "missed".to_owned()),
                (Some(value), None) => (format!("{value:.3}"), String::new()),
                (None, _) => (
                    "-".to_owned(),
                    format!(
                        "not measured: {}",
                        figure.reason.as_deref().unwrap_or("no reason given")
                    ),
                ),
            };
            text += &format!("  {name:<34} {value:>12} {unit:<8} {goal:<8} {verdict}\n");
            if let (Some(peer), Some(value)) = (&figure.peer, figure.peer_value) {
                text += &format!("  {:<34} {value:>12.3} {unit:<8} {peer}\n", "");
            }
        }
        text
    }
}

/// The processors and the memory of this machine, as the kernel tells them.
fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    describe(&cpus, &memory)
}

fn describe(cpuinfo: &str, meminfo: &str) -> String {
    let field = |text: &str, name: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.split_once(':'))
            .filter(|(key, _)| key.trim() == name)
            .map(|(_, value)| value.trim().to_owned())
            .collect()
    };
    let models = field(cpuinfo, "model name");
    let model = models.first().map_or("unknown processor", String::as_str);
    let kib = field(meminfo, "MemTotal").first().and_then(|total| {
        let kib = total.strip_suffix("kB")?.trim();
        kib.parse::<f64>().ok()
    });
    let gib = kib.map_or_else(
        || "unknown".to_owned(),
        |kib| format!("{:.0} GiB", kib / 1_048_576.0),
    );
    format!("{} x {model}, {gib} memory", models.len().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_its_processors_and_its_memory() {
        let cpus = "processor\t: 0\nmodel name\t: Fast 3000\n\nprocessor\t: 1\nmodel name\t: Fast 3000\n";
        assert_eq!(
            describe(cpus, "MemTotal:       25165824 kB\n"),
            "2 x Fast 3000, 24 GiB memory"
        );
        assert_eq!(describe("", ""), "1 x unknown processor, unknown memory");
    }

    #[test]
    fn a_figure_says_whether_its_goal_is_reached() {
        let speed = Figure::at_least("speed", 100.0, "MB/s");
        assert_eq!(speed.clone().measured(99.0).is_reached(), Some(false));
        assert_eq!(speed.clone().measured(100.0).is_reached(), Some(true));
        let memory = Figure::at_most("memory", 32.0, "MiB");
        assert_eq!(memory.measured(33.0).is_reached(), Some(false));
        assert_eq!(speed.missing("no network").is_reached(), None);
        assert_eq!(Figure::of_peer("peer", "MB/s").measured(1.0).is_reached(), None);
    }

    #[test]
    fn a_figure_without_a_value_is_listed_with_the_reason() {
        let figure = Figure::at_least("speed", 100.0, "MB/s").missing("no network");
        let report = Report::new("abc".to_owned(), vec![figure]);
        assert!(report.table().contains("not measured: no network"));
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["figures"][0]["value"], serde_json::Value::Null);
        assert_eq!(json["figures"][0]["reason"], "no network");
    }
}
