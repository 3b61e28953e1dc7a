//! `LATE(name)`: the rows that came too late for a named stream.

use datafusion_sql::sqlparser::ast;

use super::from::scan;
use super::{Binder, Bound};
use crate::catalog::RelationKind;
use crate::diagnostic::{Diagnostic, Span};
use crate::parse::fold;

/// What the function is called.
pub(super) const LATE: &str = "late";

impl Binder<'_> {
    /// The late rows of a named stream, by the arguments of `LATE`.
    pub(super) fn late(&mut self, args: &[ast::FunctionArg], at: Option<Span>) -> Option<Bound> {
        let [ast::FunctionArg::Unnamed(ast::FunctionArgExpr::Expr(ast::Expr::Identifier(ident)))] = args else {
            let mistake = Diagnostic::new("invalid", "LATE(…) takes the name of a stream").at(at);
            self.tell(mistake.help("write FROM LATE(name), where CREATE STREAM name AS SELECT … made it"));
            return None;
        };
        let name = fold(ident);
        let Some(relation) = self.catalog.relation(&name) else {
            // It tells what there is instead.
            return self.named(&ast::ObjectName::from(vec![ident.clone()]), &super::Ctes::new());
        };
        if let Some(late) = relation.late_rows() {
            let label = format!("the late rows of stream \"{name}\"");
            return Some(Bound { qualifier: Some(LATE.to_owned()), label, ..scan(&late) });
        }
        let at = self.text.span(ident.span).or(at);
        let (message, help) = match relation.kind {
            RelationKind::Stream | RelationKind::Changing { .. } => (
                format!("no row is ever late for stream \"{name}\""),
                "LATE reads streams that group, rank or join rows as they come by windows, sessions or times; rows that \
                 are results of windows come in their order",
            ),
            RelationKind::View { .. } => (
                format!("view \"{name}\" runs nothing that rows could be late for"),
                "name its query with CREATE STREAM name AS SELECT …, and read LATE(name)",
            ),
            RelationKind::Source | RelationKind::Table { .. } | RelationKind::Sink => (
                format!("no row is late for \"{name}\" itself: rows are late for windows"),
                "name a windowed query with CREATE STREAM name AS SELECT …, and read LATE(name)",
            ),
        };
        self.tell(Diagnostic::new("never_late", message).at(at).help(help));
        None
    }
}
