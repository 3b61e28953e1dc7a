//! Where windows and panes lie: pure arithmetic on event time in nanoseconds.
//!
//! Windows start on a grid of one slide, shifted by the offset; panes, the disjoint pieces that windows share, start
//! on a grid of the greatest common divisor of size and slide, shifted likewise. So every window is whole panes.
//!
//! A window is named by where its last slide starts: of tumbling and hopping windows that is called its start here, since
//! all are of one size. Cumulating windows, which start together, are told apart by it; [`Grid::start`] has their start.

use std::ops::RangeInclusive;

use squilla_query::{Calendar, WindowKind, WindowSpec};

use crate::error::EngineError;

/// The grid of one [`WindowSpec`]. Each window it names has bounds that fit in 64 bits.
#[derive(Debug, Clone)]
pub(super) struct Grid {
    size: i64,
    slide: i64,
    width: i64,
    /// The offset within one slide, of cumulating windows within one cycle.
    offset: i64,
    /// Length of the longest of cumulating windows; `None`: they do not cumulate.
    cycle: Option<i64>,
    /// Windows by the calendar, one pane each; `None`: all are of one size.
    calendar: Option<Calendar>,
    /// Starts of the earliest and the latest window whose bounds fit.
    starts: (i64, i64),
    /// Event times all of whose windows have bounds that fit.
    range: RangeInclusive<i64>,
}

/// Starts of the windows that a row or a pane is in, every slide from `first` to `last`. None when `first > last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Starts {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Grid {
    /// The grid of `window`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when a length is not above zero or no window fits in 64 bits.
    pub(super) fn new(window: WindowSpec) -> Result<Self, EngineError> {
        if let WindowKind::Cumulate { size_ns, step_ns } = window.kind {
            return Self::cumulate(size_ns, step_ns, window.offset_ns);
        }
        if let WindowKind::Calendar(calendar) = window.kind {
            let (first, last) = calendar.range();
            let (starts, range) = ((first, calendar.floor(last)), first..=last);
            let nominal = Self { size: 1, slide: 1, width: 1, offset: 0, cycle: None, calendar: None, starts, range };
            return Ok(Self { calendar: Some(calendar), ..nominal });
        }
        let (size, slide) = (window.size_ns(), window.slide_ns());
        if size <= 0 || slide <= 0 {
            return Err(EngineError::Plan(format!("a window of {size} ns every {slide} ns has no length")));
        }
        let offset = window.offset_ns.rem_euclid(slide);
        let least = ceil(i64::MIN.into(), slide, offset);
        let greatest = floor(i128::from(i64::MAX) - i128::from(size), slide, offset);
        // Below `low` a row would be in a window that starts before `least`; above `high` in one after `greatest`.
        let low = least.max(least - i128::from(slide) + i128::from(size));
        let high = (greatest + i128::from(slide) - 1).min(i64::MAX.into());
        if least > greatest || low > high {
            return Err(EngineError::Plan(format!("a window of {size} ns every {slide} ns is too long")));
        }
        let fits = |bound: i128| i64::try_from(bound).expect("the bound lies between two bounds of 64 bits");
        Ok(Self {
            size,
            slide,
            width: gcd(size, slide),
            offset,
            cycle: None,
            calendar: None,
            starts: (fits(least), fits(greatest)),
            range: fits(low)..=fits(high),
        })
    }

    /// Cumulating windows, as tumbling ones of a step that reach back to the start of their cycle.
    fn cumulate(cycle: i64, step: i64, offset: i64) -> Result<Self, EngineError> {
        if step <= 0 || cycle <= 0 || cycle % step != 0 {
            return Err(EngineError::Plan(format!("windows of {cycle} ns by {step} ns are no whole steps")));
        }
        let offset = offset.rem_euclid(cycle);
        let least = ceil(i64::MIN.into(), cycle, offset);
        let greatest = floor(i128::from(i64::MAX) - i128::from(cycle), cycle, offset);
        let last = i128::from(cycle) - 1;
        if least > greatest {
            return Err(EngineError::Plan(format!("a window of {cycle} ns is too long")));
        }
        let fits = |bound: i128| i64::try_from(bound).expect("the bound lies between two bounds of 64 bits");
        Ok(Self {
            size: step,
            slide: step,
            width: step,
            offset,
            cycle: Some(cycle),
            calendar: None,
            starts: (fits(least), fits(greatest + last + 1 - i128::from(step))),
            range: fits(least)..=fits(greatest + last),
        })
    }

    /// True when windows are not all of one length.
    pub(super) fn is_uneven(&self) -> bool {
        self.calendar.is_some()
    }

    /// The end of the window before the one that is named `start`.
    pub(super) fn end_before(&self, start: i64) -> i64 {
        if self.calendar.is_some() { start } else { self.end(start - self.slide) }
    }

    /// Windows that a row is in at the most.
    pub(super) fn windows_per_row(&self) -> i64 {
        match self.cycle {
            Some(cycle) => cycle / self.slide,
            None => (self.size - 1) / self.slide + 1,
        }
    }

    /// Panes of the longest window, where windows are even.
    pub(super) fn panes(&self) -> i64 {
        self.cycle.unwrap_or(self.size) / self.width
    }

    /// The first moment from `start` on, which a window starts at, of those that lie as far apart as the longest window is
    /// long.
    pub(super) fn boundary(&self, start: i64) -> i64 {
        let boundary = ceil(start.into(), self.cycle.unwrap_or(self.size), self.offset);
        i64::try_from(boundary).expect("it lies in the window, whose bounds fit")
    }

    /// Distance between starts of windows.
    pub(super) fn slide(&self) -> i64 {
        self.slide
    }

    /// Length of a pane.
    pub(super) fn width(&self) -> i64 {
        self.width
    }

    /// Event times all of whose windows have bounds that fit in 64 bits.
    pub(super) fn range(&self) -> &RangeInclusive<i64> {
        &self.range
    }

    /// True when a pane belongs to one window only.
    pub(super) fn is_tumbling(&self) -> bool {
        self.size == self.width && self.slide == self.width && self.cycle.is_none()
    }

    /// True when there is time between windows that belongs to none.
    pub(super) fn has_gaps(&self) -> bool {
        self.slide > self.size
    }

    /// Start of the earliest window there is.
    pub(super) fn earliest(&self) -> i64 {
        self.starts.0
    }

    /// Start of the pane that `time`, which is in [`Grid::range`], is in.
    pub(super) fn pane(&self, time: i64) -> i64 {
        if let Some(calendar) = &self.calendar {
            return calendar.floor(time);
        }
        let width = self.width;
        // In [0, 2 * width), without the overflow that `time - offset` may have.
        let past = time.rem_euclid(width) - self.offset.rem_euclid(width);
        let past = if past < 0 { past + width } else { past };
        // A pane at the edge of a window at the edge of time may start before it: no row in range is in such a one.
        time.saturating_sub(past)
    }

    /// The windows that `time`, which is in [`Grid::range`], is in.
    pub(super) fn windows(&self, time: i64) -> Starts {
        if let Some(calendar) = &self.calendar {
            let start = calendar.floor(time);
            return Starts { first: start, last: start };
        }
        if let Some(cycle) = self.cycle {
            return Starts { first: self.pane(time), last: self.start(time).saturating_add(cycle - self.slide) };
        }
        let past = time.rem_euclid(self.slide) - self.offset;
        let past = if past < 0 { past + self.slide } else { past };
        let last = time.saturating_sub(past);
        // Starts above `time - size`: the one at `last` and those before it, as many as fit.
        let room = self.size - 1 - past;
        if room < 0 {
            return Starts { first: last.saturating_add(self.slide), last };
        }
        Starts { first: last.saturating_sub(room / self.slide * self.slide), last }
    }

    /// Start of the first window that begins at `moment` or later; `i64::MAX`, where no window starts, when there is
    /// none.
    pub(super) fn first_from(&self, moment: i64) -> i64 {
        if let Some(calendar) = &self.calendar {
            let open = self.first_open(moment);
            return if open >= moment {
                open
            } else {
                Some(calendar.next(open)).filter(|next| *next <= self.starts.1).unwrap_or(i64::MAX)
            };
        }
        let start = ceil(moment.into(), self.slide, self.offset).max(self.starts.0.into());
        if start > self.starts.1.into() { i64::MAX } else { i64::try_from(start).expect("between two of 64 bits") }
    }

    /// Start of the first window that ends after `moment`, or `i64::MAX` when there is none.
    pub(super) fn first_open(&self, moment: i64) -> i64 {
        if let Some(calendar) = &self.calendar {
            return match moment {
                moment if moment < self.starts.0 => self.starts.0,
                moment if moment > *self.range.end() => i64::MAX,
                moment => calendar.floor(moment),
            };
        }
        match moment.checked_sub(self.size).and_then(|start| start.checked_add(1)) {
            Some(start) => self.first_from(start),
            None => self.starts.0,
        }
    }

    /// Start of the window behind the one that starts at `start`; `i64::MAX` behind the last.
    pub(super) fn next(&self, start: i64) -> i64 {
        if let Some(calendar) = &self.calendar {
            return Some(calendar.next(start)).filter(|next| *next <= self.starts.1).unwrap_or(i64::MAX);
        }
        match start.checked_add(self.slide) {
            Some(next) if next <= self.starts.1 => next,
            _ => i64::MAX,
        }
    }

    /// Where the window that is named `start` starts.
    pub(super) fn start(&self, start: i64) -> i64 {
        let Some(cycle) = self.cycle else { return start };
        i64::try_from(floor(start.into(), cycle, self.offset)).unwrap_or(i64::MIN)
    }

    /// End of the window that starts at `start`.
    pub(super) fn end(&self, start: i64) -> i64 {
        if let Some(calendar) = &self.calendar {
            return calendar.next(start);
        }
        start.saturating_add(self.size)
    }
}

fn gcd(mut a: i64, mut b: i64) -> i64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn floor(moment: i128, slide: i64, offset: i64) -> i128 {
    let (slide, offset) = (i128::from(slide), i128::from(offset));
    (moment - offset).div_euclid(slide) * slide + offset
}

fn ceil(moment: i128, slide: i64, offset: i64) -> i128 {
    floor(moment + i128::from(slide) - 1, slide, offset)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use squilla_query::WindowKind;

    use super::*;

    fn hop(size_ns: i64, slide_ns: i64, offset_ns: i64) -> Grid {
        Grid::new(WindowSpec { kind: WindowKind::Hop { size_ns, slide_ns }, offset_ns }).expect("a grid")
    }

    #[test]
    fn hopping_windows_cover_a_row() {
        let grid = hop(10, 5, 1);
        assert_eq!(grid.windows(12), Starts { first: 6, last: 11 });
        assert_eq!(grid.windows(-1), Starts { first: -9, last: -4 });
        assert_eq!(grid.pane(12), 11);
        assert_eq!(hop(10, 4, 0).width(), 2);
    }

    #[test]
    fn cumulating_windows_reach_back_to_the_start_of_their_cycle() {
        let kind = WindowKind::Cumulate { size_ns: 12, step_ns: 4 };
        let grid = Grid::new(WindowSpec { kind, offset_ns: 2 }).expect("a grid");
        assert_eq!(grid.windows(3), Starts { first: 2, last: 10 });
        assert_eq!(grid.windows(9), Starts { first: 6, last: 10 });
        assert_eq!((grid.start(10), grid.end(10)), (2, 14));
        assert_eq!((grid.start(14), grid.end(14)), (14, 18));
        assert_eq!((grid.first_open(6), grid.first_open(5)), (6, 2));
        assert_eq!(grid.windows(-9), Starts { first: -10, last: -2 });
        for time in [*grid.range().start(), *grid.range().end()] {
            let Starts { first, last } = grid.windows(time);
            assert!(first >= grid.starts.0 && last <= grid.starts.1, "{grid:?} {time} {first} {last}");
        }
        assert!(
            Grid::new(WindowSpec { kind: WindowKind::Cumulate { size_ns: 10, step_ns: 4 }, offset_ns: 0 }).is_err()
        );
    }

    #[test]
    fn gaps_are_in_no_window() {
        let grid = hop(3, 10, 0);
        assert_eq!(grid.windows(12), Starts { first: 10, last: 10 });
        let Starts { first, last } = grid.windows(15);
        assert!(first > last);
    }

    #[test]
    fn edges_of_time_neither_overflow_nor_reach_beyond() {
        for (size, slide, offset) in [(10, 3, 1), (10, 10, -7), (3, 10, 4), (i64::MAX, 1, 0), (1, 1, 0)] {
            let grid = hop(size, slide, offset);
            for time in [*grid.range().start(), *grid.range().end()] {
                let Starts { first, last } = grid.windows(time);
                if first <= last {
                    assert!(first >= grid.starts.0 && last <= grid.starts.1, "{grid:?} {time} {first} {last}");
                }
                let _ = grid.pane(time);
            }
            assert_eq!(grid.first_open(i64::MAX), i64::MAX);
            assert_eq!(grid.first_open(i64::MIN), grid.earliest());
        }
        assert!(Grid::new(WindowSpec { kind: WindowKind::Tumble { size_ns: 0 }, offset_ns: 0 }).is_err());
    }

    proptest! {
        #[test]
        fn windows_are_those_that_cover(
            size in 1i64..40, slide in 1i64..40, offset in -50i64..50, time in -200i64..200,
        ) {
            let grid = hop(size, slide, offset);
            let covering: Vec<i64> =
                (-400..400).filter(|s| (s - offset).rem_euclid(slide) == 0 && *s <= time && time < s + size).collect();
            let Starts { first, last } = grid.windows(time);
            let told: Vec<i64> = (first..=last).step_by(slide as usize).collect();
            prop_assert_eq!(told, covering);
            let pane = grid.pane(time);
            prop_assert!(pane <= time && time < pane + grid.width());
            prop_assert_eq!((pane - offset).rem_euclid(grid.width()), 0);
            let open = grid.first_open(time);
            prop_assert!(open + size > time && open - slide + size <= time);
        }
    }
}
