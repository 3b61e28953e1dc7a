//! SQL's column types as Arrow's, and back as text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use datafusion_sql::sqlparser::ast::{ArrayElemTypeDef, DataType as Sql, ExactNumberInfo, StructField};

use crate::timestamp_type;

/// What a column can be, for help.
pub(crate) const TYPES: &str = "the types are BIGINT, INT, SMALLINT, TINYINT, DOUBLE, REAL, DECIMAL(p, s), VARCHAR, BOOLEAN, DATE, TIMESTAMP, \
     JSON, BYTEA, arrays such as BIGINT[], and STRUCT<name type, …>";

/// Most digits of a DECIMAL.
const MAX_PRECISION: u64 = 38;

/// The Arrow type of a SQL type.
///
/// # Errors
/// Why there is none.
pub(crate) fn column_type(sql: &Sql) -> Result<DataType, String> {
    Ok(match sql {
        Sql::BigInt(_) | Sql::Int8(_) | Sql::Int64 => DataType::Int64,
        Sql::Int(_) | Sql::Integer(_) | Sql::Int4(_) | Sql::Int32 => DataType::Int32,
        Sql::SmallInt(_) | Sql::Int2(_) | Sql::Int16 => DataType::Int16,
        Sql::TinyInt(_) => DataType::Int8,
        Sql::BigIntUnsigned(_) | Sql::UBigInt | Sql::UInt64 => DataType::UInt64,
        Sql::IntUnsigned(_) | Sql::IntegerUnsigned(_) | Sql::UInt32 => DataType::UInt32,
        Sql::SmallIntUnsigned(_) | Sql::USmallInt | Sql::UInt16 => DataType::UInt16,
        Sql::TinyIntUnsigned(_) | Sql::UTinyInt | Sql::UInt8 => DataType::UInt8,
        Sql::Double(_) | Sql::DoublePrecision | Sql::Float8 | Sql::Float64 => DataType::Float64,
        Sql::Real | Sql::Float4 | Sql::Float32 => DataType::Float32,
        Sql::Float(ExactNumberInfo::Precision(precision)) if *precision > 24 => DataType::Float64,
        Sql::Float(_) => DataType::Float32,
        Sql::Varchar(_)
        | Sql::CharacterVarying(_)
        | Sql::CharVarying(_)
        | Sql::Nvarchar(_)
        | Sql::Char(_)
        | Sql::Character(_)
        | Sql::Text
        | Sql::String(_) => DataType::Utf8,
        Sql::JSON | Sql::JSONB => crate::functions::json::JSON,
        Sql::Boolean | Sql::Bool => DataType::Boolean,
        Sql::Date | Sql::Date32 => DataType::Date32,
        Sql::Timestamp(..) | Sql::TimestampNtz(_) | Sql::Datetime(_) => timestamp_type(),
        Sql::Bytea | Sql::Blob(_) | Sql::Bytes(_) | Sql::Varbinary(_) | Sql::Binary(_) => DataType::Binary,
        Sql::Decimal(info) | Sql::Numeric(info) | Sql::Dec(info) => decimal(info)?,
        Sql::Array(ArrayElemTypeDef::AngleBracket(item) | ArrayElemTypeDef::SquareBracket(item, None)) => {
            DataType::List(Arc::new(Field::new_list_field(column_type(item)?, true)))
        }
        Sql::Struct(fields, _) => structure(fields)?,
        Sql::Custom(name, _) => match name.to_string().to_lowercase().as_str() {
            "timestamp_ltz" | "timestamp_ntz" | "timestamp_tz" => timestamp_type(),
            _ => return Err(format!("type \"{sql}\" is not known")),
        },
        _ => return Err(format!("type \"{sql}\" is not known here")),
    })
}

fn decimal(info: &ExactNumberInfo) -> Result<DataType, String> {
    let (precision, scale) = match info {
        ExactNumberInfo::None => (MAX_PRECISION, 10),
        ExactNumberInfo::Precision(precision) => (*precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (*precision, *scale),
    };
    let fits = (1..=MAX_PRECISION).contains(&precision) && (0..=precision.cast_signed()).contains(&scale);
    match (u8::try_from(precision), i8::try_from(scale)) {
        (Ok(precision), Ok(scale)) if fits => Ok(DataType::Decimal128(precision, scale)),
        _ => Err(format!(
            "DECIMAL({precision}, {scale}) is out of range: 1 to {MAX_PRECISION} digits, of which none or more after the point"
        )),
    }
}

fn structure(fields: &[StructField]) -> Result<DataType, String> {
    let fields = fields.iter().map(|field| {
        let Some(name) = &field.field_name else { return Err("each field of a STRUCT needs a name".to_owned()) };
        let name = if name.quote_style.is_some() { name.value.clone() } else { name.value.to_lowercase() };
        Ok(Field::new(name, column_type(&field.field_type)?, true))
    });
    Ok(DataType::Struct(fields.collect::<Result<Fields, String>>()?))
}

/// The type as SQL has it: `BIGINT`, `TIMESTAMP`, `VARCHAR`.
pub fn sql_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Int8 => "TINYINT".into(),
        DataType::Int16 => "SMALLINT".into(),
        DataType::Int32 => "INT".into(),
        DataType::Int64 => "BIGINT".into(),
        DataType::UInt8 => "TINYINT UNSIGNED".into(),
        DataType::UInt16 => "SMALLINT UNSIGNED".into(),
        DataType::UInt32 => "INT UNSIGNED".into(),
        DataType::UInt64 => "BIGINT UNSIGNED".into(),
        DataType::Float16 | DataType::Float32 => "REAL".into(),
        DataType::Float64 => "DOUBLE".into(),
        DataType::Utf8 | DataType::LargeUtf8 => "VARCHAR".into(),
        DataType::Utf8View => "JSON".into(),
        DataType::Boolean => "BOOLEAN".into(),
        DataType::Date32 | DataType::Date64 => "DATE".into(),
        DataType::Time32(_) | DataType::Time64(_) => "TIME".into(),
        DataType::Timestamp(TimeUnit::Nanosecond, None) => "TIMESTAMP".into(),
        DataType::Timestamp(unit, None) => format!("TIMESTAMP({})", digits(*unit)),
        DataType::Timestamp(unit, Some(zone)) => format!("TIMESTAMP({}) AT TIME ZONE '{zone}'", digits(*unit)),
        DataType::Interval(_) | DataType::Duration(_) => "INTERVAL".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "BYTEA".into()
        }
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => format!("DECIMAL({precision}, {scale})"),
        DataType::List(item) | DataType::LargeList(item) | DataType::ListView(item) => {
            format!("{}[]", sql_name(item.data_type()))
        }
        DataType::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{} {}", field.name(), sql_name(field.data_type()))).collect();
            format!("STRUCT<{}>", fields.join(", "))
        }
        DataType::Null => "NULL".into(),
        other => other.to_string(),
    }
}

fn digits(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// Puts SQL's names in place of Arrow's in a message of DataFusion's.
pub(crate) fn translate(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let length = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (name, after) = rest.split_at(length);
        out.push_str(match name {
            "Int8" => "TINYINT",
            "Int16" => "SMALLINT",
            "Int32" => "INT",
            "Int64" => "BIGINT",
            "UInt8" => "TINYINT UNSIGNED",
            "UInt16" => "SMALLINT UNSIGNED",
            "UInt32" => "INT UNSIGNED",
            "UInt64" => "BIGINT UNSIGNED",
            "Float32" => "REAL",
            "Float64" => "DOUBLE",
            "Utf8" | "LargeUtf8" => "VARCHAR",
            "Utf8View" => "JSON",
            "Boolean" => "BOOLEAN",
            "Date32" | "Date64" => "DATE",
            "Timestamp" => "TIMESTAMP",
            "Interval" => "INTERVAL",
            other => other,
        });
        rest = after;
        let Some(next) = rest.chars().next() else { break };
        out.push(next);
        rest = &rest[next.len_utf8()..];
    }
    for (arrow, sql) in [
        ("TIMESTAMP(ns)", "TIMESTAMP"),
        ("TIMESTAMP(Nanosecond, None)", "TIMESTAMP"),
        ("INTERVAL(MonthDayNano)", "INTERVAL"),
    ] {
        out = out.replace(arrow, sql);
    }
    out
}
