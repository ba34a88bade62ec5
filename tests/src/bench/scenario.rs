//! What can be measured by itself: a name, the figures that it gives, and how they are measured.

use super::figure::Figure;
use anyhow::Result;
use std::path::Path;
use trunnion_agent::tls::install_provider;

/// Hears a line now and then of what is being done.
pub type Progress<'a> = &'a mut dyn FnMut(&str);

/// Something to measure, at a scale `S`. Each area has a table of them.
#[derive(Debug)]
pub struct Scenario<S: 'static> {
    /// Its name on the command line.
    pub name: &'static str,
    /// Its figures, not measured yet.
    pub figures: &'static [Figure],
    /// Measures them in a folder of its own, which may not be there yet.
    pub measure: fn(&Path, &S, Progress<'_>) -> Result<Vec<Figure>>,
}

/// Measures these scenarios in folders below `dir`. One that fails leaves its figures without a value, and
/// says why.
pub fn measure<S>(
    dir: &Path,
    scale: &S,
    scenarios: &[&Scenario<S>],
    mut progress: impl FnMut(&str),
) -> Vec<Figure> {
    install_provider();
    let mut figures = Vec::new();
    for scenario in scenarios {
        progress(scenario.name);
        let dir = dir.join(scenario.name);
        match (scenario.measure)(&dir, scale, &mut progress) {
            Ok(measured) => figures.extend(measured),
            Err(error) => {
                let reason = format!("{error:#}");
                progress(&format!("not measured: {reason}"));
                let expected = scenario.figures.iter().cloned();
                figures.extend(expected.map(|figure| figure.missing(reason.clone())));
            }
        }
        // The next one's disk is its own, and a backlog takes gigabytes of it.
        if dir.exists()
            && let Err(error) = std::fs::remove_dir_all(&dir)
        {
            progress(&format!("{}: {error}", dir.display()));
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEED: [Figure; 1] = [Figure::at_least("speed", 1.0, "MB/s")];

    #[test]
    fn a_scenario_that_fails_leaves_its_figures_with_the_reason_and_the_next_one_is_measured() {
        const FAILS: Scenario<f64> = Scenario {
            name: "fails",
            figures: &SPEED,
            measure: |_, _, _| anyhow::bail!("no network"),
        };
        const WORKS: Scenario<f64> = Scenario {
            name: "works",
            figures: &SPEED,
            measure: |dir, scale, _| {
                std::fs::create_dir_all(dir)?;
                Ok(vec![SPEED[0].clone().measured(*scale)])
            },
        };
        let dir = tempfile::tempdir().unwrap();
        let figures = measure(dir.path(), &2.0, &[&FAILS, &WORKS], |_| ());
        assert_eq!(figures[0].reason.as_deref(), Some("no network"));
        assert_eq!(figures[1].value, Some(2.0));
        assert!(!dir.path().join("works").exists(), "its disk is given back");
    }
}
