//! Functions over JSON values, which columns of type JSON hold as their text.
//!
//! JSON is Arrow's `Utf8View`, which no other SQL type is: what is taken out of a value shares its bytes. A path that
//! leads nowhere, JSON's `null`, and a text that is no JSON at all give SQL's null.

mod path;
mod resolve;
mod walk;

use std::hash::{Hash, Hasher};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
    StringViewArray, StringViewBuilder,
};
use arrow::datatypes::{DataType, Field, Int64Type};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::{
    ColumnarValue, Documentation, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
    scalar_doc_sections::DOC_SECTION_STRING,
};

pub(crate) use resolve::{JsonPlanner, as_text, elements, resolve};
use walk::Step;

/// The type of a JSON column.
pub(crate) const JSON: DataType = DataType::Utf8View;

/// What a function makes of the value at the end of its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Get,
    Text,
    Int,
    Float,
    Bool,
    Length,
    Keys,
    Type,
    Exists,
    Array,
    Valid,
    Parse,
    TryParse,
}

/// Kind, names (the first is its own), how it is called, what it does.
const FUNCTIONS: [(Kind, &[&str], &str, &str); 13] = [
    (
        Kind::Get,
        &["json_get", "json_extract", "json_query", "json_get_json"],
        "json_get(json, path, …) or json -> path",
        "The JSON value at a path: a key, an index from 0 (from the end when negative), or a JSONPath such as \
         '$.a.b[0]'. Null where there is none.",
    ),
    (
        Kind::Text,
        &[
            "json_get_str",
            "json_extract_string",
            "json_extract_scalar",
            "json_extract_path_text",
            "json_value",
            "get_json_object",
            "json_as_text",
        ],
        "json_get_str(json, path, …) or json ->> path",
        "The value at a path as VARCHAR: a string without its quotes, anything else as its JSON text.",
    ),
    (
        Kind::Int,
        &["json_get_int"],
        "json_get_int(json, path, …)",
        "The whole number at a path as BIGINT; null where there is none.",
    ),
    (
        Kind::Float,
        &["json_get_float"],
        "json_get_float(json, path, …)",
        "The number at a path as DOUBLE; null where there is none.",
    ),
    (
        Kind::Bool,
        &["json_get_bool"],
        "json_get_bool(json, path, …)",
        "The true or false at a path; null where there is neither.",
    ),
    (
        Kind::Length,
        &["json_array_length", "json_length", "jsonb_array_length"],
        "json_array_length(json, path, …)",
        "How many elements the array, or fields the object, at a path has; null where there is neither.",
    ),
    (
        Kind::Keys,
        &["json_keys", "json_object_keys"],
        "json_keys(json, path, …)",
        "The keys of the object at a path, as VARCHAR[].",
    ),
    (
        Kind::Type,
        &["json_type", "json_typeof", "jsonb_typeof"],
        "json_type(json, path, …)",
        "What the value at a path is: 'object', 'array', 'string', 'number' or 'boolean'.",
    ),
    (
        Kind::Exists,
        &["json_exists", "json_contains"],
        "json_exists(json, path, …)",
        "Whether there is a value other than null at a path.",
    ),
    (
        Kind::Array,
        &["json_get_array", "json_extract_array"],
        "json_get_array(json, path, …)",
        "The elements of the array at a path, as JSON[]: unnest(json_get_array(payload, 'items')) gives each a row.",
    ),
    (Kind::Valid, &["json_valid", "is_valid_json"], "json_valid(text)", "Whether a text is JSON."),
    (
        Kind::Parse,
        &["parse_json", "json"],
        "parse_json(text)",
        "A text as JSON, as CAST(text AS JSON) has it. A row whose text is no JSON is set aside and counted failed.",
    ),
    (Kind::TryParse, &["try_parse_json"], "try_parse_json(text)", "A text as JSON; null where it is none."),
];

static DOCS: LazyLock<Vec<Documentation>> = LazyLock::new(|| {
    let doc = |(_, _, syntax, what): &(Kind, &[&str], &str, &str)| {
        Documentation::builder(DOC_SECTION_STRING, *what, *syntax).build()
    };
    FUNCTIONS.iter().map(doc).collect()
});

/// One of [`FUNCTIONS`].
#[derive(Debug)]
struct JsonFunction {
    kind: Kind,
    names: Vec<String>,
    signature: Signature,
}

impl PartialEq for JsonFunction {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

impl Eq for JsonFunction {}

impl Hash for JsonFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.kind.hash(state);
    }
}

/// All of them.
pub(super) fn all() -> Vec<Arc<ScalarUDF>> {
    FUNCTIONS.iter().map(|(kind, ..)| function(*kind)).collect()
}

fn function(kind: Kind) -> Arc<ScalarUDF> {
    static ALL: LazyLock<Vec<(Kind, Arc<ScalarUDF>)>> = LazyLock::new(|| {
        let one = |(kind, names, ..): &(Kind, &[&str], &str, &str)| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            let signature = Signature::user_defined(Volatility::Immutable);
            (*kind, Arc::new(ScalarUDF::from(JsonFunction { kind: *kind, names, signature })))
        };
        FUNCTIONS.iter().map(one).collect()
    });
    let (_, function) = ALL.iter().find(|(known, _)| *known == kind).expect("each kind is in the list");
    Arc::clone(function)
}

impl ScalarUDFImpl for JsonFunction {
    fn name(&self) -> &str {
        &self.names[0]
    }

    fn aliases(&self) -> &[String] {
        &self.names[1..]
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arg_types: &[DataType]) -> Result<DataType> {
        let list = |item: DataType| DataType::List(Arc::new(Field::new_list_field(item, true)));
        Ok(match self.kind {
            Kind::Get | Kind::Parse | Kind::TryParse => JSON,
            Kind::Text | Kind::Type => DataType::Utf8,
            Kind::Int | Kind::Length => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Bool | Kind::Exists | Kind::Valid => DataType::Boolean,
            Kind::Keys => list(DataType::Utf8),
            Kind::Array => list(JSON),
        })
    }

    fn coerce_types(&self, arg_types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let Some((json, path)) = arg_types.split_first() else { return plan_err!("{name} needs a JSON value") };
        if !(json.is_string() || json.is_null()) {
            return plan_err!("{name} takes JSON or a text first, not {json}");
        }
        if matches!(self.kind, Kind::Valid | Kind::Parse | Kind::TryParse) && !path.is_empty() {
            return plan_err!("{name} takes one argument, not {}", arg_types.len());
        }
        let step = |kind: &DataType| match kind {
            kind if kind.is_string() => Ok(DataType::Utf8),
            kind if kind.is_integer() => Ok(DataType::Int64),
            other => plan_err!("{name} takes keys and whole numbers as its path, not {other}"),
        };
        std::iter::once(Ok(JSON)).chain(path.iter().map(step)).collect()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if constant { 1 } else { args.number_rows };
        let json = args.args[0].to_array(rows)?;
        let paths = Paths::new(&args.args[1..], rows)?;
        let result = self.compute(json.as_string_view(), &paths)?;
        if constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }

    fn documentation(&self) -> Option<&Documentation> {
        FUNCTIONS.iter().position(|(kind, ..)| *kind == self.kind).map(|at| &DOCS[at])
    }
}

/// The path of each row.
struct Paths {
    /// `Some`: the same for all.
    fixed: Option<Vec<Step>>,
    columns: Vec<ArrayRef>,
}

impl Paths {
    fn new(args: &[ColumnarValue], rows: usize) -> Result<Self> {
        let columns = args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let paths = Self { fixed: None, columns };
        let fixed = args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let fixed = if fixed && rows > 0 { paths.read(0)? } else { None };
        Ok(Self { fixed, ..paths })
    }

    /// `None`: a step is null.
    fn read(&self, row: usize) -> Result<Option<Vec<Step>>> {
        let mut steps = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            if column.is_null(row) {
                return Ok(None);
            }
            match column.data_type() {
                DataType::Int64 => steps.push(Step::Index(column.as_primitive::<Int64Type>().value(row))),
                _ => path::steps(column.as_string::<i32>().value(row), &mut steps)?,
            }
        }
        Ok(Some(steps))
    }

    /// Shows each row's value and where in it the path leads.
    fn each(
        &self,
        json: &StringViewArray,
        mut show: impl FnMut(usize, Option<(&str, std::ops::Range<usize>)>) -> Result<()>,
    ) -> Result<()> {
        for row in 0..json.len() {
            let own = if self.fixed.is_none() { self.read(row)? } else { None };
            let found = match self.fixed.as_ref().or(own.as_ref()) {
                Some(path) if json.is_valid(row) => walk::find(json.value(row), path).map(|at| (json.value(row), at)),
                _ => None,
            };
            show(row, found)?;
        }
        Ok(())
    }
}

impl JsonFunction {
    fn compute(&self, json: &StringViewArray, paths: &Paths) -> Result<ArrayRef> {
        match self.kind {
            Kind::Get => views(json, paths),
            Kind::Parse | Kind::TryParse => self.parse(json),
            Kind::Valid => {
                let valid = |text: Option<&str>| text.map(is_json);
                Ok(Arc::new(json.iter().map(valid).collect::<arrow::array::BooleanArray>()))
            }
            Kind::Array => self.array(json, paths),
            Kind::Keys => {
                let mut out = ListBuilder::new(StringBuilder::new());
                paths.each(json, |_, found| {
                    let (json, place) = match found {
                        Some((json, place)) => (json.as_bytes(), place),
                        None => {
                            out.append_null();
                            return Ok(());
                        }
                    };
                    let keys = out.values();
                    let is_object = walk::fields(json, place.start, |key, _| {
                        let text = std::str::from_utf8(&json[key]).ok().and_then(walk::text);
                        keys.append_option(text);
                    });
                    out.append(is_object.is_some());
                    Ok(())
                })?;
                Ok(Arc::new(out.finish()))
            }
            _ => self.value(json, paths),
        }
    }

    /// One plain value a row.
    fn value(&self, json: &StringViewArray, paths: &Paths) -> Result<ArrayRef> {
        macro_rules! column {
            ($builder:expr, $make:expr) => {{
                let mut out = $builder;
                let make = $make;
                paths.each(json, |_, found| {
                    out.append_option(found.and_then(|(json, place)| make(&json[place])));
                    Ok(())
                })?;
                Ok(Arc::new(out.finish()))
            }};
        }
        match self.kind {
            Kind::Text => {
                let mut out = StringBuilder::with_capacity(json.len(), 0);
                paths.each(json, |_, found| {
                    out.append_option(found.and_then(|(json, place)| walk::text(&json[place])));
                    Ok(())
                })?;
                Ok(Arc::new(out.finish()))
            }
            Kind::Int => column!(Int64Builder::with_capacity(json.len()), |raw: &str| raw.parse::<i64>().ok()),
            Kind::Float => column!(Float64Builder::with_capacity(json.len()), number),
            Kind::Bool => column!(BooleanBuilder::with_capacity(json.len()), |raw: &str| raw.parse::<bool>().ok()),
            Kind::Length => column!(Int64Builder::with_capacity(json.len()), length),
            Kind::Type => {
                let mut out = StringBuilder::with_capacity(json.len(), 0);
                paths.each(json, |_, found| {
                    out.append_option(found.and_then(|(json, place)| kind(&json[place])));
                    Ok(())
                })?;
                Ok(Arc::new(out.finish()))
            }
            _ => {
                let mut out = BooleanBuilder::with_capacity(json.len());
                paths.each(json, |row, found| {
                    out.append_option(json.is_valid(row).then_some(found.is_some()));
                    Ok(())
                })?;
                Ok(Arc::new(out.finish()))
            }
        }
    }

    fn array(&self, json: &StringViewArray, paths: &Paths) -> Result<ArrayRef> {
        let mut out = ListBuilder::new(StringViewBuilder::new());
        paths.each(json, |_, found| {
            let Some((json, place)) = found else {
                out.append_null();
                return Ok(());
            };
            let items = out.values();
            let is_array = walk::elements(json.as_bytes(), place.start, |element| match &json[element] {
                "null" => items.append_null(),
                element => items.append_value(element),
            });
            out.append(is_array.is_some());
            Ok(())
        })?;
        Ok(Arc::new(out.finish()))
    }

    fn parse(&self, texts: &StringViewArray) -> Result<ArrayRef> {
        let mut out = StringViewBuilder::with_capacity(texts.len());
        for text in texts {
            match text {
                Some(text) if text.trim() == "null" => out.append_null(),
                Some(text) if is_json(text) => out.append_value(text),
                Some(text) if self.kind == Kind::Parse => {
                    let shown: String = text.chars().take(80).collect();
                    return exec_err!("not JSON: {shown}");
                }
                _ => out.append_null(),
            }
        }
        Ok(Arc::new(out.finish()))
    }
}

/// The values themselves, in the bytes that they are in.
fn views(json: &StringViewArray, paths: &Paths) -> Result<ArrayRef> {
    let mut out = StringViewBuilder::with_capacity(json.len());
    let blocks: Vec<u32> = json.data_buffers().iter().map(|buffer| out.append_block(buffer.clone())).collect();
    paths.each(json, |row, found| {
        let Some((text, place)) = found else {
            out.append_null();
            return Ok(());
        };
        let view = arrow::array::ByteView::from(json.views()[row]);
        match (blocks.get(view.buffer_index as usize), u32::try_from(place.start), u32::try_from(place.len())) {
            (Some(block), Ok(start), Ok(length)) if view.length > arrow::array::MAX_INLINE_VIEW_LEN => {
                out.try_append_view(*block, view.offset + start, length)?;
            }
            _ => out.append_value(&text[place]),
        }
        Ok(())
    })?;
    Ok(Arc::new(out.finish()))
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn number(raw: &str) -> Option<f64> {
    let first = raw.as_bytes().first()?;
    (first.is_ascii_digit() || *first == b'-').then(|| raw.parse().ok())?
}

fn length(raw: &str) -> Option<i64> {
    let mut count = 0;
    match raw.as_bytes().first()? {
        b'[' => walk::elements(raw.as_bytes(), 0, |_| count += 1)?,
        b'{' => walk::fields(raw.as_bytes(), 0, |_, _| count += 1)?,
        _ => return None,
    }
    Some(count)
}

fn kind(raw: &str) -> Option<&'static str> {
    Some(match raw.as_bytes().first()? {
        b'{' => "object",
        b'[' => "array",
        b'"' => "string",
        b't' | b'f' => "boolean",
        b'-' | b'0'..=b'9' => "number",
        _ => return None,
    })
}
