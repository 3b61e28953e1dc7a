//! Who uses a job: counted by name, so that thousands cost whoever comes next nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// The users of a job, under the numbers of their leases. One may have several.
#[derive(Debug, Default)]
pub(crate) struct Users {
    leases: BTreeMap<u64, Arc<str>>,
    /// How many leases each name has; none has zero.
    names: HashMap<Arc<str>, usize>,
}

impl Users {
    /// Of all leases, oldest first.
    pub(super) fn all(&self) -> Vec<String> {
        self.leases.values().map(|name| name.to_string()).collect()
    }

    /// How many leases there are.
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    pub(super) fn insert(&mut self, lease: u64, name: &str) {
        let name = match self.names.get_key_value(name) {
            Some((known, _)) => known.clone(),
            None => name.into(),
        };
        *self.names.entry(name.clone()).or_default() += 1;
        self.leases.insert(lease, name);
    }

    pub(super) fn remove(&mut self, lease: u64) {
        let Some(name) = self.leases.remove(&lease) else { return };
        if let Some(count) = self.names.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.names.remove(&name);
            }
        }
    }

    /// All names.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.keys()
    }

    /// How many names there are.
    pub(super) fn count(&self) -> usize {
        self.names.len()
    }

    /// How many names there are with those `beside`, apart from those of `own`, which are not among those beside.
    pub(super) fn count_with(&self, beside: &HashSet<Arc<str>>, own: &HashSet<&str>) -> usize {
        let known = own.iter().filter(|name| self.names.contains_key(**name)).count();
        let more = beside.iter().filter(|name| !self.names.contains_key(&**name)).count();
        self.names.len() - known + more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_once_until_their_last_lease_goes() {
        let mut users = Users::default();
        for (lease, name) in [(1, "a"), (2, "b"), (3, "a"), (4, "own")] {
            users.insert(lease, name);
        }
        assert_eq!((users.len(), users.count()), (4, 3));
        assert_eq!(users.all(), ["a", "b", "a", "own"]);
        let beside = HashSet::from(["b".into(), "c".into()]);
        let own = HashSet::from(["own", "of another"]);
        assert_eq!(users.count_with(&beside, &own), 3);
        users.remove(1);
        assert_eq!(users.count_with(&HashSet::new(), &own), 2);
        users.remove(3);
        users.remove(3);
        assert_eq!(users.count_with(&HashSet::new(), &own), 1);
    }
}
