//! How a story looks: lines, and on a terminal a bar below them.

use crate::interrupt::Interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::Duration;
use trunnion_tests::story::Audience;

/// The terminal that a story is told on.
pub(crate) struct Screen {
    /// What ends it early.
    pub(crate) interrupt: Interrupt,
    /// Only on a terminal, and only once machines run.
    bar: Option<ProgressBar>,
}

impl Screen {
    pub(crate) const fn new(interrupt: Interrupt) -> Self {
        Self { interrupt, bar: None }
    }

    /// Takes the bar away.
    pub(crate) fn close(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Audience for Screen {
    fn hear(&mut self, line: &str) {
        let line = format!("==> {line}");
        match &self.bar {
            // Lines go to the standard output, whatever the bar is drawn on.
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    fn watch(&mut self, played: Duration, whole: Duration) {
        if !std::io::stderr().is_terminal() {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(whole.as_millis() as u64);
            let style = ProgressStyle::with_template("    {bar:40} {percent:>3} %  {msg}");
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        bar.set_position(played.as_millis() as u64);
        bar.set_message(format!(
            "{:.0} of {:.0} s",
            played.as_secs_f64(),
            whole.as_secs_f64()
        ));
    }

    fn has_left(&mut self) -> bool {
        self.interrupt.has_come()
    }
}
