//! The synthetic `plays`: each row follows from the seed and its number alone, whatever the batches and columns.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int32Array, Int64Array, StringArray, TimestampNanosecondArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};

use crate::faults::Fault;

/// How many plays fail without a fault.
const FAILURE_RATE: f64 = 0.01;
/// How many plays their viewer abandons.
const ABANDON_RATE: f64 = 0.02;
/// Viewers there are.
const USERS: u64 = 1_000_000;

const TITLE_FIRST: [&str; 12] = [
    "Amber", "Broken", "Crimson", "Distant", "Electric", "Frozen", "Golden", "Hidden", "Iron", "Jade", "Last",
    "Midnight",
];
const TITLE_SECOND: [&str; 12] = [
    "Harbor", "Orbit", "River", "Empire", "Garden", "Signal", "Summer", "Tide", "Voyage", "Witness", "Kingdom",
    "Letters",
];
const DEVICES: [(&str, i32); 8] = [
    ("tv", 9_000),
    ("phone", 2_500),
    ("browser", 5_000),
    ("tablet", 3_500),
    ("stick", 6_000),
    ("console", 10_000),
    ("projector", 12_000),
    ("watch", 600),
];
const COUNTRIES: [&str; 40] = [
    "US", "IN", "BR", "GB", "DE", "MX", "FR", "JP", "CA", "ES", "IT", "AU", "KR", "AR", "NL", "PL", "ID", "TR", "SE",
    "CO", "ZA", "CL", "BE", "CH", "PT", "NO", "DK", "FI", "IE", "NZ", "AT", "GR", "CZ", "HU", "RO", "PE", "EG", "NG",
    "KE", "IS",
];
const OUTCOMES: [&str; 3] = ["ok", "fail", "abandoned"];

/// Bits of a row's hash that pick its title, device and country.
const TITLE_BITS: u32 = 16;
const PICK_BITS: u32 = 12;
/// Bits that decide the outcome.
const OUTCOME_BITS: u32 = 24;

/// The columns.
pub(crate) fn schema() -> SchemaRef {
    let text = |name| Field::new(name, DataType::Utf8, true);
    Arc::new(Schema::new(vec![
        Field::new("ts", squilla_query::timestamp_type(), true),
        Field::new("play_id", DataType::Int64, true),
        Field::new("user_id", DataType::Int64, true),
        text("title"),
        text("device"),
        text("country"),
        text("outcome"),
        Field::new("startup_ms", DataType::Int32, true),
        Field::new("bitrate_kbps", DataType::Int32, true),
    ]))
}

/// The words of a column, and how often each is picked.
struct Words {
    words: Vec<String>,
    /// For each value of the hash's bits, the word.
    picks: Vec<u8>,
}

impl Words {
    /// The k-th word is picked in proportion to 1/k^exponent.
    fn zipf(words: Vec<String>, bits: u32, exponent: f64) -> Self {
        let weights: Vec<f64> = (1..=words.len()).map(|rank| (rank as f64).powf(-exponent)).collect();
        let total: f64 = weights.iter().sum();
        let size = 1usize << bits;
        let mut picks = Vec::with_capacity(size);
        let mut sum = 0.0;
        for (word, weight) in weights.iter().enumerate() {
            sum += weight;
            // Every word has one place at least.
            let end = ((sum / total * size as f64) as usize).max(picks.len() + 1);
            let end = if word + 1 == words.len() { size } else { end.min(size) };
            picks.resize(end, u8::try_from(word).expect("at most 256 words"));
        }
        Self { words, picks }
    }

    fn place(&self, word: &str) -> Option<u8> {
        self.words.iter().position(|known| known == word).and_then(|at| u8::try_from(at).ok())
    }
}

/// A fault, by the places of its words. Words that are unknown match nothing.
struct PlacedFault {
    title: Option<u8>,
    device: Option<u8>,
    country: Option<u8>,
    threshold: u64,
}

/// Makes rows.
pub(crate) struct Plays {
    seed: u64,
    disorder_ns: u64,
    titles: Words,
    devices: Words,
    countries: Words,
}

fn mix(mut value: u64) -> u64 {
    // SplitMix64 (Steele, Lea, Flood 2014).
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn threshold(rate: f64) -> u64 {
    (rate.clamp(0.0, 1.0) * (1u64 << OUTCOME_BITS) as f64) as u64
}

/// Some bits of a hash.
fn bits(hash: u64, from: u32, count: u32) -> usize {
    ((hash >> from) & ((1 << count) - 1)) as usize
}

impl Plays {
    pub(crate) fn new(seed: u64, disorder_ns: u64) -> Self {
        // Neighbours in popularity differ in both words.
        let count = TITLE_FIRST.len() * TITLE_SECOND.len();
        let titles = (0..count).map(|at| {
            let (first, second) = (at % TITLE_FIRST.len(), (at + at / TITLE_FIRST.len()) % TITLE_SECOND.len());
            format!("{} {}", TITLE_FIRST[first], TITLE_SECOND[second])
        });
        Self {
            seed: mix(seed),
            disorder_ns,
            titles: Words::zipf(titles.collect(), TITLE_BITS, 1.2),
            devices: Words::zipf(DEVICES.iter().map(|(name, _)| (*name).to_owned()).collect(), PICK_BITS, 2.0),
            countries: Words::zipf(COUNTRIES.iter().map(|name| (*name).to_owned()).collect(), PICK_BITS, 1.5),
        }
    }

    /// Says which words of a fault no play has.
    pub(crate) fn unknown(&self, fault: &Fault) -> Option<String> {
        let pairs = [(&fault.title, &self.titles), (&fault.device, &self.devices), (&fault.country, &self.countries)];
        let mut unknown = pairs.into_iter().filter_map(|(word, words)| {
            let word = word.as_ref()?;
            words.place(word).is_none().then(|| word.clone())
        });
        unknown.next()
    }

    /// Rows from number `first` on, one for each time; of the columns those wanted.
    pub(crate) fn columns(&self, first: u64, times: &[i64], wanted: &[usize], faults: &[Fault]) -> Vec<ArrayRef> {
        let hashes: Vec<u64> = (0..times.len() as u64).map(|at| mix(self.seed ^ mix(first + at))).collect();
        let needs_outcome = wanted.iter().any(|column| *column >= 6);
        let outcomes = if needs_outcome { self.outcomes(&hashes, faults) } else { Vec::new() };
        let failed = || NullBuffer::from_iter(outcomes.iter().map(|outcome| *outcome != 1));
        let second = |hash: &u64| mix(*hash);
        let column = |column: &usize| -> ArrayRef {
            match column {
                0 => {
                    let late =
                        |hash: u64| if self.disorder_ns == 0 { 0 } else { mix(hash ^ 1) % (self.disorder_ns + 1) };
                    let times = times.iter().zip(&hashes);
                    let times = times.map(|(time, hash)| time - late(*hash).cast_signed());
                    Arc::new(TimestampNanosecondArray::from_iter_values(times))
                }
                1 => {
                    Arc::new(Int64Array::from_iter_values((0..times.len() as u64).map(|at| (first + at).cast_signed())))
                }
                2 => {
                    // Few viewers watch much: the square of a uniform number.
                    let user = |hash: &u64| {
                        let uniform = second(hash) >> 44;
                        (((uniform * uniform) >> 20) * USERS) >> 20
                    };
                    Arc::new(Int64Array::from_iter_values(hashes.iter().map(|hash| user(hash).cast_signed())))
                }
                3 => pick(&self.titles.words, hashes.iter().map(|hash| self.title(*hash))),
                4 => pick(&self.devices.words, hashes.iter().map(|hash| self.device(*hash))),
                5 => pick(&self.countries.words, hashes.iter().map(|hash| self.country(*hash))),
                6 => pick(&OUTCOMES, outcomes.iter().copied()),
                7 => {
                    let startup = |hash: &u64| {
                        let uniform = bits(second(hash), 0, 12) as i32;
                        150 + ((uniform * uniform) >> 13)
                    };
                    let values: Vec<i32> = hashes.iter().map(startup).collect();
                    Arc::new(Int32Array::new(values.into(), Some(failed())))
                }
                _ => {
                    let rate = |hash: &u64| {
                        let best = DEVICES[usize::from(self.device(*hash))].1;
                        best / 4 + best * 3 / 4 * (bits(second(hash), 12, 8) as i32) / 256
                    };
                    let values: Vec<i32> = hashes.iter().map(rate).collect();
                    Arc::new(Int32Array::new(values.into(), Some(failed())))
                }
            }
        };
        wanted.iter().map(column).collect()
    }

    fn title(&self, hash: u64) -> u8 {
        self.titles.picks[bits(hash, 0, TITLE_BITS)]
    }

    fn device(&self, hash: u64) -> u8 {
        self.devices.picks[bits(hash, TITLE_BITS, PICK_BITS)]
    }

    fn country(&self, hash: u64) -> u8 {
        self.countries.picks[bits(hash, TITLE_BITS + PICK_BITS, PICK_BITS)]
    }

    /// For each row the place of its outcome.
    fn outcomes(&self, hashes: &[u64], faults: &[Fault]) -> Vec<u8> {
        let placed: Vec<PlacedFault> = faults
            .iter()
            .filter(|fault| self.unknown(fault).is_none())
            .map(|fault| PlacedFault {
                title: fault.title.as_ref().and_then(|word| self.titles.place(word)),
                device: fault.device.as_ref().and_then(|word| self.devices.place(word)),
                country: fault.country.as_ref().and_then(|word| self.countries.place(word)),
                threshold: threshold(fault.failure_rate),
            })
            .collect();
        let (fails, abandons) = (threshold(FAILURE_RATE), threshold(ABANDON_RATE));
        let outcome = |hash: &u64| {
            let mut limit = fails;
            for fault in &placed {
                let hit = fault.title.is_none_or(|title| title == self.title(*hash))
                    && fault.device.is_none_or(|device| device == self.device(*hash))
                    && fault.country.is_none_or(|country| country == self.country(*hash));
                if hit {
                    limit = limit.max(fault.threshold);
                }
            }
            let drawn = bits(*hash, TITLE_BITS + 2 * PICK_BITS, OUTCOME_BITS) as u64;
            if drawn < limit { 1 } else { 2 * u8::from(drawn < limit + abandons) }
        };
        hashes.iter().map(outcome).collect()
    }
}

fn pick<W: AsRef<str>>(words: &[W], picks: impl ExactSizeIterator<Item = u8>) -> ArrayRef {
    let mut offsets: Vec<i32> = Vec::with_capacity(picks.len() + 1);
    let mut text = Vec::with_capacity(picks.len() * 12);
    offsets.push(0);
    for word in picks {
        text.extend_from_slice(words[usize::from(word)].as_ref().as_bytes());
        offsets.push(i32::try_from(text.len()).expect("a batch of short words"));
    }
    Arc::new(StringArray::new(OffsetBuffer::new(ScalarBuffer::from(offsets)), text.into(), None))
}
