//! `[[stream]]`: windows over slow channels beside those that are always there.

use super::document::{self, Fault, Placed, Problems, Section};
use crate::settings::stream::{Key, PATTERN_BYTES_MAX, STREAMS_MAX, Selector, StreamFault, StreamSettings};
use crate::window::shape::{self, OVERLAP_MAX};
use crate::window::stream::Emit;
use serde::de::DeserializeOwned;
use serde::de::value::{Error, StrDeserializer};
use std::ops::{Range, RangeInclusive};
use toml::de::DeValue;
use trunnion_common::quantity::{Quantity, Unit};

/// From a tenth of a second to a day.
const LENGTH_MS: RangeInclusive<u64> = 100..=86_400_000;

/// At most a week: so long is each window kept in memory.
const LATENESS_MS: RangeInclusive<u64> = 0..=7 * 86_400_000;

/// The streams in the order of the file. Those with a problem are left out.
pub(super) fn read(root: &mut Section<'_, '_>, problems: &mut Problems<'_>) -> Vec<StreamSettings> {
    let mut streams: Vec<StreamSettings> = Vec::new();
    for (at, section) in root.sections("stream", problems).into_iter().enumerate() {
        let place = section.place();
        if at == STREAMS_MAX {
            let what = format!("stream is the {}th, one more than there can be", at + 1);
            let fix =
                format!("keep {STREAMS_MAX} streams at most: each costs memory for every channel in it");
            problems.add(place, Fault::new(what, fix));
            break;
        }
        let Some((name, stream)) = read_stream(section, problems) else {
            continue;
        };
        if let Err(fault) = stream.check() {
            problems.add(place, impossible(fault));
        } else if streams.iter().any(|other| other.name == stream.name) {
            let what = format!("stream.name is {:?}, as another stream's is", stream.name);
            problems.add(name, Fault::new(what, "give each a name of its own"));
        } else {
            streams.push(stream);
        }
    }
    streams
}

/// A stream and where its name stands. `None` only when a problem was added.
fn read_stream(
    mut section: Section<'_, '_>,
    problems: &mut Problems<'_>,
) -> Option<(Range<usize>, StreamSettings)> {
    let name = section.required("name", "\"bearing-temperature\"", name, problems);
    let select = Selector {
        quantity: taken(section.optional("quantity", quantity, problems)),
        unit: taken(section.optional("unit", unit, problems)),
        asset: taken(section.optional("asset", pattern, problems)),
        point: taken(section.optional("point", pattern, problems)),
        channel: taken(section.optional("channel", pattern, problems)),
    };
    // Without its kind nobody knows which lengths a window has, and what else stands there may be right.
    let window = section.required(
        "window",
        "\"tumbling\", \"hopping\" or \"session\"",
        kind,
        problems,
    )?;
    let mut length = |key, example| {
        let length = section.required(key, example, |value| nanos(value, LENGTH_MS), problems);
        length.map(|length| length.value)
    };
    let shape = match window.value {
        Kind::Tumbling => length("size_ms", "60000").map(|size_ns| shape::Kind::Tumbling { size_ns }),
        Kind::Hopping => {
            let (size, slide) = (length("size_ms", "600000"), length("slide_ms", "60000"));
            size.zip(slide)
                .map(|(size_ns, slide_ns)| shape::Kind::Hopping { size_ns, slide_ns })
        }
        Kind::Session => length("gap_ms", "30000").map(|gap_ns| shape::Kind::Session { gap_ns }),
    };
    let offset = match window.value {
        Kind::Tumbling | Kind::Hopping => {
            section.optional("offset_ms", |value| nanos(value, 0..=*LENGTH_MS.end()), problems)
        }
        Kind::Session => None,
    };
    let lateness = section.optional("lateness_ms", |value| nanos(value, LATENESS_MS), problems);
    let key = section.optional("key", key, problems);
    let emit = section.optional("emit", emit, problems);
    let quantiles = section.optional("quantiles", document::boolean, problems);
    section.finish(problems);
    let name = name?;
    let stream = StreamSettings {
        name: name.value,
        offset_ns: taken(offset).unwrap_or(0),
        lateness_ns: taken(lateness).unwrap_or(0),
        key: taken(key).unwrap_or(Key::Channel),
        emit: taken(emit).unwrap_or(Emit::Close),
        quantiles: taken(quantiles).unwrap_or(false),
        shape: shape?,
        select,
    };
    Some((name.place, stream))
}

/// What is wrong with a stream whose fields are each right.
fn impossible(fault: StreamFault) -> Fault {
    let fix = match fault {
        StreamFault::NoMultiple => "make size_ms a multiple of slide_ms".to_owned(),
        StreamFault::TooManyHops => format!("let size_ms be {OVERLAP_MAX} times slide_ms at most"),
        StreamFault::NoUnit => "add unit = with the unit in which the asset's channels are told".to_owned(),
        StreamFault::Length | StreamFault::Offset | StreamFault::Name | StreamFault::Pattern => {
            "correct the field".to_owned()
        }
    };
    Fault::new(format!("stream {fault}"), fix)
}

/// The kind of a window.
enum Kind {
    Tumbling,
    Hopping,
    Session,
}

fn kind(value: &DeValue<'_>) -> Result<Kind, Fault> {
    match document::text(value)? {
        "tumbling" => Ok(Kind::Tumbling),
        "hopping" => Ok(Kind::Hopping),
        "session" => Ok(Kind::Session),
        other => Err(Fault::new(
            format!("is {other:?}, which is no kind of window"),
            "write \"tumbling\", \"hopping\" or \"session\"",
        )),
    }
}

fn key(value: &DeValue<'_>) -> Result<Key, Fault> {
    word(value, "is no key", "write \"channel\" (the default) or \"asset\"")
}

fn emit(value: &DeValue<'_>) -> Result<Emit, Fault> {
    word(
        value,
        "is no time to tell a window at",
        "write \"close\" (the default) or \"update\"",
    )
}

fn quantity(value: &DeValue<'_>) -> Result<Quantity, Fault> {
    word(
        value,
        "is no quantity",
        "write one as in the fleet file, such as \"temperature\"",
    )
}

fn unit(value: &DeValue<'_>) -> Result<Unit, Fault> {
    word(
        value,
        "is no unit",
        "write one as in the fleet file, such as \"degC\"",
    )
}

/// A value of a closed list.
fn word<T: DeserializeOwned>(value: &DeValue<'_>, what: &str, fix: &str) -> Result<T, Fault> {
    let text = document::text(value)?;
    T::deserialize(StrDeserializer::<Error>::new(text))
        .map_err(|_| Fault::new(format!("is {text:?}, which {what}"), fix))
}

fn name(value: &DeValue<'_>) -> Result<String, Fault> {
    super::name(value).map(|name| name.to_string())
}

/// An id, or a pattern of ids.
fn pattern(value: &DeValue<'_>) -> Result<String, Fault> {
    let text = document::text(value)?;
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'*');
    if text.len() <= PATTERN_BYTES_MAX && text.bytes().all(fits) {
        return Ok(text.to_owned());
    }
    Err(Fault::new(
        format!("is {text:?}, which no id can be like"),
        format!("use at most {PATTERN_BYTES_MAX} of a-z, 0-9 and -, with * for any of them"),
    ))
}

/// Milliseconds, as nanoseconds.
fn nanos(value: &DeValue<'_>, bounds: RangeInclusive<u64>) -> Result<i64, Fault> {
    document::whole(value, *bounds.start(), *bounds.end(), "milliseconds").map(|ms| ms as i64 * 1_000_000)
}

fn taken<T>(value: Option<Placed<T>>) -> Option<T> {
    value.map(|value| value.value)
}
