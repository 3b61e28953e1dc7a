//! The catalog on disk: the statements that made what there is, in SQLite, in the order in which they were made.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use squilla_engine::failpoint::Failpoint;
use thiserror::Error;

/// The file in the data folder.
const FILE: &str = "catalog.sqlite";
/// Locked for as long as a process uses the folder.
const LOCK: &str = "lock";
/// Version of the tables, kept in SQLite's `user_version`.
const FORMAT: i64 = 3;
/// Marks the file as ours, in SQLite's `application_id`: "sqll".
const APPLICATION: i64 = 0x7371_6c6c;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS statement (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        sql TEXT NOT NULL,
        -- Columns that were inferred, as JSON; null: they follow from the statement.
        columns TEXT,
        -- A sink whose bounded inputs have ended: not started again.
        finished INTEGER NOT NULL DEFAULT 0,
        -- A stream that rests until it is resumed.
        paused INTEGER NOT NULL DEFAULT 0,
        -- Which of the logs on disk that a stream has had it writes.
        log INTEGER NOT NULL DEFAULT 0
    ) STRICT;";

/// What makes the tables of a format those of the next, the first format's first.
const UPGRADES: [&str; 2] = [
    "ALTER TABLE statement ADD COLUMN paused INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE statement ADD COLUMN log INTEGER NOT NULL DEFAULT 0",
];

/// What a stored statement made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredKind {
    /// `CREATE SOURCE`.
    Source,
    /// `CREATE STREAM`.
    Stream,
    /// `CREATE VIEW`.
    View,
    /// `CREATE SINK`.
    Sink,
    /// `INSERT INTO`; its name is the sink's.
    Insert,
}

impl StoredKind {
    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Stream => "stream",
            Self::View => "view",
            Self::Sink => "sink",
            Self::Insert => "insert",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        [Self::Source, Self::Stream, Self::View, Self::Sink, Self::Insert].into_iter().find(|kind| kind.word() == word)
    }
}

/// A stored statement.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// Its row; ascends in the order of creation.
    pub(crate) id: i64,
    /// What it made.
    pub(crate) kind: StoredKind,
    /// Of what name.
    pub(crate) name: String,
    /// Its text.
    pub(crate) sql: String,
    /// Columns that were inferred; `None`: they follow from the text.
    pub(crate) columns: Option<SchemaRef>,
    /// The bounded inputs of the sink have ended.
    pub(crate) finished: bool,
    /// The stream rests until it is resumed.
    pub(crate) paused: bool,
    /// Which of the logs on disk that the stream has had it writes.
    pub(crate) log: u32,
}

/// Why the catalog cannot be used.
#[derive(Debug, Error)]
pub(crate) enum StoreError {
    #[error("the data folder \"{folder}\" cannot be used: {source}")]
    Folder { folder: String, source: std::io::Error },
    #[error(
        "the data folder \"{0}\" is used by another squilla process: stop it, or give another folder by --data-dir"
    )]
    Locked(String),
    #[error(
        "the catalog in \"{folder}\" has format {found}, this squilla reads format {FORMAT}: use the squilla that wrote it"
    )]
    Format { folder: String, found: i64 },
    #[error("\"{0}\" is not a catalog of squilla's")]
    Foreign(String),
    #[error("the catalog holds what it cannot hold: {0}")]
    Corrupt(String),
    #[error("the catalog cannot be read or written: {0}")]
    Sqlite(#[from] rusqlite::Error),
}

/// The catalog on disk, or nothing at all. Cheap to clone. SQLite runs on threads for blocking work.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    disk: Option<Arc<Mutex<Disk>>>,
    /// Numbers definitions where there is no disk.
    next: Arc<std::sync::atomic::AtomicI64>,
}

#[derive(Debug)]
struct Disk {
    connection: Connection,
    /// Holds the folder's lock.
    _lock: File,
}

impl Store {
    /// Keeps nothing.
    pub(crate) fn in_memory() -> Self {
        Self { disk: None, next: Arc::default() }
    }

    /// Locks a folder, making it where it is absent, and opens the catalog in it. Blocks.
    pub(crate) fn open(folder: &Path) -> Result<Self, StoreError> {
        let shown = folder.display().to_string();
        let unusable = |source| StoreError::Folder { folder: shown.clone(), source };
        std::fs::create_dir_all(folder).map_err(unusable)?;
        let lock =
            OpenOptions::new().create(true).truncate(false).write(true).open(folder.join(LOCK)).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::Locked(shown)),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let connection = Connection::open(folder.join(FILE))?;
        prepare(&connection, &shown)?;
        let disk = Disk { connection, _lock: lock };
        Ok(Self { disk: Some(Arc::new(Mutex::new(disk))), next: Arc::default() })
    }

    /// Everything stored, in the order of creation.
    pub(crate) async fn all(&self) -> Result<Vec<Stored>, StoreError> {
        self.with_disk(Vec::new, |connection| {
            let mut select = connection
                .prepare("SELECT id, kind, name, sql, columns, finished, paused, log FROM statement ORDER BY id")?;
            let mut rows = select.query([])?;
            let mut all = Vec::new();
            while let Some(row) = rows.next()? {
                let kind: String = row.get(1)?;
                let columns: Option<String> = row.get(4)?;
                all.push(Stored {
                    id: row.get(0)?,
                    kind: StoredKind::of_word(&kind).ok_or(StoreError::Corrupt(kind))?,
                    name: row.get(2)?,
                    sql: row.get(3)?,
                    columns: columns.map(|json| read_columns(&json)).transpose()?,
                    finished: row.get(5)?,
                    paused: row.get(6)?,
                    log: row.get(7)?,
                });
            }
            Ok(all)
        })
        .await
    }

    /// Stores a statement; its id.
    pub(crate) async fn insert(&self, kind: StoredKind, name: &str, sql: &str) -> Result<i64, StoreError> {
        let (name, sql) = (name.to_owned(), sql.to_owned());
        let next = self.next.clone();
        let without_disk = move || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.change(without_disk, move |connection| {
            let insert = "INSERT INTO statement (kind, name, sql) VALUES (?, ?, ?)";
            connection.execute(insert, params![kind.word(), name, sql])?;
            Ok(connection.last_insert_rowid())
        })
        .await
    }

    /// Stores the columns that were inferred for a source.
    pub(crate) async fn set_columns(&self, id: i64, schema: &SchemaRef) -> Result<(), StoreError> {
        let json = write_columns(schema);
        self.change(
            || (),
            move |connection| {
                connection.execute("UPDATE statement SET columns = ? WHERE id = ?", params![json, id])?;
                Ok(())
            },
        )
        .await
    }

    /// Notes that a sink's inputs have ended.
    pub(crate) async fn set_finished(&self, id: i64) -> Result<(), StoreError> {
        self.change(
            || (),
            move |connection| {
                connection.execute("UPDATE statement SET finished = 1 WHERE id = ?", params![id])?;
                Ok(())
            },
        )
        .await
    }

    /// Notes that a stream rests, or goes on.
    pub(crate) async fn set_paused(&self, id: i64, paused: bool) -> Result<(), StoreError> {
        self.change(
            || (),
            move |connection| {
                connection.execute("UPDATE statement SET paused = ? WHERE id = ?", params![paused, id])?;
                Ok(())
            },
        )
        .await
    }

    /// Another text takes a statement's place, and another log a stream's; the log's number until then.
    pub(crate) async fn set_sql(&self, id: i64, sql: &str, log: u32) -> Result<u32, StoreError> {
        let sql = sql.to_owned();
        self.change(
            || log,
            move |connection| {
                let before = connection.query_row("SELECT log FROM statement WHERE id = ?", [id], |row| row.get(0))?;
                connection.execute("UPDATE statement SET sql = ?, log = ? WHERE id = ?", params![sql, log, id])?;
                Ok(before)
            },
        )
        .await
    }

    /// Forgets statements, all or none of them.
    pub(crate) async fn remove(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.change(
            || (),
            move |connection| {
                for id in ids {
                    connection.execute("DELETE FROM statement WHERE id = ?", params![id])?;
                }
                Ok(())
            },
        )
        .await
    }

    /// Changes what is stored, wholly or not at all.
    async fn change<T: Send + 'static>(
        &self,
        without: impl FnOnce() -> T,
        with: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.with_disk(without, |connection| {
            Failpoint::CatalogBegins.pass();
            let transaction = connection.unchecked_transaction()?;
            let changed = with(&transaction)?;
            Failpoint::CatalogChanges.pass();
            transaction.commit()?;
            Failpoint::CatalogChanged.pass();
            Ok(changed)
        })
        .await
    }

    async fn with_disk<T: Send + 'static>(
        &self,
        without: impl FnOnce() -> T,
        with: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let Some(disk) = self.disk.clone() else { return Ok(without()) };
        let work = move || with(&disk.lock().expect("no holder of this lock panics").connection);
        tokio::task::spawn_blocking(work).await.expect("the catalog's work does not panic")
    }
}

fn prepare(connection: &Connection, folder: &str) -> Result<(), StoreError> {
    let number = |pragma: &str| connection.query_row(&format!("PRAGMA {pragma}"), [], |row| row.get::<_, i64>(0));
    let foreign = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => StoreError::Foreign(format!("{folder}/{FILE}")),
        _ => StoreError::Sqlite(error),
    };
    let tables =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0)).map_err(foreign)?;
    let found = number("user_version")?;
    if tables == 0 && found == 0 {
        connection.pragma_update(None, "application_id", APPLICATION)?;
        connection.pragma_update(None, "user_version", FORMAT)?;
    } else if number("application_id")? != APPLICATION {
        return Err(StoreError::Foreign(format!("{folder}/{FILE}")));
    } else if !(1..=FORMAT).contains(&found) {
        return Err(StoreError::Format { folder: folder.to_owned(), found });
    }
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    if tables > 0 && found < FORMAT {
        let upgrade = connection.unchecked_transaction()?;
        for step in UPGRADES.iter().skip(usize::try_from(found - 1).unwrap_or_default()) {
            upgrade.execute_batch(step)?;
        }
        upgrade.pragma_update(None, "user_version", FORMAT)?;
        upgrade.commit()?;
    }
    // A definition that was acknowledged is on disk.
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection.execute_batch(TABLES)?)
}

#[derive(Serialize, Deserialize)]
struct StoredColumn {
    name: String,
    r#type: StoredType,
    nullable: bool,
}

/// A type; those with names in them are written part by part, since Arrow does not read back names with quotes.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum StoredType {
    Plain(String),
    List { list: Box<StoredColumn> },
    Struct { columns: Vec<StoredColumn> },
}

impl From<&Field> for StoredColumn {
    fn from(field: &Field) -> Self {
        let r#type = match field.data_type() {
            DataType::List(item) => StoredType::List { list: Box::new(Self::from(item.as_ref())) },
            DataType::Struct(fields) => {
                StoredType::Struct { columns: fields.iter().map(|field| Self::from(field.as_ref())).collect() }
            }
            other => StoredType::Plain(other.to_string()),
        };
        Self { name: field.name().clone(), r#type, nullable: field.is_nullable() }
    }
}

impl TryFrom<StoredColumn> for Field {
    type Error = StoreError;

    fn try_from(column: StoredColumn) -> Result<Self, StoreError> {
        let data_type = match column.r#type {
            StoredType::Plain(text) => {
                text.parse().map_err(|error: arrow::error::ArrowError| StoreError::Corrupt(error.to_string()))?
            }
            StoredType::List { list } => DataType::List(Arc::new((*list).try_into()?)),
            StoredType::Struct { columns } => DataType::Struct(read_fields(columns)?.into()),
        };
        Ok(Self::new(column.name, data_type, column.nullable))
    }
}

fn read_fields(columns: Vec<StoredColumn>) -> Result<Vec<Field>, StoreError> {
    columns.into_iter().map(Field::try_from).collect()
}

fn write_columns(schema: &Schema) -> String {
    let columns: Vec<StoredColumn> = schema.fields().iter().map(|field| StoredColumn::from(field.as_ref())).collect();
    serde_json::to_string(&columns).expect("strings and booleans can be written as JSON")
}

fn read_columns(json: &str) -> Result<SchemaRef, StoreError> {
    let columns: Vec<StoredColumn> =
        serde_json::from_str(json).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    Ok(Arc::new(Schema::new(read_fields(columns)?)))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::TimeUnit;

    use super::*;

    #[tokio::test]
    async fn statements_come_back_in_order_and_columns_with_them() {
        let folder = tempfile::tempdir().expect("a folder");
        let nested = DataType::Struct(vec![Field::new("a\"b", DataType::Utf8, true)].into());
        let schema = Arc::new(Schema::new(vec![
            Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, None), true),
            Field::new("tags", DataType::List(Arc::new(Field::new("item", DataType::Int64, true))), true),
            Field::new("deep", nested, false),
        ]));
        {
            let store = Store::open(folder.path()).expect("opens");
            let first = store.insert(StoredKind::Source, "a", "CREATE SOURCE a").await.expect("stored");
            let second = store.insert(StoredKind::Stream, "b", "CREATE STREAM b").await.expect("stored");
            store.insert(StoredKind::Insert, "s", "INSERT INTO s").await.expect("stored");
            store.set_columns(first, &schema).await.expect("stored");
            store.remove(vec![second]).await.expect("removed");
        }
        let store = Store::open(folder.path()).expect("opens again");
        let all = store.all().await.expect("read");
        let names: Vec<_> = all.iter().map(|stored| (stored.kind.word(), stored.name.as_str())).collect();
        assert_eq!(names, [("source", "a"), ("insert", "s")]);
        assert_eq!(all[0].columns.as_ref(), Some(&schema));
        store.set_finished(all[1].id).await.expect("stored");
        assert!(store.all().await.expect("read")[1].finished);
    }

    #[tokio::test]
    async fn a_folder_serves_one_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let _first = Store::open(folder.path()).expect("opens");
        let refused = Store::open(folder.path()).expect_err("is locked").to_string();
        assert!(refused.contains("another squilla process"), "{refused}");
    }

    #[tokio::test]
    async fn a_catalog_of_an_earlier_format_is_read_and_brought_up() {
        let folder = tempfile::tempdir().expect("a folder");
        {
            let connection = Connection::open(folder.path().join(FILE)).expect("opens");
            let first = "CREATE TABLE statement (id INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL,
                name TEXT NOT NULL, sql TEXT NOT NULL, columns TEXT, finished INTEGER NOT NULL DEFAULT 0) STRICT;
                INSERT INTO statement (kind, name, sql) VALUES ('stream', 'a', 'CREATE STREAM a');";
            connection.execute_batch(first).expect("written");
            connection.pragma_update(None, "application_id", APPLICATION).expect("set");
            connection.pragma_update(None, "user_version", 1).expect("set");
        }
        for wanted in [false, true] {
            let store = Store::open(folder.path()).expect("opens");
            let all = store.all().await.expect("read");
            assert_eq!((all[0].name.as_str(), all[0].paused, all[0].log), ("a", wanted, u32::from(wanted)));
            store.set_paused(all[0].id, true).await.expect("stored");
            assert_eq!(store.set_sql(all[0].id, "CREATE STREAM a AS b", 1).await.expect("stored"), u32::from(wanted));
        }
    }

    #[test]
    fn what_others_wrote_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(FILE), "not a database, but long enough to be read as one".repeat(40))
            .expect("written");
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Foreign(_))));

        let folder = tempfile::tempdir().expect("a folder");
        drop(Store::open(folder.path()).expect("opens"));
        let connection = Connection::open(folder.path().join(FILE)).expect("opens");
        connection.pragma_update(None, "user_version", 99).expect("set");
        drop(connection);
        assert!(matches!(Store::open(folder.path()), Err(StoreError::Format { found: 99, .. })));
    }
}
