//! The task that filters a stream for many jobs.

mod bring;
mod settle;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering::Release;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::carry::Carry;
use super::columns::pick;
use super::gather::{is_worth_it, presses};
use super::member::{Member, Place, Shown};
use super::search::{Found, Search};
use super::tail::{TOGETHER_ROWS, Tail, Tails};
use super::{Newcomer, Router, key_of};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::history::overtaken;
use crate::job::run::{go_apart, text_of};
use crate::job::{Command, Status};
use crate::shared::Shared;
use crate::stream::{Gap, MemoryStream, Offset, Read, Stream, StreamReader, together};
use crate::turn::Turn;

/// What became of a job that was waited for: it was cancelled, or (with what it is told) is to be a task of its own.
type Called = (u32, Option<(mpsc::Receiver<Command>, Option<Command>)>);

/// The way of a member's rows. Kept apart from the members, so that thousands of them stay near.
#[derive(Debug, Clone, Copy, Default)]
struct Way {
    /// What it does with others, if it gets all rows that meet its conditions.
    class: Option<u32>,
    /// Rows of its own wait to be told.
    waits: bool,
}

pub(super) struct Routing {
    shared: Arc<Shared>,
    router: Arc<Router>,
    stream: Arc<MemoryStream>,
    reader: Box<dyn StreamReader>,
    /// Whoever writes the stream waits for its readers.
    holding: bool,
    search: Search,
    members: Vec<Option<Member>>,
    /// What is looked at of each member that gets a row.
    ways: Vec<Way>,
    free: Vec<u32>,
    calls: FuturesUnordered<BoxFuture<'static, Called>>,
    tails: Tails,
    /// Those that begin behind the place where this is.
    ahead: Vec<u32>,
    places: Vec<Place>,
    shown: Shown,
    /// Where the last batch's partition was before it, and what had been shown.
    before: (usize, Place, Shown),
    /// Rows that are found are worth waiting for more.
    gathers: bool,
    /// When the last batch came.
    came: Instant,
    carry: Carry,
}

impl Routing {
    pub(super) fn new(
        shared: &Arc<Shared>,
        router: &Arc<Router>,
        stream: &Arc<MemoryStream>,
        reader: Box<dyn StreamReader>,
        holding: bool,
    ) -> Self {
        let position = reader.position();
        let place = |partition| Place {
            next: position.offsets.get(&partition).map_or(Offset(0), |(offset, _)| *offset),
            watermark: EventTime::MIN,
            arrival: EventTime::MIN,
            idle: false,
            batch: 0,
        };
        Self {
            shared: shared.clone(),
            router: router.clone(),
            reader,
            holding,
            search: Search::new(stream.schema(), shared.crew.clone()),
            members: Vec::new(),
            ways: Vec::new(),
            free: Vec::new(),
            calls: FuturesUnordered::new(),
            tails: Tails::new(stream.schema(), shared.crew.clone()),
            ahead: Vec::new(),
            places: (0..stream.partitions()).map(place).collect(),
            shown: Shown::default(),
            before: (0, place(0), Shown::default()),
            gathers: false,
            came: Instant::now(),
            carry: Carry::new(),
            stream: stream.clone(),
        }
    }

    /// Runs until nobody is left.
    pub(super) async fn run(mut self) {
        if let Err(panic) = futures::FutureExt::catch_unwind(AssertUnwindSafe(self.work())).await {
            let error = Arc::new(EngineError::Crashed(text_of(panic.as_ref())));
            tracing::warn!(jobs = self.calls.len(), %error, "jobs that filter a stream together have failed");
            self.close(|member| member.fail(error.clone()));
        }
    }

    async fn work(&mut self) {
        let router = self.router.clone();
        let mut turn = Turn::begin();
        loop {
            self.welcome();
            if self.calls.is_empty() && self.leave() {
                return;
            }
            let due = self.carry.due(self.shown.batches).into_iter().chain(self.settles_at()).min();
            let step = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let read = tokio::select! {
                biased;
                Some(called) = self.calls.next(), if !self.calls.is_empty() => {
                    self.called(called);
                    None
                }
                () = router.bell.notified() => None,
                read = self.reader.next() => Some(read),
                () = step => None,
            };
            if self.carry.due(self.shown.batches).is_some_and(|due| due <= Instant::now()) {
                self.bring_up();
            }
            if let Some(read) = read {
                // Those that have joined by now may begin before it.
                self.welcome();
                if !self.take(read) {
                    return;
                }
            }
            if self.tails.waits() && !self.may_wait() {
                self.settle().await;
            }
            turn.pass().await;
        }
    }

    /// Gives up the stream, unless somebody has joined meanwhile.
    fn leave(&mut self) -> bool {
        let mut routers = self.shared.routers.lock().expect("no holder of this lock panics");
        if !self.router.newcomers().is_empty() {
            return false;
        }
        routers.remove(&key_of(&self.stream));
        true
    }

    /// Takes in those that have joined.
    fn welcome(&mut self) {
        let newcomers = std::mem::take(&mut *self.router.newcomers());
        for newcomer in newcomers {
            let job = newcomer.job.clone();
            if let Err(error) = self.admit(newcomer) {
                tracing::warn!(job = job.id, %error, "a job has failed");
                let error = Arc::new(error);
                job.set_status(Status::Failed(error.clone()));
                job.output.fail(error);
            }
        }
    }

    fn admit(&mut self, newcomer: Newcomer) -> Result<(), EngineError> {
        let Newcomer { job, mut inbox, predicate, first } = newcomer;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.ways.push(Way::default());
            u32::try_from(self.members.len() - 1).expect("queries are counted in 32 bits")
        });
        let cancel = job.cancel.clone();
        let tail = self.tails.add(&job)?;
        if let Err(error) = self.search.add(slot, predicate) {
            self.tails.remove(&tail);
            self.free.push(slot);
            return Err(error);
        }
        let none = self.tails.none(&tail);
        let mut member = Member::new(job, (tail, none), first, self.shown)?;
        if member.began_behind(&self.places) {
            self.ahead.push(slot);
        } else {
            member.first = Vec::new();
            member.told = self.shown.batches;
        }
        self.ways[slot as usize] = Way { class: member.class(), waits: false };
        self.members[slot as usize] = Some(member);
        self.calls.push(Box::pin(async move {
            let called = tokio::select! {
                biased;
                () = cancel.cancelled() => None,
                command = inbox.recv() => Some(command),
            };
            (slot, called.map(|command| (inbox, command)))
        }));
        Ok(())
    }

    /// A job was cancelled, or is to go on as a task of its own.
    fn called(&mut self, (slot, apart): Called) {
        self.settle_of(slot, false);
        if let (Some(_), Some(member)) = (&apart, &self.members[slot as usize])
            && member.leaving.is_none()
        {
            self.part(slot, None);
        }
        let Some(mut member) = self.forget(slot) else { return };
        let (Some((inbox, command)), Some(feed)) = (apart, member.leaving.take()) else {
            if matches!(member.job.status(), Status::Running) {
                member.count(self.shown, 0);
                member.job.set_status(Status::Ended);
            }
            return;
        };
        member.job.routed.store(false, Release);
        if let Err(error) = go_apart(&self.shared, member.job.clone(), *feed, inbox, command) {
            member.fail(Arc::new(error));
        }
    }

    /// Takes a job out.
    fn forget(&mut self, slot: u32) -> Option<Member> {
        let member = self.members[slot as usize].take()?;
        self.search.remove(slot);
        self.tails.remove(&member.tail);
        self.ahead.retain(|other| *other != slot);
        self.free.push(slot);
        Some(member)
    }

    /// A job is to go on as a task of its own, and gets no more rows here. `again`: the last batch, which it has not been
    /// given.
    fn part(&mut self, slot: u32, again: Option<&Arc<StreamBatch>>) {
        let Some(member) = self.members[slot as usize].as_mut().filter(|member| member.leaving.is_none()) else {
            return;
        };
        let mut shown = self.shown;
        if let Some(batch) = again {
            shown.rows -= (batch.rows.num_rows() - member.before(batch)) as u64;
        }
        member.count(shown, 0);
        match member.feed(&self.shared, &self.places, self.holding, again.cloned()) {
            Ok(feed) => member.leaving = Some(Box::new(feed)),
            Err(error) => {
                member.fail(Arc::new(error));
                // The task of what has failed is not waited for.
                member.job.cancel.cancel();
            }
        }
        self.search.remove(slot);
        // It is full: then it is called anyway.
        let _ = member.job.commands.try_send(Command::Apart);
    }

    /// Takes what was read; false: nothing follows.
    fn take(&mut self, read: Read) -> bool {
        if !matches!(read, Read::Batch(_)) {
            self.settle_at_once();
        }
        together(|| self.take_in(read))
    }

    fn take_in(&mut self, read: Read) -> bool {
        match read {
            Read::Batch(batch) => self.batch(batch),
            Read::Gap(gap) => self.gap(&gap),
            Read::EndOfPartition(partition) => {
                let place = self.places[partition as usize];
                self.bring(0..self.members.len(), |member| member.carry_one(partition, &place));
                // Nothing more is told of it.
                self.places[partition as usize].batch = 0;
                self.present().for_each(|member| member.job.output.end(partition));
            }
            Read::End => {
                self.bring_all_up();
                self.close(|member| member.end());
                return false;
            }
            Read::Failed(error) => {
                self.bring_all_up();
                tracing::warn!(jobs = self.calls.len(), %error, "jobs have failed with what they filter");
                self.close(|member| member.fail(error.clone()));
                return false;
            }
        }
        true
    }

    fn present(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten().filter(|member| member.leaving.is_none())
    }

    /// Everything is over; those that have joined since find nothing else.
    fn close(&mut self, end: impl Fn(&Member)) {
        let mut routers = self.shared.routers.lock().expect("no holder of this lock panics");
        routers.remove(&key_of(&self.stream));
        drop(routers);
        self.welcome();
        for slot in 0..self.members.len() {
            // It was shown all that there is, and has a task of its own to tell the end.
            let leaving = self.members[slot].as_ref().is_some_and(|member| member.leaving.is_some());
            if !leaving && let Some(member) = self.members[slot].take() {
                end(&member);
            }
        }
        self.let_go();
    }

    /// Those that are to have tasks of their own and have not been called get them now.
    fn let_go(&mut self) {
        let calls = std::mem::take(&mut self.calls);
        for called in calls.into_iter() {
            if let Some(called) = futures::FutureExt::now_or_never(called) {
                self.called(called);
            }
        }
    }

    fn batch(&mut self, batch: Arc<StreamBatch>) {
        let started = Instant::now();
        let rows = batch.rows.num_rows();
        let at = batch.partition as usize;
        self.before = (at, self.places[at], self.shown);
        self.shown.batches += 1;
        self.shown.rows += rows as u64;
        self.places[at] = Place {
            next: batch.next.max(self.places[at].next),
            watermark: batch.watermark.max(self.places[at].watermark),
            arrival: batch.arrival,
            idle: batch.idle,
            batch: self.shown.batches,
        };
        self.carry.begin(self.shown.batches);
        for slot in &self.ahead {
            if let Some(member) = &mut self.members[*slot as usize] {
                member.pass_by(member.before(&batch));
            }
        }
        if rows > 0 {
            let waited = self.tails.mark();
            if !matches!(std::panic::catch_unwind(AssertUnwindSafe(|| self.find(&batch, started))), Ok(Ok(()))) {
                // Whose fault it is shows when each is alone.
                self.tails.back_to(&waited);
                self.part_all(&batch);
            }
        }
        let (members, ways, places) = (&mut self.members, &mut self.ways, &self.places);
        self.ahead.retain(|slot| match &mut members[*slot as usize] {
            Some(member) if member.began_behind(places) => true,
            Some(member) => {
                member.first = Vec::new();
                ways[*slot as usize].class = member.class();
                false
            }
            None => false,
        });
        self.spend(started);
        if Carry::at_once(self.calls.len()) {
            self.bring_up();
        }
    }

    /// Time was spent on all jobs since then.
    fn spend(&mut self, since: Instant) {
        let jobs = self.calls.len().max(1) as u64;
        let spent = since.elapsed() + self.search.helped();
        self.shown.busy_ns += u64::try_from(spent.as_nanos()).unwrap_or(u64::MAX) / jobs;
    }

    /// Finds who gets which rows of a batch that came at this moment.
    fn find(&mut self, batch: &Arc<StreamBatch>, started: Instant) -> Result<(), EngineError> {
        // Who has begun behind a row does not get it, though it meets its conditions.
        let columns = |batch: &StreamBatch| if self.ahead.is_empty() { self.tails.columns(batch) } else { None };
        let Found { matches, picked } = self.search.find(batch, |most| self.reader.upcoming(most), columns)?;
        let (rows, jobs) = matches.sizes();
        let since = started.duration_since(std::mem::replace(&mut self.came, started));
        // With those whose rows wait already: one batch that comes late is no reason to tell all of them.
        let told = || jobs.max(self.tails.waiting());
        let presses = || self.reader.behind_rows() > 0 || presses(told(), self.tails.told_each(), since);
        // Whoever waits for its readers is as fast as they are told.
        self.gathers = is_worth_it(rows, jobs) && (self.holding || presses());
        if let Some(picked) = picked {
            matches.iter().for_each(|(slot, _)| self.ways[slot as usize].waits = true);
            self.tails.put_all(batch, picked, matches.iter().map(|(slot, rows)| (slot, rows.len() as u32)));
            self.search.reuse(matches);
            return Ok(());
        }
        let together = if self.gathers { usize::MAX } else { TOGETHER_ROWS };
        let mut own = Vec::new();
        for (slot, mut rows) in matches.iter() {
            let way = &mut self.ways[slot as usize];
            if let Some(class) = way.class {
                way.waits = true;
                self.tails.put((class, slot), rows, batch, together)?;
                continue;
            }
            let Some(member) = &mut self.members[slot as usize] else { continue };
            if !member.first.is_empty() {
                let before = u32::try_from(member.before(batch)).unwrap_or(u32::MAX);
                rows = &rows[rows.partition_point(|row| *row < before)..];
            }
            match member.tail {
                _ if rows.is_empty() => {}
                Tail::Shared(class) => {
                    way.waits = true;
                    self.tails.put((class, slot), rows, batch, together)?;
                }
                Tail::Own(_) => own.push((slot, rows.to_vec())),
            }
        }
        self.search.reuse(matches);
        self.tails.finish(batch)?;
        for (slot, rows) in own {
            self.compute(slot, rows, batch);
        }
        Ok(())
    }

    /// Computes the columns of a job. Should that fail altogether, it is tried again in a task of its own.
    fn compute(&mut self, slot: u32, rows: Vec<u32>, batch: &Arc<StreamBatch>) {
        let Some(member) = self.members[slot as usize].as_mut() else { return };
        let Tail::Own(pipeline) = &mut member.tail else { return };
        let met = rows.len();
        let computed = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pipeline.process(batch.with_rows(pick(&batch.rows, &rows.into())?))
        }));
        match computed {
            Ok(Ok(mut batches)) if batches.len() == 1 => {
                self.ways[slot as usize].waits = true;
                self.tails.put_own(slot, batches.remove(0), met);
            }
            _ => {
                self.settle_of(slot, true);
                self.part(slot, Some(batch));
            }
        }
    }

    fn part_all(&mut self, batch: &Arc<StreamBatch>) {
        tracing::warn!(jobs = self.calls.len(), "jobs that filter a stream together go on one by one");
        let slots = u32::try_from(self.members.len()).expect("queries are counted in 32 bits");
        for slot in 0..slots {
            self.settle_of(slot, true);
            self.part(slot, Some(batch));
        }
        // What is left of the rows that they waited for.
        self.search = Search::new(self.stream.schema(), self.shared.crew.clone());
        self.gathers = false;
    }

    /// Rows were gone before they were read.
    fn gap(&mut self, gap: &Gap) {
        for (partition, (offset, _)) in &gap.to.offsets {
            let place = &mut self.places[*partition as usize];
            place.next = place.next.max(*offset);
        }
        for member in self.members.iter().flatten().filter(|member| member.leaving.is_none()) {
            if !member.began_behind(&self.places) {
                overtaken(&member.job.counters, gap.rows);
            }
        }
    }
}
