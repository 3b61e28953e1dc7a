//! Arguments of window functions by name, as Flink has them: `TUMBLE(DATA => TABLE s, TIMECOL => DESCRIPTOR(ts), SIZE =>
//! INTERVAL '1' MINUTE)`.

use datafusion_sql::sqlparser::ast;

use super::Binder;
use super::check::function_name;
use super::window::wrong_arguments;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::{PARTITION_BY, fold};
use crate::suggest;

/// Names of a function's arguments in the order in which they stand without names.
fn names(function: &str) -> &'static [&'static str] {
    match function {
        "hop" => &["data", "timecol", "slide", "size", "offset"],
        "cumulate" => &["data", "timecol", "step", "size", "offset"],
        "session" => &["data", "timecol", "gap"],
        "count_window" => &["data", "rows", "slide"],
        _ => &["data", "timecol", "size", "offset"],
    }
}

/// Where the arguments that may be left out begin.
fn optional(function: &str) -> usize {
    match function {
        "hop" | "cumulate" => 4,
        "count_window" => 2,
        _ => 3,
    }
}

impl Binder<'_> {
    /// The arguments of a call in the order in which they stand without names. In GROUP BY the relation is none of
    /// them, and the event-time column may be left out.
    pub(super) fn in_order<'s>(
        &mut self,
        function: &str,
        args: &'s [ast::FunctionArg],
        at: Option<Span>,
        in_group_by: bool,
    ) -> Option<Vec<&'s ast::Expr>> {
        let given: Option<Vec<_>> = args.iter().map(argument).collect();
        let Some(given) = given else {
            self.tell(wrong_arguments(function, at));
            return None;
        };
        if given.iter().all(|(name, _)| name.is_none()) {
            return Some(given.into_iter().map(|(_, expr)| expr).collect());
        }
        let first = usize::from(in_group_by);
        let mut places: Vec<Option<&ast::Expr>> = vec![None; names(function).len()];
        let (mut partition_by, mut named, mut unnamed) = (None, false, 0);
        for (name, expr) in given {
            let place = match name {
                None if is_partition_by(expr) => {
                    partition_by = Some(expr);
                    continue;
                }
                // Without the relation it is not said which place an argument without a name has.
                None if named || in_group_by => {
                    let mistake =
                        Diagnostic::new("invalid", "an argument without a name stands beside those with names");
                    self.tell(mistake.at(self.place(expr).or(at)).help(format!("write {}", by_name(function, first))));
                    return None;
                }
                None => {
                    unnamed += 1;
                    unnamed - 1
                }
                Some(name) => self.place_of(function, name, first, at)?,
            };
            named |= name.is_some();
            if places.get(place).is_none_or(Option::is_some) {
                self.tell(wrong_arguments(function, at).note("an argument is given twice, or there are too many"));
                return None;
            }
            places[place] = Some(expr);
        }
        // In GROUP BY the column may be left out.
        let required = if in_group_by && function != "count_window" { 2 } else { first };
        let last = places.iter().rposition(Option::is_some).unwrap_or(0);
        let missing = (required..places.len())
            .find(|place| places[*place].is_none() && (*place < optional(function) || *place < last));
        if let Some(missing) = missing {
            let name = names(function)[missing].to_uppercase();
            let message = format!("{} lacks its argument {name}", function.to_uppercase());
            self.tell(Diagnostic::new("invalid", message).at(at).help(format!("write {}", by_name(function, first))));
            return None;
        }
        let mut ordered: Vec<&ast::Expr> = places.into_iter().flatten().collect();
        if let Some(partition_by) = partition_by {
            ordered.insert(1, partition_by);
        }
        Some(ordered)
    }

    /// The place of a named argument, among those from `first` on.
    fn place_of(&mut self, function: &str, name: &ast::Ident, first: usize, at: Option<Span>) -> Option<usize> {
        let (known, wanted) = (names(function), fold(name).to_lowercase());
        if let Some(place) = known.iter().position(|known| *known == wanted).filter(|place| *place >= first) {
            return Some(place);
        }
        let message = format!("{} has no argument \"{}\"", function.to_uppercase(), name.value);
        let near = suggest::nearest(&wanted, known.iter().skip(first).copied());
        let help = match near {
            Some(near) => format!("did you mean {}?", near.to_uppercase()),
            None => format!("write {}", by_name(function, first)),
        };
        self.tell(Diagnostic::new("invalid", message).at(self.text.span(name.span).or(at)).help(help));
        None
    }
}

/// An argument's name, if it has one, and its value.
fn argument(arg: &ast::FunctionArg) -> Option<(Option<&ast::Ident>, &ast::Expr)> {
    match arg {
        ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(expr)) => Some((None, expr)),
        ast::FunctionArg::Named { name, arg: ast::FunctionArgExpr::Expr(expr), operator } if arrow(operator) => {
            Some((Some(name), expr))
        }
        ast::FunctionArg::ExprNamed {
            name: ast::Expr::Identifier(name),
            arg: ast::FunctionArgExpr::Expr(expr),
            operator,
        } if arrow(operator) => Some((Some(name), expr)),
        _ => None,
    }
}

fn arrow(operator: &ast::FunctionArgOperator) -> bool {
    matches!(operator, ast::FunctionArgOperator::RightArrow | ast::FunctionArgOperator::Assignment)
}

fn is_partition_by(expr: &ast::Expr) -> bool {
    matches!(expr, ast::Expr::Function(call) if function_name(call) == PARTITION_BY)
}

/// How a function is called by names.
fn by_name(function: &str, first: usize) -> String {
    let value = |name: &&str| match *name {
        "data" => "DATA => TABLE t",
        "timecol" => "TIMECOL => DESCRIPTOR(ts)",
        "slide" if function == "count_window" => "SLIDE => 10",
        "slide" => "SLIDE => '10s'",
        "step" => "STEP => '10s'",
        "gap" => "GAP => '30s'",
        "rows" => "ROWS => 100",
        _ => "SIZE => '1m'",
    };
    let shown: Vec<&str> = names(function)[first..optional(function)].iter().map(value).collect();
    format!("{}({})", function.to_uppercase(), shown.join(", "))
}
