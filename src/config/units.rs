//! Sizes, durations and "auto", as they stand in a configuration.

use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

use crate::base::{parse_secs, parse_size, show_size};

/// A number of bytes: `4294967296`, `"4 GiB"`, `"500MB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// A duration in seconds: `0.5`, `"500 ms"`, `"5 minutes"`, `"1h"`.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Secs(pub f64);

/// A duration, or never: `"none"` where Dask's YAML says `null`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MaybeSecs(pub Option<f64>);

/// A value, or `"auto"`: found out on the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auto<T> {
    /// Found out.
    Auto,
    /// Said.
    Set(T),
}

impl<T: Copy> Auto<T> {
    /// What was said.
    pub const fn set(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Set(value) => Some(value),
        }
    }
}

macro_rules! unit_serde {
    ($name:ident, $what:literal, $from_number:expr, $from_text:expr, $to_text:expr) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Reader;
                impl Visitor<'_> for Reader {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($what)
                    }
                    fn visit_i64<E: de::Error>(self, number: i64) -> Result<$name, E> {
                        $from_number(number as f64)
                            .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
                    }
                    fn visit_u64<E: de::Error>(self, number: u64) -> Result<$name, E> {
                        $from_number(number as f64)
                            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
                    }
                    fn visit_f64<E: de::Error>(self, number: f64) -> Result<$name, E> {
                        $from_number(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$name, E> {
                        $from_text(text).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
                    }
                }
                deserializer.deserialize_any(Reader)
            }
        }
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&$to_text(*self))
            }
        }
    };
}

fn number_at_least_zero(number: f64) -> Option<f64> {
    (number.is_finite() && number >= 0.0).then_some(number)
}

unit_serde!(
    ByteSize,
    "a size like \"4 GiB\" or a number of bytes",
    |n: f64| number_at_least_zero(n).map(|n| ByteSize(n as u64)),
    |text: &str| parse_size(text).map(ByteSize),
    |size: ByteSize| show_size(size.0)
);
unit_serde!(
    Secs,
    "a duration like \"5 minutes\" or a number of seconds",
    |n: f64| number_at_least_zero(n).map(Secs),
    |text: &str| parse_secs(text).map(Secs),
    |secs: Secs| format!("{}s", secs.0)
);
unit_serde!(
    MaybeSecs,
    "a duration like \"5 minutes\", a number of seconds, or \"none\"",
    |n: f64| number_at_least_zero(n).map(|n| MaybeSecs(Some(n))),
    |text: &str| if text.eq_ignore_ascii_case("none") {
        Some(MaybeSecs(None))
    } else {
        parse_secs(text).map(|secs| MaybeSecs(Some(secs)))
    },
    |secs: MaybeSecs| secs.0.map_or_else(|| "none".to_owned(), |secs| format!("{secs}s"))
);

/// `"auto"`, or what `T` accepts.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Auto<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected \"auto\" or a value")]
        enum Either<T> {
            Word(AutoWord),
            Value(T),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum AutoWord {
            Auto,
        }
        Ok(match Either::deserialize(deserializer)? {
            Either::Word(AutoWord::Auto) => Self::Auto,
            Either::Value(value) => Self::Set(value),
        })
    }
}

impl<T: Serialize> Serialize for Auto<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Set(value) => value.serialize(serializer),
        }
    }
}

/// A factor above zero; `"inf"` is one.
pub(super) fn positive_or_inf<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    struct Reader;
    impl Visitor<'_> for Reader {
        type Value = f64;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a number above 0, or \"inf\"")
        }
        fn visit_i64<E: de::Error>(self, number: i64) -> Result<f64, E> {
            self.visit_f64(number as f64)
        }
        fn visit_f64<E: de::Error>(self, number: f64) -> Result<f64, E> {
            let good = number > 0.0;
            good.then_some(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
        }
        fn visit_str<E: de::Error>(self, text: &str) -> Result<f64, E> {
            let number = text.parse::<f64>().ok().filter(|number| *number > 0.0);
            number.ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
    deserializer.deserialize_any(Reader)
}
