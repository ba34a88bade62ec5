//! What to do about an advisory, in a sentence or two.

use trunnion_common::feature::FeatureKind;
use trunnion_common::instrument::Fault;
use trunnion_common::level::Level;
use trunnion_diagnosis::bearing::Element;

/// ISO 13379-1:2012 asks that a diagnosis come with the action to take; how long a seeded or spalled
/// race lasts cannot be told from one finding, so none promises a time.
pub(crate) const fn of_bearing(element: Option<Element>) -> &'static str {
    match element {
        Some(Element::OuterRace) => {
            "Check lubrication, load and fit of the outer ring; plan to replace the bearing and look for spalling in its load zone."
        }
        Some(Element::InnerRace) => {
            "Check shaft fit and lubrication; plan to replace the bearing soon, as inner-race damage turns with the shaft and spreads."
        }
        Some(Element::Ball) => {
            "Check the lubricant for particles and water; plan to replace the bearing, as a damaged ball marks both races."
        }
        Some(Element::Cage) => {
            "Inspect the bearing at the next stop and replace it: a cage gives little further warning before it breaks."
        }
        None => {
            "The bearing shows impacts of an element that is not yet clear: check lubrication and measure again, closer and longer."
        }
    }
}

/// About an overall vibration at that level.
pub(crate) const fn of_severity(level: Level) -> &'static str {
    match level {
        Level::Normal | Level::Alert => {
            "Compare the three directions and look for what has changed: balance, alignment, foundation bolts, process. Measure a spectrum and plan a remedy at the next occasion."
        }
        Level::Alarm => {
            "The vibration can cause damage: find the cause now, lower speed or load if that helps, and plan a stop."
        }
        Level::Trip => {
            "The vibration is above the TRIP limit: stop the machine as soon as the process allows, and do not start it again before the cause is found."
        }
    }
}

/// About a feature that is off its limits or its normal.
pub(crate) const fn of_deviation(kind: FeatureKind) -> &'static str {
    match kind {
        FeatureKind::Peak
        | FeatureKind::PeakToPeak
        | FeatureKind::CrestFactor
        | FeatureKind::KurtosisExcess => {
            "The signal has become more impulsive: look for impacts, looseness, rubbing and early bearing damage, and check lubrication."
        }
        FeatureKind::Band1 | FeatureKind::Band2 | FeatureKind::Band3 | FeatureKind::Band4 => {
            "The vibration in this band is above its limit: look at what turns, meshes or flows at these frequencies, and measure a spectrum."
        }
        _ => {
            "This has not been normal for the machine in this regime: check what has changed in process and maintenance, and measure again."
        }
    }
}

/// About slow channels that are not as they were.
pub(crate) const fn of_unusual() -> &'static str {
    "The readings are not as they were while they were learned: look at the channels named first, and ask what has changed in process, load and maintenance. Declare limits for what must not happen."
}

/// About a feature that has moved off its normal over days.
pub(crate) const fn of_drift() -> &'static str {
    "The level has moved slowly and stays off its normal: look at the trend since the baseline was accepted, and ask what wears, loosens or fouls. After maintenance, or if this is how the machine is meant to run, have the normal learned anew."
}

/// About a decline that others of its kind have shown.
pub(crate) const fn of_remaining_life() -> &'static str {
    "Machines of its kind have read like this before they failed: plan the repair within the remaining life, order what it needs, and look at the machine in the meantime. After the repair enter the maintenance, so that it counts as new."
}

/// About an instrument.
pub(crate) const fn of_fault(fault: Fault) -> &'static str {
    match fault {
        Fault::Stuck => {
            "The sensor reports the same value again and again: restart the node, and replace the sensor if that does not help. The machine is not watched until then."
        }
        Fault::Clipped => {
            "The signal exceeds the sensor's range: use one with a wider range, or check its mounting. The machine is not graded on such windows."
        }
        Fault::CableOff => {
            "The signal is that of an open cable or of a sensor that has come off: check cable, connector and mounting. The machine is not watched until then."
        }
        Fault::Drift => {
            "The sensor's zero has moved far: check its mounting and temperature, and calibrate or replace it."
        }
        Fault::Silent => {
            "No data has come for three expected intervals: check node, line and gateway. Nothing is known of the machine until then."
        }
    }
}
