use std::io::Write;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type, TimestampNanosecondType};
use squilla_engine::{EventTime, ManualClock, ReadEvent, SourceDefinition};
use tempfile::TempDir;

use super::*;
use crate::testing::{create, env_with, read_all};

fn folder() -> (TempDir, SourceEnv) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().canonicalize().expect("there");
    (folder, env_with(Arc::new(ManualClock::new(EventTime(0))), vec![root]))
}

fn write(folder: &TempDir, name: &str, text: &[u8]) {
    std::fs::write(folder.path().join(name), text).expect("written");
}

fn append(folder: &TempDir, name: &str, text: &[u8]) {
    let mut file = std::fs::OpenOptions::new().append(true).open(folder.path().join(name)).expect("there");
    file.write_all(text).expect("written");
}

async fn define_file(env: &SourceEnv, options: &[(&str, &str)]) -> Result<SourceDefinition, Vec<Diagnostic>> {
    let mut all = vec![("connector", "file")];
    all.extend_from_slice(options);
    crate::define_source(&create("events", None, &all), env).await
}

fn ids(rows: &RecordBatch) -> Vec<i64> {
    rows.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// The ids of the next rows; empty when there are none.
async fn next_ids(reader: &mut Box<dyn PartitionReader>) -> Vec<i64> {
    match reader.next().await.expect("read") {
        ReadEvent::Batch { rows, .. } => ids(&rows),
        ReadEvent::Empty => Vec::new(),
        ReadEvent::End => panic!("a followed file never ends"),
    }
}

#[tokio::test]
async fn each_file_of_a_pattern_is_a_partition_in_the_order_of_names() {
    let (folder, env) = folder();
    write(&folder, "b.ndjson", b"{\"id\":3}\n{\"id\":4}");
    write(&folder, "a.ndjson", b"{\"id\":1,\"name\":\"x\"}\r\n{\"id\":2}\r\n");
    write(&folder, "c.txt", b"nonsense");
    let definition = define_file(&env, &[("path", "*.ndjson")]).await.expect("files");
    assert_eq!(definition.connector.open(&[0]).await.expect("opened").len(), 2);
    assert_eq!(ids(&read_all(&definition, &[0]).await), [1, 2, 3, 4]);
    assert!(definition.connector.info().bounded);
    assert_eq!(read_all(&definition, &[]).await.num_rows(), 4);
}

#[tokio::test]
async fn a_large_file_is_read_in_blocks_and_long_records_are_rejected_alone() {
    let (folder, env) = folder();
    let mut text = Vec::new();
    for id in 0..30_000 {
        writeln!(text, "{{\"id\":{id},\"pad\":\"{}\"}}", "x".repeat(60)).expect("memory");
    }
    // One that is read as a whole, one of which the end is far.
    for past in [1, 3 << 20] {
        let long = "y".repeat(crate::format::MAX_RECORD_BYTES + past);
        writeln!(text, "{{\"id\":-1,\"pad\":\"{long}\"}}").expect("memory");
    }
    writeln!(text, "{{\"id\":30000}}").expect("memory");
    write(&folder, "large.json", &text);
    let definition = define_file(&env, &[("path", "large.json")]).await.expect("a file");
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    let (mut seen, mut rejected, mut read) = (Vec::new(), Vec::new(), 0);
    loop {
        match readers[0].next().await.expect("read") {
            ReadEvent::Batch { rows, rejects, bytes, .. } => {
                seen.extend(ids(&rows));
                rejected.extend(rejects);
                read += bytes;
            }
            ReadEvent::Empty => panic!("a file is never empty for now"),
            ReadEvent::End => break,
        }
    }
    assert!(seen.iter().copied().eq(0..=30_000));
    let places: Vec<&str> = rejected.iter().map(|reject| reject.place.as_str()).collect();
    assert_eq!(places, ["line 30001 of large.json", "line 30002 of large.json"]);
    assert!(rejected.iter().all(|reject| reject.record.len() <= 2_048));
    assert!(read > 2_000_000);
}

#[tokio::test]
async fn compressed_files_are_read_once() {
    let (folder, env) = folder();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(b"id,at\n1,2024-01-01T00:00:00Z\n2,\n").expect("memory");
    write(&folder, "a.csv.gz", &packer.finish().expect("memory"));
    let definition = define_file(&env, &[("path", "a.csv.gz")]).await.expect("a file");
    let rows = read_all(&definition, &[0, 1]).await;
    assert_eq!(ids(&rows), [1, 2]);
    assert_eq!(rows.column(1).as_primitive::<TimestampNanosecondType>().value(0), 1_704_067_200_000_000_000);
    let mistakes = define_file(&env, &[("path", "a.csv.gz"), ("mode", "follow")]).await.expect_err("compressed");
    assert_eq!(mistakes[0].message, "only plain text files can be followed");
}

#[tokio::test]
async fn parquet_columns_are_found_by_name_and_cast() {
    let (folder, env) = folder();
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("name", Arc::new(arrow::array::StringArray::from(vec!["1", "x", "3"]))),
        ("at", Arc::new(arrow::array::TimestampMillisecondArray::from(vec![1_000, 2_000, 3_000]))),
        ("id", Arc::new(arrow::array::Int32Array::from(vec![7, 8, 9]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns");
    let mut file = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
    write(&folder, "a.parquet", &file);

    let definition = define_file(&env, &[("path", "a.parquet")]).await.expect("a file");
    assert_eq!(definition.schema.field(1).data_type(), &squilla_query::timestamp_type());
    let rows = read_all(&definition, &[1, 2]).await;
    assert_eq!(rows.column(0).as_primitive::<TimestampNanosecondType>().value(2), 3_000_000_000);

    let declared = vec![Field::new("id", DataType::Int64, true), Field::new("name", DataType::Int64, true)];
    let create = create("events", Some(declared), &[("connector", "file"), ("path", "a.parquet")]);
    let definition = crate::define_source(&create, &env).await.expect("a file");
    let mut readers = definition.connector.open(&[0, 1]).await.expect("opened");
    let ReadEvent::Batch { rows, undecodable, rejects, .. } = readers[0].next().await.expect("read") else {
        panic!("rows")
    };
    assert_eq!((ids(&rows), undecodable), (vec![7, 9], 1));
    assert_eq!(rejects[0].place, "row 2 of a.parquet");

    // A file that comes later may have fewer columns.
    let fewer = batch.project(&[2]).expect("a column");
    let mut file = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut file, fewer.schema(), None).expect("a writer");
    writer.write(&fewer).expect("written");
    writer.close().expect("written");
    write(&folder, "a.parquet", &file);
    let rows = read_all(&definition, &[0, 1]).await;
    assert_eq!((rows.num_rows(), rows.column(1).null_count()), (3, 3));
}

#[tokio::test]
async fn a_followed_file_grows_is_replaced_and_is_cut() {
    let (folder, env) = folder();
    write(&folder, "log.json", b"{\"id\":1}\n{\"id\":2}\n{\"id\"");
    let definition = define_file(&env, &[("path", "log.json"), ("mode", "follow")]).await.expect("a file");
    assert!(!definition.connector.info().bounded);
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    let reader = &mut readers[0];
    assert_eq!(next_ids(reader).await, [1, 2]);
    assert!(next_ids(reader).await.is_empty());
    // The rest of a line comes later.
    append(&folder, "log.json", b":3}\n");
    assert_eq!(next_ids(reader).await, [3]);
    // Rotated by rename: what the old one holds, its last line without a line feed too, comes first.
    append(&folder, "log.json", b"{\"id\":4}\n{\"id\":5}");
    std::fs::rename(folder.path().join("log.json"), folder.path().join("log.1")).expect("renamed");
    assert_eq!(next_ids(reader).await, [4]);
    assert!(next_ids(reader).await.is_empty());
    write(&folder, "log.json", b"{\"id\":6}\n");
    assert_eq!(next_ids(reader).await, [5]);
    assert_eq!(next_ids(reader).await, [6]);
    // Emptied in place.
    write(&folder, "log.json", b"");
    assert!(next_ids(reader).await.is_empty());
    append(&folder, "log.json", b"{\"id\":7}\n");
    assert_eq!(next_ids(reader).await, [7]);
}

#[tokio::test]
async fn a_read_that_is_given_up_loses_nothing() {
    let (folder, env) = folder();
    write(&folder, "log.json", b"{\"id\":1}\n");
    let definition = define_file(&env, &[("path", "log.json"), ("mode", "follow")]).await.expect("a file");
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    assert_eq!(next_ids(&mut readers[0]).await, [1]);
    let mut next = readers[0].next();
    assert!(futures::poll!(&mut next).is_pending());
    drop(next);
    append(&folder, "log.json", b"{\"id\":2}\n");
    assert_eq!(next_ids(&mut readers[0]).await, [2]);
}

#[tokio::test]
async fn mistakes_say_what_to_write() {
    let (folder, env) = folder();
    write(&folder, "a.json", b"{\"id\":1}\n");
    write(&folder, "a.dat", b"{\"id\":1}\n");
    write(&folder, "empty.json", b"");
    let mistake = async |options: &[(&str, &str)]| {
        let mistakes = define_file(&env, options).await.expect_err("a mistake");
        (mistakes[0].code, mistakes[0].message.clone(), mistakes[0].help.clone())
    };
    let root = env.roots[0].display();
    assert_eq!(mistake(&[]).await.0, "missing_option");
    let (_, message, help) = mistake(&[("path", "/etc/passwd")]).await;
    assert_eq!(message, "\"/etc/passwd\" is outside of the folders that may be used");
    assert_eq!(help, format!("allowed: \"{root}\""));
    assert_eq!(mistake(&[("path", "b.json")]).await.1, format!("\"{root}/b.json\" is not there"));
    assert_eq!(mistake(&[("path", "*.log")]).await.1, format!("no file matches \"{root}/*.log\""));
    assert_eq!(mistake(&[("path", "a.dat")]).await.2, "add format = 'json', 'csv' or 'parquet'");
    assert_eq!(mistake(&[("path", "a.json"), ("format", "jsno")]).await.2, "did you mean \"json\"?");
    assert_eq!(mistake(&[("path", "a.json"), ("formt", "json")]).await.2, "did you mean \"format\"?");
    assert_eq!(mistake(&[("path", "a.json"), ("durability", "durable")]).await.0, "unsupported");
    assert_eq!(mistake(&[("path", "a.json"), ("partition_by", "id")]).await.0, "unsupported");
    assert_eq!(
        mistake(&[("path", "a.dat"), ("format", "csv"), ("delimiter", "ab")]).await.2,
        "write ',', ';' or '\\t'"
    );
    assert_eq!(mistake(&[("path", "empty.json")]).await.0, "not_inferred");
    write(&folder, "a.csv", b"id,name\n");
    let declared = vec![Field::new("nmae", DataType::Utf8, true)];
    let create = create("events", Some(declared), &[("connector", "file"), ("path", "a.csv")]);
    let mistakes = crate::define_source(&create, &env).await.expect_err("a mistake");
    assert_eq!(mistakes[0].help, "did you mean \"name\"?");
}

/// Event times in nanoseconds, of all rows of a file whose columns were inferred.
async fn inferred_times(name: &str, text: &[u8], watermark: Option<&str>, unit: Option<&str>) -> Vec<i64> {
    let (folder, env) = folder();
    write(&folder, name, text);
    let mut options = vec![("connector", "file"), ("path", name)];
    options.extend(unit.map(|unit| ("timestamp_unit", unit)));
    let mut create = create("events", None, &options);
    create.watermark = watermark.map(|column| squilla_query::WatermarkClause {
        column: column.to_owned(),
        expression: format!("{column} - INTERVAL '1 second'"),
        span: None,
    });
    let definition = crate::define_source(&create, &env).await.expect("a source");
    let squilla_engine::EventTimeSpec::Column { index, .. } = definition.event_time else { panic!("an event time") };
    let rows = read_all(&definition, &[index]).await;
    rows.column(0).as_primitive::<TimestampNanosecondType>().values().to_vec()
}

#[tokio::test]
async fn inferred_numbers_are_times_where_the_statement_says_so() {
    const SECOND: i64 = 1_000_000_000;
    let moment = 1_700_000_000 * SECOND;
    let lines = |values: [&str; 2]| format!("{{\"id\":1,\"ts\":{}}}\n{{\"id\":2,\"ts\":{}}}\n", values[0], values[1]);
    let cells = |values: [&str; 2]| format!("id,ts\n1,{}\n2,{}\n", values[0], values[1]);
    let forms = [
        (["1700000000", "1700000001"], Some("s"), SECOND),
        (["1700000000.000000000", "1700000000.123456789"], Some("s"), 123_456_789),
        (["1700000000000", "1700000000001"], None, 1_000_000),
        (["1700000000000", "1700000000000.5"], Some("ms"), 500_000),
        (["1700000000000000", "1700000000000001"], Some("us"), 1_000),
        (["1700000000000000000", "1700000000000000001"], Some("ns"), 1),
    ];
    for (values, unit, later) in forms {
        let expected = [moment, moment + later];
        let (json, csv) = (lines(values), cells(values));
        assert_eq!(inferred_times("a.ndjson", json.as_bytes(), Some("ts"), unit).await, expected, "{json}");
        assert_eq!(inferred_times("a.csv", csv.as_bytes(), Some("ts"), unit).await, expected, "{csv}");
        if unit.is_some() {
            assert_eq!(inferred_times("a.ndjson", json.as_bytes(), None, unit).await, expected, "{json}");
            assert_eq!(inferred_times("a.csv", csv.as_bytes(), None, unit).await, expected, "{csv}");
        }
    }
    for text in ["2023-11-14T22:13:20Z", "2023-11-14 22:13:20", "2023-11-14T23:13:20.000+01:00", "2023-11-14T22:13:20"]
    {
        let json = format!("{{\"ts\":\"{text}\"}}\n");
        assert_eq!(inferred_times("a.ndjson", json.as_bytes(), None, None).await, [moment], "{text}");
        assert_eq!(inferred_times("a.csv", format!("ts\n{text}\n").as_bytes(), None, None).await, [moment], "{text}");
    }
}

#[tokio::test]
async fn a_unit_without_times_is_refused() {
    let (folder, env) = folder();
    write(&folder, "a.ndjson", b"{\"id\":1,\"sent\":1700000000}\n");
    let mistakes = define_file(&env, &[("path", "a.ndjson"), ("timestamp_unit", "s")]).await.expect_err("no times");
    assert_eq!(mistakes[0].code, "bad_option");
    assert!(mistakes[0].help.contains("WATERMARK FOR"));
}

#[tokio::test]
async fn numbers_of_parquet_are_times_in_their_unit() {
    let (folder, env) = folder();
    let columns: Vec<(&str, arrow::array::ArrayRef)> = vec![
        ("whole", Arc::new(arrow::array::Int64Array::from(vec![1_700_000_000, i64::MAX]))),
        ("part", Arc::new(arrow::array::Float64Array::from(vec![1.5, 2.25]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("columns");
    let mut file = Vec::new();
    let mut writer = ::parquet::arrow::ArrowWriter::try_new(&mut file, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("written");
    write(&folder, "a.parquet", &file);
    let declared = ["whole", "part"].map(|name| Field::new(name, squilla_query::timestamp_type(), true)).to_vec();
    let options = [("connector", "file"), ("path", "a.parquet"), ("timestamp_unit", "s")];
    let definition = crate::define_source(&create("events", Some(declared), &options), &env).await.expect("a file");
    let mut readers = definition.connector.open(&[0, 1]).await.expect("opened");
    let ReadEvent::Batch { rows, undecodable, .. } = readers[0].next().await.expect("read") else { panic!("rows") };
    let times = |at: usize| rows.column(at).as_primitive::<TimestampNanosecondType>().values().to_vec();
    assert_eq!((times(0), times(1), undecodable), (vec![1_700_000_000_000_000_000], vec![1_500_000_000], 1));
}
