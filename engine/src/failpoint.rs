//! Places at which a test ends the process, as `kill -9` does: between two steps of which a crash may see the first
//! without the second.
//!
//! In release builds nothing of this is there. Elsewhere the variable [`ARMED`] says where the process ends, and
//! [`PASSED`] names a file that gets a line for each place that is passed. (The crate `fail` would do as well, but its
//! features change those of `log`, and everything would be built once with and once without it.)

/// Variable of the failpoint that ends the process and at which passing of it, from one: `append_written:3`. The name
/// `any` counts all together.
pub const ARMED: &str = "SQUILLA_FAILPOINT";
/// Variable of the file in which passed failpoints are noted: a line each, `!` before the one that ended the process.
pub const PASSED: &str = "SQUILLA_FAILPOINTS_PASSED";

macro_rules! failpoints {
    ($($(#[$doc:meta])+ $point:ident = $name:literal,)+) => {
        /// See the module.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Failpoint {
            $($(#[$doc])+ $point,)+
        }

        impl Failpoint {
            /// All that there are.
            pub const ALL: &[Self] = &[$(Self::$point,)+];

            /// Its name in the variables.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)+
                }
            }
        }
    };
}

failpoints! {
    /// A commit is about to be written.
    AppendBegins = "append_begins",
    /// Half of a commit is written.
    AppendTorn = "append_torn",
    /// A commit is written, and not synced.
    AppendWritten = "append_written",
    /// Before a segment's bytes are made to last.
    SyncBegins = "sync_begins",
    /// A segment's bytes last.
    SyncEnds = "sync_ends",
    /// Commits last, and nobody was told.
    CommitLasts = "commit_lasts",
    /// Readers may read commits, and those who wait for them are told.
    CommitTold = "commit_told",
    /// A source's rows are committed, and their publisher is not told.
    ReceiptBegins = "receipt_begins",
    /// The publisher's request is done, and not answered.
    AnswerBegins = "answer_begins",
    /// A full segment has its index, and no successor.
    SegmentSealed = "segment_sealed",
    /// A new segment's file is there, without its head.
    SegmentCreated = "segment_created",
    /// A new segment has its head, and its name may not last.
    SegmentBegins = "segment_begins",
    /// A segment that is no longer kept has lost its index.
    RetentionBegins = "retention_begins",
    /// A segment that is no longer kept is gone.
    RetentionEnds = "retention_ends",
    /// What is known of a log is written beside what lies there.
    MetaWritten = "meta_written",
    /// What is known of a log has taken its place.
    MetaRenamed = "meta_renamed",
    /// A segment's torn end is cut, and that may not last.
    TailCut = "tail_cut",
    /// A log is open, and nobody uses it.
    LogOpened = "log_opened",
    /// All of a log lasts, and it does not say that it is closed.
    LogCloses = "log_closes",
    /// A log says that it is closed.
    LogClosed = "log_closed",
    /// What a dropped stream has kept is about to go.
    LogRemoves = "log_removes",
    /// What a dropped stream has kept is gone.
    LogRemoved = "log_removed",
    /// A named stream knows where it goes on, and does not run.
    ResumeBegins = "resume_begins",
    /// A new named stream has written where it begins.
    ResumeMarked = "resume_marked",
    /// A named stream runs again.
    ResumeEnds = "resume_ends",
    /// Rows are there, and not yet handed to the thread that writes.
    CommitBegins = "commit_begins",
    /// Rows are on their way to the disk or there, and in memory for readers.
    CommitSeen = "commit_seen",
    /// The state of a snapshot lasts, and nothing says so.
    SnapshotState = "snapshot_state",
    /// The manifest of a snapshot lasts, under another name.
    SnapshotWritten = "snapshot_written",
    /// A snapshot is whole, and that may not last.
    SnapshotRenamed = "snapshot_renamed",
    /// A snapshot is whole, and there may be more than are kept.
    SnapshotEnds = "snapshot_ends",
    /// A snapshot that is no longer kept has lost its manifest.
    SnapshotRemoves = "snapshot_removes",
    /// A snapshot is read, and nothing goes on from it.
    SnapshotRead = "snapshot_read",
    /// A stream is ready to go over to another query, and nothing says so.
    HandOverBegins = "hand_over_begins",
    /// It is decided, and written, that a stream goes over to another query; it has not.
    HandOverDecided = "hand_over_decided",
    /// A stream has gone over to another query.
    HandOverEnds = "hand_over_ends",
    /// The catalog is about to be changed.
    CatalogBegins = "catalog_begins",
    /// The catalog is being changed.
    CatalogChanges = "catalog_changes",
    /// The catalog is changed.
    CatalogChanged = "catalog_changed",
    /// One more of the catalog's statements is carried out as the process starts.
    CatalogRestores = "catalog_restores",
}

impl Failpoint {
    /// Ends the process if it is to end here.
    #[inline]
    pub fn pass(self) {
        self.pass_with(|| ());
    }

    /// The same; `last` is what the process still does.
    #[inline]
    #[cfg_attr(not(debug_assertions), expect(unused_variables, reason = "no failpoint is armed in such a build"))]
    pub fn pass_with(self, last: impl FnOnce()) {
        #[cfg(debug_assertions)]
        if armed::is_due(self) {
            last();
            std::process::abort();
        }
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::fs::{File, OpenOptions};
    use std::io::Write;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Failpoint;

    /// Counts all failpoints together.
    const ANY: &str = "any";

    struct Armed {
        name: String,
        /// Passings before the one that ends the process, and that one.
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var(super::ARMED).ok()?;
        let (name, number) = text.split_once(':').expect("a failpoint and a number");
        let known = name == ANY || Failpoint::ALL.iter().any(|point| point.name() == name);
        assert!(known, "there is no failpoint \"{name}\"");
        Some(Armed { name: name.to_owned(), left: AtomicU64::new(number.parse().expect("a number")) })
    });

    static PASSED: LazyLock<Option<File>> = LazyLock::new(|| {
        let path = std::env::var_os(super::PASSED)?;
        Some(OpenOptions::new().create(true).append(true).open(path).expect("a file can be made there"))
    });

    pub(super) fn is_due(point: Failpoint) -> bool {
        let name = point.name();
        let counts = |armed: &&Armed| armed.name == name || armed.name == ANY;
        let due = ARMED.as_ref().filter(counts).is_some_and(|armed| armed.left.fetch_sub(1, Ordering::Relaxed) == 1);
        if let Some(mut passed) = PASSED.as_ref() {
            let mark = if due { "!" } else { "" };
            passed.write_all(format!("{mark}{name}\n").as_bytes()).expect("the file can be written");
        }
        due
    }
}
