//! A place in a stream, as text for clients.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Offset;

/// Before a row of each partition of one incarnation of a stream's log. Clients see an opaque string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The incarnation.
    pub epoch: u64,
    /// For each partition the offset of the next batch, and how many of that batch's rows come before the place
    /// (a frame may end inside a batch). A partition that is absent is at its start.
    pub offsets: BTreeMap<u32, (Offset, u64)>,
}

impl Position {
    /// Before the batches that it lies in: for who reads other rows of them, which cannot be counted off. Rather twice than
    /// never.
    #[must_use]
    pub fn before_batches(&self) -> Self {
        let offsets = self.offsets.iter().map(|(partition, (offset, _))| (*partition, (*offset, 0)));
        Self { epoch: self.epoch, offsets: offsets.collect() }
    }

    /// Goes to another place, most often of the same partitions: no room is asked for then.
    pub(crate) fn go_to(&mut self, place: &Self) {
        self.epoch = place.epoch;
        if self.offsets.keys().eq(place.offsets.keys()) {
            self.offsets.values_mut().zip(place.offsets.values()).for_each(|(at, to)| *at = *to);
        } else {
            self.offsets.clone_from(&place.offsets);
        }
    }
}

/// A text is no position.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is no position: use one that the server sent")]
pub struct PositionError(pub String);

/// Written as `epoch:partition=offset+skip,…`, the epoch in hexadecimal; `+0` is left out.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:", self.epoch)?;
        for (at, (partition, (offset, skip))) in self.offsets.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{partition}={}", offset.0)?;
            if *skip > 0 {
                write!(f, "+{skip}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| PositionError(text.chars().take(200).collect()))
    }
}

fn parse(text: &str) -> Option<Position> {
    let (epoch, rest) = text.split_once(':')?;
    let mut offsets = BTreeMap::new();
    for part in rest.split(',').filter(|part| !part.is_empty()) {
        let (partition, place) = part.split_once('=')?;
        let (offset, skip) = place.split_once('+').unwrap_or((place, "0"));
        offsets.insert(partition.parse().ok()?, (Offset(offset.parse().ok()?), skip.parse().ok()?));
    }
    Some(Position { epoch: u64::from_str_radix(epoch, 16).ok()?, offsets })
}

impl Serialize for Position {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        let position =
            Position { epoch: 0xfeed, offsets: BTreeMap::from([(0, (Offset(17), 0)), (3, (Offset(u64::MAX), 5))]) };
        assert_eq!(position.to_string(), "feed:0=17,3=18446744073709551615+5");
        assert_eq!(position.to_string().parse(), Ok(position));
        assert_eq!("1:".parse(), Ok(Position { epoch: 1, offsets: BTreeMap::new() }));
    }

    #[test]
    fn what_is_no_position_is_refused() {
        for text in ["", "12", "g:0=1", "1:0", "1:0=x", "1:0=1+", "1:=3"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }
}
