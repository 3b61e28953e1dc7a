//! Statements that make and alter the streams, by what they have in common.

/// What is counted of rows without windows.
macro_rules! totals {
    ($count:literal, $of:literal) => {
        concat!(
            "SELECT part, ",
            $count,
            " AS n, sum(id) AS total, min(id) AS least, max(id) AS greatest FROM ",
            $of,
            " GROUP BY part"
        )
    };
}

/// What is counted of the rows of windows.
macro_rules! counts {
    ($count:literal, $of:literal, $window:literal) => {
        concat!(
            "SELECT CAST(to_unixtime(window_start) AS BIGINT) AS start_s, part, ",
            $count,
            " AS n, sum(id) AS total, min(id) AS least, max(id) AS greatest FROM ",
            $of,
            " GROUP BY ",
            $window,
            ", part"
        )
    };
}

/// Makes a stream that lasts.
macro_rules! stream {
    ($name:literal, $($query:tt)+) => {
        concat!("CREATE STREAM IF NOT EXISTS ", $name, " WITH (durability = 'durable') AS ", $($query)+)
    };
}

/// Makes a source that events are published to.
macro_rules! source {
    ($name:literal, $delay:literal) => {
        concat!(
            "CREATE SOURCE IF NOT EXISTS ",
            $name,
            " (id BIGINT, ts TIMESTAMP, part BIGINT, WATERMARK FOR ts AS ts - INTERVAL '",
            $delay,
            "') WITH (connector = 'http', durability = 'durable', idle_timeout = '10h')"
        )
    };
}

/// Has a stream go over to another query.
macro_rules! alter {
    ($name:literal, $($query:tt)+) => {
        concat!("ALTER STREAM ", $name, " AS ", $($query)+)
    };
}

pub(crate) use {alter, counts, source, stream, totals};
