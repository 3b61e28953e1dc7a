//! Squilla from outside. One binary: each test file of its own would link everything once more.

mod cases;
mod distinct_memory;
mod endurance;
mod filters_together;
mod functions;
mod kept;
mod live;
mod live_lookups;
mod oracle;
mod planning;
mod processing_time;
mod readme;
mod replay;
mod sharing;
mod sketches;
mod slow_reader;
mod states;
mod tidy;
