//! Reads a log back, all partitions in the order of their commits. Blocks.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::record::Header;
use super::scan::{Found, Scan};
use super::segment::Segment;
use super::{DiskError, DiskLog};
use crate::batch::StreamBatch;
use crate::stream::{GapReason, Offset, Position};

/// What lies in a log.
#[derive(Debug, Clone)]
pub(crate) enum DiskRead {
    /// A batch.
    Batch(Arc<StreamBatch>),
    /// Rows that are damaged, or that retention has removed.
    Lost { partition: u32, from: Offset, to: Offset, reason: GapReason },
}

/// A place in a log.
#[derive(Debug)]
pub(crate) struct DiskReader {
    log: Arc<DiskLog>,
    lanes: Vec<Lane>,
}

/// A place in a partition.
#[derive(Debug)]
struct Lane {
    next: Offset,
    /// The segment that is read, and where.
    open: Option<(Arc<Segment>, Scan)>,
}

impl DiskReader {
    /// At a position of the log's own epoch. A partition that is absent is at its first row.
    pub(crate) fn new(log: &Arc<DiskLog>, position: &Position) -> Self {
        let lane = |number| {
            let next = position.offsets.get(&number).map_or(Offset(0), |(offset, _)| *offset);
            Lane { next, open: None }
        };
        Self { log: log.clone(), lanes: (0..log.options.partitions).map(lane).collect() }
    }

    /// Batches of at least so many bytes, unless the log ends before; none: there are no more yet.
    pub(crate) fn read(&mut self, bytes: usize) -> Result<Vec<DiskRead>, DiskError> {
        let mut found = Vec::new();
        let mut read_bytes = 0;
        while read_bytes < bytes {
            let Some(at) = self.least(&mut found)? else { break };
            let Some(batch) = self.take(at, &mut found)? else { continue };
            read_bytes += batch.bytes();
            found.push(DiskRead::Batch(batch));
        }
        Ok(found)
    }

    /// The lane whose next record was committed first.
    fn least(&mut self, found: &mut Vec<DiskRead>) -> Result<Option<usize>, DiskError> {
        let published = self.log.published.load(Ordering::Acquire);
        let mut least: Option<(u64, usize)> = None;
        for at in 0..self.lanes.len() {
            let Some(header) = self.peek(at, found)? else { continue };
            if header.commit <= published && least.is_none_or(|(commit, _)| header.commit < commit) {
                least = Some((header.commit, at));
            }
        }
        Ok(least.map(|(_, at)| at))
    }

    /// The header of a lane's next record; tells what is missing before it.
    fn peek(&mut self, at: usize, found: &mut Vec<DiskRead>) -> Result<Option<Header>, DiskError> {
        let partition = &self.log.partitions[at];
        let lane = &mut self.lanes[at];
        loop {
            if lane.open.is_none() {
                let segment = partition.segment_of(lane.next);
                let place = segment.place_at(lane.next)?;
                let scan = segment.scan(place);
                lane.open = Some((segment, scan));
            }
            let Some((segment, scan)) = &mut lane.open else { return Ok(None) };
            scan.end = segment.published();
            if let Some(header) = scan.header()? {
                if header.first > lane.next {
                    found.push(self.log.lost(at, lane.next, header.first));
                }
                lane.next = lane.next.max(header.first);
                return Ok(Some(header));
            }
            if scan.at < scan.end {
                // Damage: what follows tells how much.
                scan.next()?;
                if scan.at < scan.end {
                    continue;
                }
            }
            let Some(following) = partition.following(segment.base) else { return Ok(None) };
            if scan.end < segment.published() {
                // It was written on before the next one began.
                continue;
            }
            if following.base > lane.next {
                found.push(self.log.lost(at, lane.next, following.base));
                lane.next = following.base;
            }
            let scan = following.scan(following.start());
            lane.open = Some((following, scan));
        }
    }

    /// A lane's next batch; `None`: it is damaged, which is told.
    fn take(&mut self, at: usize, found: &mut Vec<DiskRead>) -> Result<Option<Arc<StreamBatch>>, DiskError> {
        let lane = &mut self.lanes[at];
        let Some((_, scan)) = &mut lane.open else { return Ok(None) };
        let Some(header) = scan.header()? else { return Ok(None) };
        let number = u32::try_from(at).expect("partitions are counted in 32 bits");
        if let Some(batch) = self.log.shared(number, header.first).filter(|_| header.first < header.next) {
            scan.skip()?;
            lane.next = header.next;
            return Ok(Some(batch));
        }
        let decoded = match scan.next()? {
            Found::Record { header, payload } => header.batch(number, &payload, self.log.schema()).ok(),
            Found::Damage { .. } | Found::End => None,
        };
        lane.next = header.next;
        if decoded.is_none() {
            found.push(self.log.lost(at, header.first, header.next));
        }
        Ok(decoded.map(|batch| self.log.share(batch)))
    }
}

impl DiskLog {
    fn lost(&self, at: usize, from: Offset, to: Offset) -> DiskRead {
        let partition = u32::try_from(at).expect("partitions are counted in 32 bits");
        let removed = to <= self.partitions[at].reach().first;
        let reason = if removed { GapReason::Retention } else { GapReason::Damaged };
        DiskRead::Lost { partition, from, to, reason }
    }
}
