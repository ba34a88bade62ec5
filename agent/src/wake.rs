//! The loop's alarm clock: it rings in time, and sometimes once too often.

use std::pin::Pin;
use tokio::time::{Instant, Sleep, sleep_until};

/// Rings at the latest when it was last set to.
///
/// Deadlines mostly move into the future, and setting a timer of the runtime wakes the runtime once more.
/// So one that would ring earlier is left as it is: whoever is woken looks what is due, and sets it again.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// It is to ring at `at`.
    pub(crate) fn set(&mut self, at: Instant) {
        match &mut self.0 {
            Some(armed) if armed.deadline() <= at && !armed.is_elapsed() => {}
            Some(armed) => armed.as_mut().reset(at),
            none => *none = Some(Box::pin(sleep_until(at))),
        }
    }

    /// Waits for it; for ever when it was never set.
    pub(crate) async fn rings(&mut self) {
        match &mut self.0 {
            Some(armed) => armed.as_mut().await,
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    #[allow(
        clippy::disallowed_methods,
        reason = "the runtime's timer counts from an instant of its own"
    )]
    async fn an_alarm_rings_no_later_than_it_was_last_set_to_and_is_set_anew_when_it_has_rung() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut alarm = Alarm::default();
        let armed = |alarm: &Alarm| alarm.0.as_ref().unwrap().deadline();
        alarm.set(after(60));
        alarm.set(after(30));
        assert_eq!(armed(&alarm), after(30));
        alarm.set(after(90));
        assert_eq!(armed(&alarm), after(30), "once too often is cheaper");
        alarm.set(start);
        alarm.rings().await;
        alarm.set(after(90));
        assert_eq!(armed(&alarm), after(90));
    }
}
