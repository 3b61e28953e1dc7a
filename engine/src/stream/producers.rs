//! Who publishes to a stream, and how far each came: so that a request which is sent again is not taken twice.
//!
//! A producer numbers its requests, each one more than the one before. What was taken is remembered with the rows, in
//! the same record of the log, so that both are there after a crash or neither is (as Kafka's idempotent producers do,
//! KIP-98). A producer that is not known, or no longer, begins with any number (as KIP-360 has it).

use std::collections::{HashMap, VecDeque};

use serde::{Deserialize, Serialize};

/// Producers of a stream that are remembered. Of more, the one that has published nothing for longest is forgotten.
const MAX_PRODUCERS: usize = 1_000;
/// Requests of a producer of which is known what became of them. An older number is no retry, which comes at once: its
/// producer has lost count, and what it sends may be anything.
const MAX_REQUESTS: usize = 5;

/// A request that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerMark {
    /// The name that the producer gave itself.
    pub producer: String,
    /// The request's number.
    pub sequence: u64,
    /// Rows taken.
    pub accepted: u64,
    /// Rows not taken.
    pub rejected: u64,
}

/// What a request is to those before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrived {
    /// It follows them, or is the first.
    Next,
    /// It was taken before.
    Before(ProducerMark),
    /// A request of this number may have been taken, so long ago that nothing is known of it.
    Forgotten {
        /// The number that was to come; `None`: there is none left.
        expected: Option<u64>,
    },
    /// Others are missing before it.
    Gap {
        /// The number that was to come.
        expected: u64,
    },
}

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Producers {
    known: HashMap<String, Producer>,
    /// Requests taken so far: tells which producer was heard of last.
    taken: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Producer {
    /// When it was heard of, as `taken` counts.
    heard: u64,
    /// Its latest requests, oldest first. Never empty.
    requests: VecDeque<ProducerMark>,
}

impl Producers {
    /// What a request is to those that were taken.
    pub fn arrived(&self, producer: &str, sequence: u64) -> Arrived {
        let Some(last) = self.known.get(producer).and_then(|known| known.requests.back()) else { return Arrived::Next };
        if sequence <= last.sequence {
            let known = self.known[producer].requests.iter().rev().find(|mark| mark.sequence == sequence);
            let forgotten = || Arrived::Forgotten { expected: last.sequence.checked_add(1) };
            return known.cloned().map_or_else(forgotten, Arrived::Before);
        }
        match last.sequence.checked_add(1) {
            Some(expected) if sequence > expected => Arrived::Gap { expected },
            _ => Arrived::Next,
        }
    }

    /// Remembers a request that was taken.
    pub fn take(&mut self, mark: ProducerMark) {
        self.taken += 1;
        if !self.known.contains_key(&mark.producer) && self.known.len() >= MAX_PRODUCERS {
            let longest = self.known.iter().min_by_key(|(_, producer)| producer.heard);
            if let Some(longest) = longest.map(|(name, _)| name.clone()) {
                self.known.remove(&longest);
            }
        }
        let producer = self.known.entry(mark.producer.clone()).or_default();
        producer.heard = self.taken;
        if producer.requests.len() >= MAX_REQUESTS {
            producer.requests.pop_front();
        }
        producer.requests.push_back(mark);
    }

    /// All that is remembered, in an order in which it can be taken again.
    pub fn marks(&self) -> Vec<ProducerMark> {
        let mut producers: Vec<&Producer> = self.known.values().collect();
        producers.sort_unstable_by_key(|producer| producer.heard);
        producers.iter().flat_map(|producer| &producer.requests).cloned().collect()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(producer: &str, sequence: u64) -> ProducerMark {
        ProducerMark { producer: producer.to_owned(), sequence, accepted: sequence * 10, rejected: 1 }
    }

    #[test]
    fn a_request_follows_or_is_known_or_leaves_a_gap() {
        let mut producers = Producers::default();
        assert_eq!(producers.arrived("a", 7), Arrived::Next, "a new one begins anywhere");
        for sequence in 7..20 {
            assert_eq!(producers.arrived("a", sequence), Arrived::Next);
            producers.take(mark("a", sequence));
        }
        assert_eq!(producers.arrived("a", 19), Arrived::Before(mark("a", 19)));
        assert_eq!(producers.arrived("a", 15), Arrived::Before(mark("a", 15)));
        let forgotten = Arrived::Forgotten { expected: Some(20) };
        assert_eq!(producers.arrived("a", 14), forgotten, "of five it is known what became of them");
        assert_eq!(producers.arrived("a", 0), forgotten, "a producer that counts anew is not told that it is known");
        assert_eq!(producers.arrived("a", 21), Arrived::Gap { expected: 20 });
        assert_eq!(producers.arrived("b", 0), Arrived::Next);
        producers.take(mark("a", 20));
        producers.take(ProducerMark { sequence: u64::MAX, ..mark("c", 0) });
        assert!(matches!(producers.arrived("c", u64::MAX), Arrived::Before(_)));
    }

    #[test]
    fn of_too_many_the_one_that_was_silent_longest_is_forgotten() {
        let mut producers = Producers::default();
        for number in 0..MAX_PRODUCERS {
            producers.take(mark(&number.to_string(), 1));
        }
        producers.take(mark("0", 2));
        producers.take(mark("new", 1));
        assert_eq!(producers.arrived("1", 5), Arrived::Next, "it is forgotten");
        assert_eq!(producers.arrived("0", 5), Arrived::Gap { expected: 3 });
        assert_eq!(producers.known.len(), MAX_PRODUCERS);
        let mut again = Producers::default();
        producers.marks().into_iter().for_each(|mark| again.take(mark));
        assert_eq!(again.marks(), producers.marks());
        again.take(mark("newer", 1));
        assert_eq!(again.arrived("2", 5), Arrived::Next, "the order of the producers is kept");
    }
}
