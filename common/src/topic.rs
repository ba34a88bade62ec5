//! The topic grammar: `trunnion/<up|down>/<site>/<gateway>/<kind>`, always five levels.

use crate::id::{GatewayId, Name};
use core::fmt::{self, Write};
use heapless::String;

/// What a message is about. Its direction follows from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// Up: blocks.
    Data,
    /// Up: what the gateway holds, on connection.
    Hello,
    /// Up: birth, heartbeat, last will.
    Status,
    /// Up: what became of a command.
    Result,
    /// Down: what is durable.
    Ack,
    /// Down: what was refused.
    Reject,
    /// Down: do this.
    Command,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Data,
        Self::Hello,
        Self::Status,
        Self::Result,
        Self::Ack,
        Self::Reject,
        Self::Command,
    ];

    /// The last level.
    pub const fn level(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Hello => "hello",
            Self::Status => "status",
            Self::Result => "result",
            Self::Ack => "ack",
            Self::Reject => "reject",
            Self::Command => "command",
        }
    }

    /// Whether gateways send it (otherwise they receive it).
    pub const fn is_up(self) -> bool {
        matches!(self, Self::Data | Self::Hello | Self::Status | Self::Result)
    }
}

/// Longest topic: fixed levels, two names of 32, separators.
pub const TOPIC_MAX: usize = 96;

/// A topic of the contract.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Topic {
    /// Whose.
    pub gateway: GatewayId,
    /// About what.
    pub kind: Kind,
}

impl Topic {
    /// Parses a topic; anything not exactly of the grammar is refused.
    pub fn parse(text: &str) -> Option<Self> {
        let mut levels = text.split('/');
        let (root, direction) = (levels.next()?, levels.next()?);
        let (site, gateway, kind) = (levels.next()?, levels.next()?, levels.next()?);
        if root != "trunnion" || levels.next().is_some() {
            return None;
        }
        let kind = Kind::ALL
            .into_iter()
            .find(|candidate| candidate.level() == kind)?;
        if direction != if kind.is_up() { "up" } else { "down" } {
            return None;
        }
        let gateway = GatewayId {
            site: Name::new(site).ok()?,
            gateway: Name::new(gateway).ok()?,
        };
        Some(Self { gateway, kind })
    }

    /// As text.
    pub fn text(&self) -> String<TOPIC_MAX> {
        let mut text = String::new();
        let written = write!(text, "{self}");
        debug_assert!(written.is_ok(), "two names of 32 fit");
        text
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.kind.is_up() { "up" } else { "down" };
        write!(
            f,
            "trunnion/{direction}/{}/{}/{}",
            self.gateway.site,
            self.gateway.gateway,
            self.kind.level()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_round_trips() {
        let long = "0123456789abcdef0123456789abcdef";
        for (site, gateway) in [("bremen", "gw-1"), (long, long)] {
            let gateway = GatewayId {
                site: Name::new(site).unwrap(),
                gateway: Name::new(gateway).unwrap(),
            };
            for kind in Kind::ALL {
                let topic = Topic {
                    gateway: gateway.clone(),
                    kind,
                };
                assert_eq!(Topic::parse(&topic.text()), Some(topic));
            }
        }
    }

    #[test]
    fn everything_else_is_no_topic() {
        for bad in [
            "",
            "trunnion",
            "trunnion/up/a/b",
            "trunnion/up/a/b/data/x",
            "trunnion/up/a/b/ack",
            "trunnion/down/a/b/data",
            "trunnion/up/a/+/data",
            "trunnion/up/a/b/#",
            "$SYS/up/a/b/data",
            "/trunnion/up/a/b/data",
            "trunnion/up/a/b/data/",
            "trunnion/up/a//data",
            "trunnion/up/A/b/data",
            "Trunnion/up/a/b/data",
            "trunnion/up/a/b/\0data",
        ] {
            assert_eq!(Topic::parse(bad), None, "{bad}");
        }
    }
}
