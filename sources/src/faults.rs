//! Faults that are injected into `generator` sources while they run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock, Weak};

use serde::{Deserialize, Serialize};

/// Plays that fail more often than others. A field that is `None` matches all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// The title, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// The device, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// The country's code, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// How many of the plays that match fail: from 0 to 1.
    pub failure_rate: f64,
}

/// The faults of one running source.
#[derive(Debug, Default)]
pub(crate) struct Faults(RwLock<Arc<[Fault]>>);

impl Faults {
    pub(crate) fn get(&self) -> Arc<[Fault]> {
        self.0.read().expect("no holder of this lock panics").clone()
    }

    pub(crate) fn set(&self, faults: Vec<Fault>) {
        *self.0.write().expect("no holder of this lock panics") = faults.into();
    }
}

/// Reaches the `generator` sources by name.
#[derive(Debug, Default)]
pub struct FaultControl {
    sources: Mutex<HashMap<String, Weak<Faults>>>,
}

impl FaultControl {
    /// The faults of a source now. `None`: there is no such `generator`.
    pub fn get(&self, source: &str) -> Option<Vec<Fault>> {
        Some(self.find(source)?.get().to_vec())
    }

    /// Replaces the faults of a source, from its next row on; an empty list clears them. False: there is no such
    /// `generator`.
    pub fn set(&self, source: &str, faults: Vec<Fault>) -> bool {
        let Some(found) = self.find(source) else { return false };
        found.set(faults);
        true
    }

    fn find(&self, source: &str) -> Option<Arc<Faults>> {
        self.sources.lock().expect("no holder of this lock panics").get(source)?.upgrade()
    }

    /// Makes a source's faults known while someone holds them. One that is known already and alive is kept.
    pub(crate) fn register(&self, source: &str, faults: &Arc<Faults>) {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        sources.retain(|_, faults| faults.strong_count() > 0);
        sources.entry(source.to_owned()).or_insert_with(|| Arc::downgrade(faults));
    }

    /// As [`FaultControl::register`], in place of whoever is known by that name.
    pub(crate) fn take_over(&self, source: &str, faults: &Arc<Faults>) {
        let mut sources = self.sources.lock().expect("no holder of this lock panics");
        sources.insert(source.to_owned(), Arc::downgrade(faults));
    }
}
