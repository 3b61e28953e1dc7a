//! What a catalog and its streams must be: a model without tasks, logs or time.

use std::collections::{BTreeMap, BTreeSet};

pub(super) const SECOND: i64 = 1_000_000_000;
const MS: i64 = 1_000_000;

/// A row of a source or a stream: its number, and its event time in nanoseconds since the first second.
pub(super) type Row = (i64, i64);

/// Rows whose number leaves `rest` when divided by `modulus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Only {
    pub(super) modulus: i64,
    pub(super) rest: i64,
}

impl Only {
    fn takes(self, row: &Row) -> bool {
        row.0 % self.modulus == self.rest % self.modulus
    }
}

/// What a stream computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Query {
    Rows(Only),
    /// The sum of each window of so many seconds.
    Windows(i64),
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Source,
    View(Only),
    Stream { query: Query, paused: bool },
}

#[derive(Debug, Clone)]
pub(super) struct Relation {
    /// What it reads; empty: a source.
    pub(super) over: String,
    pub(super) kind: Kind,
    /// All that it has told.
    pub(super) rows: Vec<Row>,
    /// In nanoseconds; `None`: none yet.
    pub(super) watermark: Option<i64>,
    /// Rows of what it reads that it has read.
    read: usize,
    /// How often it has told rows, or how far time has come.
    steps: u64,
    /// How many of those of what it reads it has seen.
    seen: u64,
    /// The event time of the first results of windows that it tells; `None`: all.
    from: Option<i64>,
}

/// Why a statement must be refused: one of these codes.
pub(super) type Refused = Result<(), &'static [&'static str]>;

#[derive(Debug, Default, Clone)]
pub(super) struct Model {
    pub(super) relations: BTreeMap<String, Relation>,
}

impl Model {
    pub(super) fn create(&mut self, name: &str, over: &str, kind: Kind) -> Refused {
        if !matches!(kind, Kind::Source) && !self.relations.contains_key(over) {
            return Err(&["unknown_relation"]);
        }
        if self.relations.contains_key(name) {
            return Err(&["exists"]);
        }
        let mut new = Relation {
            over: over.into(),
            kind,
            rows: Vec::new(),
            watermark: None,
            read: 0,
            steps: 0,
            seen: 0,
            from: None,
        };
        if let Kind::Stream { query, .. } = &new.kind {
            let (base, _) = self.base(over);
            let below = &self.relations[&base];
            (new.read, new.seen) = (below.rows.len(), below.steps);
            if let (Query::Windows(size), Some(at)) = (query, below.watermark) {
                // Those that are open now, and what comes.
                new.from = Some(told_until(*size, told(at), None));
                new.watermark = Some(told(at));
            }
        }
        self.relations.insert(name.into(), new);
        Ok(())
    }

    pub(super) fn alter(&mut self, name: &str, over: &str, to: Query) -> Refused {
        if !self.relations.contains_key(over) || !self.relations.contains_key(name) {
            return Err(&["unknown_relation"]);
        }
        let Kind::Stream { query, paused } = self.relations[name].kind else { return Err(&["wrong_kind"]) };
        let users = self.users(name);
        if over == name || users.contains(over) {
            return Err(&["cycle"]);
        }
        let same = matches!((query, to), (Query::Rows(_), Query::Rows(_)) | (Query::Windows(_), Query::Windows(_)));
        match (same, paused) {
            (true, false) => {}
            // Both may be in the way.
            (false, true) => return Err(&["not_running", "in_use"]),
            (true, true) => return Err(&["not_running"]),
            (false, false) if !users.is_empty() => return Err(&["in_use"]),
            (false, false) => {
                self.begin_anew(name, over, to);
                return Ok(());
            }
        }
        let (before, (after, _)) = (self.base(&self.relations[name].over).0, self.base(over));
        let end = (self.relations[&after].rows.len(), self.relations[&after].steps);
        let stream = self.relations.get_mut(name).expect("it is there");
        if let (Query::Windows(size), Some(at)) = (query, stream.watermark) {
            stream.from = Some(told_until(size, at, stream.rows.last().map(|row| row.1)));
        }
        if before != after {
            (stream.read, stream.seen) = end;
        }
        (stream.over, stream.kind) = (over.into(), Kind::Stream { query: to, paused });
        self.settle();
        Ok(())
    }

    /// Its log begins anew, where the old query ended.
    fn begin_anew(&mut self, name: &str, over: &str, to: Query) {
        let below = &self.relations[&self.base(over).0];
        let (read, seen, reached) = (below.rows.len(), below.steps, below.watermark);
        let stream = self.relations.get_mut(name).expect("it is there");
        let told = match (to, stream.watermark, reached) {
            (Query::Windows(_), Some(at), _) => Some((at, at)),
            (Query::Windows(size), None, Some(at)) => Some((told_until(size, told(at), None), told(at))),
            _ => None,
        };
        stream.rows.clear();
        (stream.read, stream.seen) = (read, seen);
        (stream.from, stream.watermark) = (told.map(|told| told.0), told.map(|told| told.1));
        (stream.over, stream.kind) = (over.into(), Kind::Stream { query: to, paused: false });
        self.settle();
    }

    /// Whether a stream's log would begin anew, and where that is, or whether it may, is not known here.
    pub(super) fn begins_somewhere(&self, name: &str, over: &str, to: Query) -> bool {
        let Some(relation) = self.relations.get(name) else { return false };
        let Kind::Stream { query, .. } = relation.kind else { return false };
        let to_windows = matches!(to, Query::Windows(_));
        if !self.relations.contains_key(over) || to_windows == matches!(query, Query::Windows(_)) {
            return false;
        }
        let users = self.users(name);
        let views = users.iter().all(|user| matches!(self.relations[user].kind, Kind::View(_)));
        let elsewhere = relation.watermark != self.latest(name) || self.base(&relation.over).0 != self.base(over).0;
        !users.is_empty() && views || to_windows && elsewhere
    }

    pub(super) fn drop(&mut self, name: &str, cascade: bool) -> Refused {
        if !self.relations.contains_key(name) {
            return Err(&["unknown_relation"]);
        }
        let users = self.users(name);
        if !users.is_empty() && !cascade {
            return Err(&["in_use"]);
        }
        for gone in users.iter().map(String::as_str).chain([name]) {
            self.relations.remove(gone);
        }
        Ok(())
    }

    pub(super) fn pause(&mut self, name: &str) -> Refused {
        match self.relations.get_mut(name).map(|relation| &mut relation.kind) {
            None => Err(&["unknown_relation"]),
            Some(Kind::Stream { paused, .. }) => {
                *paused = true;
                Ok(())
            }
            Some(_) => Err(&["wrong_kind"]),
        }
    }

    pub(super) fn resume(&mut self, name: &str, latest: bool) -> Refused {
        let Some(relation) = self.relations.get(name) else { return Err(&["unknown_relation"]) };
        let Kind::Stream { paused, .. } = relation.kind else { return Err(&["wrong_kind"]) };
        let below = &self.relations[&self.base(&relation.over).0];
        let end = (below.rows.len(), below.steps);
        let relation = self.relations.get_mut(name).expect("it is there");
        if let Kind::Stream { paused, .. } = &mut relation.kind {
            *paused = false;
        }
        if paused && latest {
            (relation.read, relation.seen) = end;
        }
        self.settle();
        Ok(())
    }

    pub(super) fn publish(&mut self, source: &str, rows: &[Row]) {
        let relation = self.relations.get_mut(source).expect("the source is there");
        relation.rows.extend_from_slice(rows);
        relation.watermark = rows.last().map(|row| row.1).max(relation.watermark);
        relation.steps += 1;
        self.settle();
    }

    /// Whether its rows are results of windows.
    pub(super) fn tells_windows(&self, name: &str) -> bool {
        let Some(relation) = self.relations.get(name) else { return false };
        match relation.kind {
            Kind::View(_) => self.tells_windows(&relation.over),
            Kind::Stream { query, .. } => matches!(query, Query::Windows(_)),
            Kind::Source => false,
        }
    }

    /// How far time can have come in a stream at the most. Its watermark is what rows have told; a batch without rows, such
    /// as a stream writes when it goes over to another query, tells its readers more.
    pub(super) fn latest(&self, name: &str) -> Option<i64> {
        let relation = &self.relations[name];
        let below = if relation.over.is_empty() { None } else { self.latest(&self.base(&relation.over).0) };
        relation.watermark.max(below)
    }

    /// Whether rows do not tell how far time has come in what a query would read.
    pub(super) fn leaves_time_open(&self, over: &str) -> bool {
        self.relations.contains_key(over) && {
            let base = self.base(over).0;
            self.relations[&base].watermark < self.latest(&base)
        }
    }

    /// Whether a stream with windows that others make of it would read something else.
    pub(super) fn moves_windows(&self, name: &str, over: &str) -> bool {
        let Some(relation) = self.relations.get(name).filter(|relation| !relation.over.is_empty()) else {
            return false;
        };
        self.relations.contains_key(over)
            && self.base(&relation.over).0 != self.base(over).0
            && self.users(name).iter().any(|user| self.tells_windows(user))
    }

    /// The source or stream below views, and what these let through.
    pub(super) fn base(&self, name: &str) -> (String, Vec<Only>) {
        match &self.relations[name].kind {
            Kind::View(only) => {
                let (base, mut filters) = self.base(&self.relations[name].over);
                filters.push(*only);
                (base, filters)
            }
            _ => (name.into(), Vec::new()),
        }
    }

    /// All that read a name, at first hand or through others.
    pub(super) fn users(&self, name: &str) -> BTreeSet<String> {
        let mut users = BTreeSet::new();
        loop {
            let reads = |relation: &&Relation| relation.over == name || users.contains(&relation.over);
            let found: BTreeSet<String> =
                self.relations.iter().filter(|(_, relation)| reads(relation)).map(|(name, _)| name.clone()).collect();
            if found == users {
                return users;
            }
            users = found;
        }
    }

    /// Streams read what there is, until nothing more comes of it.
    fn settle(&mut self) {
        for _ in 0..self.relations.len() {
            let names: Vec<String> = self.relations.keys().cloned().collect();
            for name in names {
                self.settle_one(&name);
            }
        }
    }

    fn settle_one(&mut self, name: &str) {
        let Kind::Stream { query, paused: false } = self.relations[name].kind else { return };
        let (base, filters) = self.base(&self.relations[name].over);
        let below = self.relations[&base].clone();
        let stream = self.relations.get_mut(name).expect("it is there");
        let takes = |row: &&Row| filters.iter().all(|only| only.takes(row));
        match query {
            Query::Rows(only) => {
                if below.steps == stream.seen {
                    return;
                }
                stream.watermark = stream.watermark.max(below.watermark);
                let new = &below.rows[stream.read..];
                stream.rows.extend(new.iter().filter(takes).filter(|row| only.takes(row)));
                (stream.read, stream.seen) = (below.rows.len(), below.steps);
                stream.steps += 1;
            }
            Query::Windows(size) => {
                let Some(at) = below.watermark else { return };
                let mut sums = BTreeMap::new();
                for row in below.rows.iter().filter(takes) {
                    let end = row.1.div_euclid(size * SECOND) * size * SECOND + size * SECOND;
                    *sums.entry(end).or_insert(0) += row.0;
                }
                let last = stream.rows.last().map_or(i64::MIN, |row| row.1);
                let from = stream.from.unwrap_or(i64::MIN).max(last + 1);
                let closed = sums.into_iter().filter(|(end, _)| *end <= at && end - MS >= from);
                stream.rows.extend(closed.map(|(end, sum)| (sum, end - MS)));
                stream.watermark = stream.watermark.max(Some(told(at)));
            }
        }
    }
}

/// The watermark of results of windows, at that of what they are made of.
fn told(watermark: i64) -> i64 {
    watermark + 1 - MS
}

/// The event time of the first results that were not told, at a watermark of windows and behind the last that was told.
fn told_until(size: i64, watermark: i64, last: Option<i64>) -> i64 {
    let closed = (watermark + MS - 1).div_euclid(size * SECOND) * size * SECOND;
    (closed + 1 - MS).max(last.map_or(i64::MIN, |last| last + 1))
}
