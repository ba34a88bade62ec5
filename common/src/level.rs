//! Levels of an alarm, and when one is believed and when it is over.
//!
//! One window may err; a fault does not go away. A level is raised when `required` of the last `of` windows
//! reach it, and held until, of the last [`Latch::CLEAR_WINDOWS`] windows that were decided on, at most
//! [`Latch::CLEAR_SUPPORT`] reaches it. So a value on the verge does not come and go. A window that could not be decided on keeps
//! its place among the last and supports nothing, and it clears nothing: a machine that is not observed is
//! not mended.

use serde::{Deserialize, Serialize};

/// How bad it is. The order is that of severity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Nothing to tell.
    #[default]
    Normal,
    /// A change that somebody should look into: ALERT.
    Alert,
    /// Bad enough to act on at the next occasion: zone D, or far off the normal.
    Alarm,
    /// Above the TRIP limit: stop it.
    Trip,
}

impl Level {
    /// The name on the API.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::Alert => "alert",
            Self::Alarm => "alarm",
            Self::Trip => "trip",
        }
    }

    const fn from_bits(bits: u32) -> Self {
        match bits & 3 {
            0 => Self::Normal,
            1 => Self::Alert,
            2 => Self::Alarm,
            _ => Self::Trip,
        }
    }
}

/// How many windows must agree before a level is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Persistence {
    required: u8,
    of: u8,
}

impl Persistence {
    /// Windows looked back on at most: no more than an alarm is cleared on.
    pub const LONGEST: u8 = Latch::CLEAR_WINDOWS as u8;

    /// `required` of the last `of` windows; none unless it is a majority of at most [`Self::LONGEST`].
    pub const fn new(required: u8, of: u8) -> Option<Self> {
        if of <= Self::LONGEST && required <= of && 2 * required > of {
            Some(Self { required, of })
        } else {
            None
        }
    }
}

impl Default for Persistence {
    /// 3 of 5, as the collector believes in a fault that it has found.
    fn default() -> Self {
        Self { required: 3, of: 5 }
    }
}

/// The level held, and the windows that decide on it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Latch {
    held: Level,
    /// What the last windows reached, two bits each, the newest in the lowest; an undecided one as normal.
    recent: u32,
    /// The same of decided windows.
    decided: u32,
    /// Decided windows since the level last changed, [`Self::CLEAR_WINDOWS`] at most.
    since_change: u8,
}

impl Latch {
    /// Decided windows looked back on before a level is given up.
    pub const CLEAR_WINDOWS: usize = 10;

    /// How many of them may still reach it.
    pub const CLEAR_SUPPORT: usize = 1;

    /// A limit that has been passed counts as passed until the value is below this share of it.
    pub const HYSTERESIS: f32 = 0.9;

    /// The level held.
    pub const fn held(&self) -> Level {
        self.held
    }

    /// Whether nothing is held and none of the last windows reaches anything: it says no more than a new one.
    pub const fn is_idle(&self) -> bool {
        matches!(self.held, Level::Normal) && self.recent == 0 && self.decided == 0
    }

    /// What `limit` is for a value that is to reach `level`: lower while that is held, below zero too.
    pub fn effective(&self, limit: f32, level: Level) -> f32 {
        if self.held < level {
            limit
        } else if limit < 0.0 {
            (2.0 - Self::HYSTERESIS) * limit
        } else {
            Self::HYSTERESIS * limit
        }
    }

    /// Takes what the next window reaches, none when it was not decided on. Returns the level held before,
    /// if it is another one now.
    pub fn handle_window(&mut self, reached: Option<Level>, persistence: Persistence) -> Option<Level> {
        let push = |last: u32, level: Level| (last << 2 | level as u32) & MASK;
        self.recent = push(self.recent, reached.unwrap_or_default());
        if let Some(level) = reached {
            self.decided = push(self.decided, level);
            self.since_change = (self.since_change + 1).min(Self::CLEAR_WINDOWS as u8);
        }
        let believed = nth_highest(self.recent, persistence.of.into(), persistence.required.into());
        let before = self.held;
        if reached.is_some() && believed > self.held {
            self.held = believed;
        } else if reached.is_some() && usize::from(self.since_change) == Self::CLEAR_WINDOWS {
            let left = nth_highest(self.decided, Self::CLEAR_WINDOWS, Self::CLEAR_SUPPORT + 1);
            self.held = self.held.min(left);
        }
        if self.held == before {
            return None;
        }
        self.since_change = 0;
        Some(before)
    }

    /// So many windows never came: each keeps its place and supports nothing.
    pub fn handle_gap(&mut self, windows: u64) {
        for _ in 0..windows.min(Self::CLEAR_WINDOWS as u64) {
            self.recent = self.recent << 2 & MASK;
        }
    }
}

const MASK: u32 = (1 << (2 * Latch::CLEAR_WINDOWS)) - 1;

/// The highest level that `n` of the newest `of` windows reach.
fn nth_highest(windows: u32, of: usize, n: usize) -> Level {
    let reaching = |level: Level| {
        let reaches = |place: &usize| Level::from_bits(windows >> (2 * place)) >= level;
        (0..of).filter(reaches).count()
    };
    [Level::Trip, Level::Alarm, Level::Alert]
        .into_iter()
        .find(|level| reaching(*level) >= n)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(letter: char) -> Level {
        match letter {
            'a' => Level::Alert,
            'l' => Level::Alarm,
            't' => Level::Trip,
            _ => Level::Normal,
        }
    }

    /// Windows by letter: `.` normal, `a` alert, `l` alarm, `t` trip, `?` undecided. Says what is held after
    /// each, by the same letters.
    fn check(windows: &str, held: &str) {
        let mut latch = Latch::default();
        for (place, (window, held)) in windows.chars().zip(held.chars()).enumerate() {
            let before = latch.held();
            let change = latch.handle_window((window != '?').then(|| level(window)), Persistence::default());
            assert_eq!(latch.held(), level(held), "after window {place} of {windows}");
            assert_eq!(change, (before != latch.held()).then_some(before));
        }
        assert_eq!(windows.len(), held.len());
    }

    #[test]
    fn three_of_five_windows_raise_a_level_and_two_do_not() {
        check("aaa", "..a");
        check("a.a.a", "....a");
        check("aa...a", "......");
        check("alt", "..a");
        check("altt", "..al");
        check("alttt", "..alt");
    }

    #[test]
    fn an_undecided_window_keeps_its_place_and_supports_nothing() {
        check("aa?a", "...a");
        check("aa???a", "......");
        check("??????????????", "..............");
    }

    #[test]
    fn a_level_is_held_until_ten_decided_windows_show_it_once_at_most() {
        check("aaa.........", "..aaaaaaaaaa");
        check("aaa..........", "..aaaaaaaaaa.");
        check("aaa...........", "..aaaaaaaaaa..");
        check("aaa.....a.....", "..aaaaaaaaaa..");
        check("aaa..a..a.....", "..aaaaaaaaaaaa");
        check("aaa??????????.", "..aaaaaaaaaaaa");
    }

    #[test]
    fn a_trip_falls_to_what_is_left() {
        check("tttaaaaaaaaaa", "..tttttttttta");
        check("tttaaaaaaaaaa.....", "..ttttttttttaaaaaa");
    }

    #[test]
    fn what_lies_around_an_outage_does_not_add_up() {
        for (missing, held) in [(2, Level::Alert), (3, Level::Normal), (u64::MAX, Level::Normal)] {
            let mut latch = Latch::default();
            latch.handle_window(Some(Level::Alert), Persistence::default());
            latch.handle_window(Some(Level::Alert), Persistence::default());
            latch.handle_gap(missing);
            latch.handle_window(Some(Level::Alert), Persistence::default());
            assert_eq!(latch.held(), held, "{missing}");
        }
    }

    #[test]
    fn a_limit_once_passed_is_lower_until_it_is_over() {
        let mut latch = Latch::default();
        assert_eq!(latch.effective(10.0, Level::Alert), 10.0);
        for _ in 0..3 {
            latch.handle_window(Some(Level::Alert), Persistence::default());
        }
        assert_eq!(latch.effective(10.0, Level::Alert), 9.0);
        assert_eq!(latch.effective(10.0, Level::Alarm), 10.0);
    }

    #[test]
    fn only_a_majority_is_a_persistence() {
        assert!(Persistence::new(3, 5).is_some());
        assert!(Persistence::new(2, 4).is_none());
        assert!(Persistence::new(6, 5).is_none());
        assert!(Persistence::new(0, 0).is_none());
        assert!(Persistence::new(6, 11).is_none());
    }
}
