//! Who reads which query over a socket, for those who change its parameters from elsewhere.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::outlet::Control;

/// The subscriptions of all sockets, by the ids of their queries.
#[derive(Debug, Default)]
pub(crate) struct Running(Mutex<HashMap<String, Arc<Control>>>);

impl Running {
    fn readers(&self) -> MutexGuard<'_, HashMap<String, Arc<Control>>> {
        self.0.lock().expect("no holder of this lock panics")
    }

    /// Who reads a query; each subscription has one of its own.
    pub(super) fn of(&self, query: &str) -> Option<Arc<Control>> {
        self.readers().get(query).cloned()
    }

    /// A subscription reads the query until what is given back is dropped.
    pub(super) fn enter(self: &Arc<Self>, query: &str, control: &Arc<Control>) -> Entered {
        self.readers().insert(query.to_owned(), control.clone());
        Entered { running: self.clone(), query: query.to_owned() }
    }
}

/// A subscription that reads a query.
#[derive(Debug)]
pub(super) struct Entered {
    running: Arc<Running>,
    query: String,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.running.readers().remove(&self.query);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_known_for_as_long_as_it_reads() {
        let running = Arc::new(Running::default());
        let control = Arc::new(Control::new(None));
        let entered = (running.enter("q1", &control), running.enter("q2", &control));
        assert!(running.of("q1").is_some_and(|found| Arc::ptr_eq(&found, &control)));
        drop(entered.0);
        assert!(running.of("q1").is_none() && running.of("q2").is_some());
        drop(entered.1);
        assert!(running.readers().is_empty());
    }
}
