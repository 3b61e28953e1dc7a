//! Panes that are lent to a crew while rows are read on.

use super::Windows;
use crate::error::EngineError;
use crate::operator::pane::PaneKey;
use crate::operator::slices::MIN_PANES;
use crate::operator::yard::{Delivery, Promise, Yard};

impl Windows {
    /// Where panes are lent to from now on; `None`: nowhere.
    pub(in crate::operator) fn set_yard(&mut self, yard: Option<Yard>) {
        // What windows of many panes have in common is merged in their order.
        self.yard = yard.filter(|_| self.grid.panes() < MIN_PANES);
    }

    /// See [`Yard::set_ahead_rows`].
    #[cfg(test)]
    pub(in crate::operator) fn set_ahead_rows(&mut self, rows: usize) {
        if let Some(yard) = &mut self.yard {
            yard.set_ahead_rows(rows);
        }
    }

    /// Whether panes can be lent.
    pub(in crate::operator) fn may_lend(&self) -> bool {
        self.yard.is_some()
    }

    /// Whether panes are lent, or something is not done with such that were.
    pub(in crate::operator) fn is_busy(&self) -> bool {
        self.yard.as_ref().is_some_and(Yard::is_busy)
    }

    /// Has panes that are lent take rows, and does what lies before them. True: a helper was at all of it, so that there
    /// was nothing to do but wait.
    ///
    /// # Errors
    /// As [`Windows::update`], of any rows before.
    pub(in crate::operator) fn deliver(&mut self, deliveries: Vec<Delivery>) -> Result<bool, EngineError> {
        let mut starved = false;
        for delivery in deliveries {
            self.lend(delivery.key);
            let Some(yard) = &mut self.yard else { break };
            yard.take(delivery);
            starved |= yard.keep_up()?;
        }
        Ok(starved)
    }

    /// Does a part of what lies before panes that are lent; false: nobody is waited for by it.
    ///
    /// # Errors
    /// As [`Windows::deliver`].
    pub(in crate::operator) fn help(&mut self) -> Result<bool, EngineError> {
        self.yard.as_ref().map_or(Ok(false), Yard::help)
    }

    /// Does all that lies before panes that are lent or were, and takes them back.
    ///
    /// # Errors
    /// As [`Windows::deliver`].
    pub(in crate::operator) fn settle(&mut self) -> Result<(), EngineError> {
        let Some(yard) = self.yard.as_mut().filter(|yard| yard.is_busy()) else { return Ok(()) };
        for (key, pane) in yard.settle()? {
            let place = self.panes.entry(key).or_default();
            let before = place.bytes();
            *place = pane;
            self.bytes = (self.bytes + place.bytes()).saturating_sub(before);
        }
        self.most_groups = self.most_groups.max(yard.most_groups());
        if self.panes.is_empty() {
            self.grouping.clear_spares();
        }
        Ok(())
    }

    /// Has a window evaluated whose panes are lent, some of them; `None`: none is.
    pub(super) fn close_lent(&mut self, start: i64) -> Option<Promise> {
        let keys = self.panes_of(start);
        let has = |yard: &Yard| keys.iter().any(|key| yard.has(*key));
        if !self.yard.as_ref().is_some_and(has) {
            return None;
        }
        keys.iter().for_each(|key| self.lend(*key));
        let yard = self.yard.as_mut()?;
        match keys.as_slice() {
            // Nobody else counts it.
            [only] if self.grid.is_tumbling() => Some(yard.close(*only)),
            several => Some(yard.merge(several)),
        }
    }

    /// Lends a pane, if it is not. An empty one keeps its place.
    fn lend(&mut self, key: PaneKey) {
        let Some(yard) = self.yard.as_mut().filter(|yard| !yard.has(key)) else { return };
        let place = self.panes.entry(key).or_default();
        let before = place.bytes();
        let pane = std::mem::take(place);
        self.bytes = (self.bytes + place.bytes()).saturating_sub(before);
        yard.lend(key, pane);
    }
}
